# For the scripts of this folder: run(COMMAND...) and configure(OPTION...).
cmake_minimum_required(VERSION 3.25)

# run(COMMAND...): runs a command and stops the test where it fails. Its output is left in `output`.
function(run)
  execute_process(COMMAND ${ARGN}
    OUTPUT_VARIABLE text ERROR_VARIABLE text RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    list(JOIN ARGN " " command)
    message("${text}")
    message(FATAL_ERROR "${command} ended with ${result}")
  endif()
  set(output "${text}" PARENT_SCOPE)
endfunction()

# The command that configures SOURCE in BINARY_DIR, from nothing.
function(configure_command variable source)
  file(REMOVE_RECURSE "${BINARY_DIR}")
  set(${variable} "${CMAKE_COMMAND}" -G Ninja -S "${source}" -B "${BINARY_DIR}"
    "-DCMAKE_CXX_COMPILER=${CXX_COMPILER}" ${ARGN} PARENT_SCOPE)
endfunction()
