# For the scripts of this folder.
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

# The whole program of docs/embedding.md, as service.cc in BINARY_DIR.
function(write_service)
  file(READ "${SOURCE_DIR}/docs/embedding.md" page)
  string(FIND "${page}" "```cpp\n" begin)
  string(SUBSTRING "${page}" ${begin} -1 page)
  string(FIND "${page}" "\n```" length)
  string(SUBSTRING "${page}" 0 ${length} program)
  string(REPLACE "```cpp\n" "" program "${program}")
  file(WRITE "${BINARY_DIR}/service.cc" "${program}\n")
endfunction()

# Stops where that program, built, does not find in the demo's pictures what they are named after.
function(check_service program)
  file(GLOB pictures "${SOURCE_DIR}/docs/images/*.png")
  run("${program}" "${SOURCE_DIR}/weights/demo.safetensors" ${pictures})
  foreach(picture IN LISTS pictures)
    cmake_path(GET picture STEM name)
    string(REGEX REPLACE "_[0-9]+$" "" label "${name}")
    if(NOT output MATCHES "/${name}.png: ${label}\n")
      message(FATAL_ERROR "the program of docs/embedding.md took ${picture} for something else:\n${output}")
    endif()
  endforeach()
endfunction()
