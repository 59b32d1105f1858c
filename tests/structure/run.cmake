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

# The whole programs of docs/embedding.md, as service.cc and service_c.c in BINARY_DIR.
function(write_services)
  set(languages cpp c)
  set(files service.cc service_c.c)
  file(READ "${SOURCE_DIR}/docs/embedding.md" page)
  foreach(language file IN ZIP_LISTS languages files)
    string(FIND "${page}" "```${language}\n" begin)
    string(SUBSTRING "${page}" ${begin} -1 program)
    string(FIND "${program}" "\n```" length)
    string(SUBSTRING "${program}" 0 ${length} program)
    string(REPLACE "```${language}\n" "" program "${program}")
    file(WRITE "${BINARY_DIR}/${file}" "${program}\n")
  endforeach()
endfunction()

# Stops where such a program, built, does not find in the demo's pictures what they are named after. It is given
# one at a time.
function(check_service program)
  file(GLOB pictures "${SOURCE_DIR}/docs/images/*.png")
  foreach(picture IN LISTS pictures)
    run("${program}" "${SOURCE_DIR}/weights/demo.safetensors" "${picture}")
    cmake_path(GET picture STEM name)
    string(REGEX REPLACE "_[0-9]+$" "" label "${name}")
    if(NOT output MATCHES "/${name}.png: ${label}\n")
      message(FATAL_ERROR "${program}, of docs/embedding.md, took ${picture} for something else:\n${output}")
    endif()
  endforeach()
endfunction()
