# XCEPTION_CUDA: OFF and AUTO configure on every machine, ON only where a CUDA Toolkit is.
include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

foreach(value IN ITEMS OFF AUTO)
  configure_command(command "${SOURCE_DIR}" -DXCEPTION_BUILD_TESTS=OFF -DXCEPTION_CUDA=${value})
  run(${command})
  file(READ "${BINARY_DIR}/build.ninja" rules)
  if(value STREQUAL "OFF" AND rules MATCHES "backend_cuda|\\.cu\\.o")
    message(FATAL_ERROR "XCEPTION_CUDA=OFF still builds CUDA sources")
  endif()
endforeach()

configure_command(command "${SOURCE_DIR}" -DXCEPTION_BUILD_TESTS=OFF -DXCEPTION_CUDA=ON)
execute_process(COMMAND ${command} OUTPUT_VARIABLE text ERROR_VARIABLE text RESULT_VARIABLE result)
if(result EQUAL 0)
  message(STATUS "XCEPTION_CUDA=ON found a toolkit")
elseif(NOT text MATCHES "no CUDA Toolkit")
  message(FATAL_ERROR "XCEPTION_CUDA=ON failed, but not for want of a toolkit:\n${text}")
endif()
