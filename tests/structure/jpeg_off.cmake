# XCEPTION_JPEG=OFF: stb_image reads JPEG, and what it makes of it stays as near to Pillow's pixels as
# tests/image_judge/judge.py asks.
include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

configure_command(command "${SOURCE_DIR}" -DXCEPTION_BUILD_TOOLS=OFF -DXCEPTION_JPEG=OFF -DXCEPTION_CUDA=OFF
  -DXCEPTION_WERROR=ON -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O1)
run(${command})
run("${CMAKE_COMMAND}" --build "${BINARY_DIR}" -j 2 --target image_dump)
execute_process(
  COMMAND "${PYTHON}" "${SOURCE_DIR}/tests/image_judge/judge.py" --jpeg
    "${BINARY_DIR}/tests/image_dump"
  OUTPUT_VARIABLE text ERROR_VARIABLE text RESULT_VARIABLE result)
message("${text}")
if(result EQUAL 77)
  return()  # its "skipped: ..." says why
elseif(NOT result EQUAL 0)
  message(FATAL_ERROR "judge.py ended with ${result}")
elseif(text MATCHES "libjpeg-turbo" OR NOT text MATCHES "stb_image 444 photograph: ")
  message(FATAL_ERROR "XCEPTION_JPEG=OFF, but stb_image did not read the JPEG files")
endif()
