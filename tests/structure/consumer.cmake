# A project with settings of its own takes xception in with add_subdirectory, links it and runs. With CUDA
# where a toolkit is, though the project has not enabled the language; PTX is enough for that, and as in the
# rest of a debug build it is not optimised (-G), which takes most of the time. Nobody debugs it: without -g.
# It compiles the sources of each library all at once, as CMAKE_UNITY_BUILD has it.
include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

configure_command(command "${CMAKE_CURRENT_LIST_DIR}/consumer"
  "-DXCEPTION_SOURCE_DIR=${SOURCE_DIR}" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=
  -DXCEPTION_CUDA_ARCHITECTURES=75-virtual -DCMAKE_CUDA_FLAGS_DEBUG=-G)
# The first program of the page, for the consumer to build.
file(READ "${SOURCE_DIR}/docs/embedding.md" page)
string(FIND "${page}" "```cpp\n" begin)
string(SUBSTRING "${page}" ${begin} -1 page)
string(FIND "${page}" "\n```" length)
string(SUBSTRING "${page}" 0 ${length} program)
string(REPLACE "```cpp\n" "" program "${program}")
file(WRITE "${BINARY_DIR}/service.cc" "${program}\n")
run(${command})
run("${CMAKE_COMMAND}" --build "${BINARY_DIR}" -j 2)
run("${BINARY_DIR}/programs/consumer")
execute_process(COMMAND ldd "${BINARY_DIR}/programs/consumer" OUTPUT_VARIABLE libraries)
if(libraries MATCHES "libcud|libcublas|libnpp")
  message(FATAL_ERROR "the program does not start on a machine without CUDA's libraries:\n${libraries}")
endif()
message(STATUS "${output}")

# The page's program finds in the demo's pictures what they are named after.
file(GLOB pictures "${SOURCE_DIR}/docs/images/*.png")
run("${BINARY_DIR}/programs/service" "${SOURCE_DIR}/weights/demo.safetensors" ${pictures})
foreach(picture IN LISTS pictures)
  cmake_path(GET picture STEM name)
  string(REGEX REPLACE "_[0-9]+$" "" label "${name}")
  if(NOT output MATCHES "/${name}.png: ${label}\n")
    message(FATAL_ERROR "the program of docs/embedding.md took ${picture} for something else:\n${output}")
  endif()
endforeach()
