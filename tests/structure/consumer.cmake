# A project with settings of its own takes xception in with add_subdirectory, links it and runs. With CUDA
# where a toolkit is, though the project has not enabled the language; PTX is enough for that, and as in the
# rest of a debug build it is not optimised (-G), which takes most of the time. Nobody debugs it: without -g.
# It compiles the sources of each library all at once, as CMAKE_UNITY_BUILD has it.
include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

configure_command(command "${CMAKE_CURRENT_LIST_DIR}/consumer"
  "-DXCEPTION_SOURCE_DIR=${SOURCE_DIR}" -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=
  -DXCEPTION_CUDA_ARCHITECTURES=75-virtual -DCMAKE_CUDA_FLAGS_DEBUG=-G)
write_services()
run(${command})
run("${CMAKE_COMMAND}" --build "${BINARY_DIR}" -j 2)
run("${BINARY_DIR}/programs/consumer")
execute_process(COMMAND ldd "${BINARY_DIR}/programs/consumer" OUTPUT_VARIABLE libraries)
if(libraries MATCHES "libcud|libcublas|libnpp")
  message(FATAL_ERROR "the program does not start on a machine without CUDA's libraries:\n${libraries}")
endif()
message(STATUS "${output}")
check_service("${BINARY_DIR}/programs/service")
check_service("${BINARY_DIR}/programs/service_c")
