# The sources over oneDNN compile against the headers of version 3 too, which Debian 12 does not have.
# tools/run-tests puts them into .venv (PyPI's onednn-devel); without them the test is skipped.
include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

set(include_dir "${SOURCE_DIR}/.venv/include")
if(NOT EXISTS "${include_dir}/dnnl.hpp")
  message("skipped: no oneDNN 3 headers in .venv; tools/run-tests installs them")
  return()
endif()
file(STRINGS "${include_dir}/oneapi/dnnl/dnnl_version.h" version REGEX "DNNL_VERSION_MAJOR +3")
if(NOT version)
  message(FATAL_ERROR "${include_dir} holds another version of oneDNN than 3")
endif()

file(GLOB candidates RELATIVE "${SOURCE_DIR}" "${SOURCE_DIR}/engine/*.cc")
set(objects)
foreach(source IN LISTS candidates)
  file(READ "${SOURCE_DIR}/${source}" text)
  if(text MATCHES "#include [<\"](dnnl\\.hpp|engine/onednn\\.h)[>\"]")
    string(REPLACE "engine/" "engine/CMakeFiles/xception_engine.dir/" object "${source}.o")
    list(APPEND objects "${object}")
  endif()
endforeach()
if(NOT objects)
  message(FATAL_ERROR "no source of engine/ includes oneDNN: this test looks for the wrong header")
endif()

configure_command(command "${SOURCE_DIR}" -DXCEPTION_BUILD_TESTS=OFF -DXCEPTION_BUILD_TOOLS=OFF
  -DXCEPTION_WERROR=ON -DCMAKE_BUILD_TYPE=Debug "-DXCEPTION_ONEDNN_INCLUDE_DIR=${include_dir}")
run(${command})
run("${CMAKE_COMMAND}" --build "${BINARY_DIR}" -j 2 --target ${objects})
message(STATUS "compiled with oneDNN 3: ${objects}")
