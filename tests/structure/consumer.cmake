# A project with settings of its own takes xception in with add_subdirectory, links it and runs.
include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

configure_command(command "${CMAKE_CURRENT_LIST_DIR}/consumer"
  "-DXCEPTION_SOURCE_DIR=${SOURCE_DIR}" -DCMAKE_BUILD_TYPE=Debug)
run(${command})
run("${CMAKE_COMMAND}" --build "${BINARY_DIR}" -j 2)
run("${BINARY_DIR}/programs/consumer")
message(STATUS "${output}")
