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

# All of the CPU backend but the loops, which know nothing of oneDNN and are a target of their own.
file(GLOB sources RELATIVE "${SOURCE_DIR}/engine" "${SOURCE_DIR}/engine/backend_cpu*.cc")
list(REMOVE_ITEM sources backend_cpu_loops.cc)
list(TRANSFORM sources REPLACE "(.+)" "engine/CMakeFiles/xception_engine.dir/\\1.o" OUTPUT_VARIABLE objects)

configure_command(command "${SOURCE_DIR}" -DXCEPTION_BUILD_TESTS=OFF -DXCEPTION_BUILD_TOOLS=OFF -DXCEPTION_CUDA=OFF
  -DXCEPTION_WERROR=ON -DCMAKE_BUILD_TYPE=Debug "-DXCEPTION_ONEDNN_INCLUDE_DIR=${include_dir}")
run(${command})
file(READ "${BINARY_DIR}/build.ninja" rules)
string(FIND "${rules}" "-isystem ${include_dir}" position)
if(position EQUAL -1)
  message(FATAL_ERROR "the sources would not be compiled with ${include_dir}")
endif()
run("${CMAKE_COMMAND}" --build "${BINARY_DIR}" -j 2 --target ${objects})
message(STATUS "compiled with oneDNN 3: ${objects}")
