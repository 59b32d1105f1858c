# XCEPTION_CUDA: OFF and AUTO configure on every machine, ON only where a CUDA Toolkit is; XCEPTION_JPEG
# stands beside it. Values that no option has are refused in a sentence, and so is an old oneDNN.
include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

# Configures again. Of what was configured before, only the compilers stay: to find them takes ten times as
# long as the rest.
set(again "${CMAKE_COMMAND}" "${BINARY_DIR}" -U "XCEPTION_*" -DXCEPTION_BUILD_TESTS=OFF)

# refused(TEXT OPTION...): configuring with the options ends with TEXT in its message.
function(refused expected)
  execute_process(COMMAND ${again} ${ARGN}
    OUTPUT_VARIABLE text ERROR_VARIABLE text RESULT_VARIABLE result)
  string(REGEX REPLACE "[ \n]+" " " text "${text}")  # CMake breaks lines where it likes
  string(FIND "${text}" "${expected}" at)
  if(result EQUAL 0 OR at EQUAL -1)
    message(FATAL_ERROR "${ARGN}: expected '${expected}', not:\n${text}")
  endif()
endfunction()

foreach(value IN ITEMS OFF AUTO)
  configure_command(command "${SOURCE_DIR}" -DXCEPTION_BUILD_TESTS=OFF -DXCEPTION_CUDA=${value}
    -DXCEPTION_JPEG=${value})
  run(${command})
  file(READ "${BINARY_DIR}/build.ninja" rules)
  if(value STREQUAL "OFF" AND rules MATCHES "libjpeg|XCEPTION_HAVE_JPEG")
    message(FATAL_ERROR "XCEPTION_JPEG=OFF still builds with libjpeg-turbo")
  endif()
  if(value STREQUAL "OFF" AND rules MATCHES "backend_cuda|\\.cu\\.o")
    message(FATAL_ERROR "XCEPTION_CUDA=OFF still builds CUDA sources")
  endif()
endforeach()

refused("XCEPTION_CUDA is 'yes': expected one of AUTO, ON, OFF" -DXCEPTION_CUDA=yes)
refused("XCEPTION_CUDNN is 'of': expected one of AUTO, ON, OFF" -DXCEPTION_CUDNN=of)
refused("XCEPTION_CUDART is 'shared': expected one of Static, Shared" -DXCEPTION_CUDART=shared)
refused("XCEPTION_CUDA_TESTS is '': expected one of Emulator, Device" -DXCEPTION_CUDA_TESTS=)
refused("XCEPTION_JPEG is 'ONN': expected one of AUTO, ON, OFF" -DXCEPTION_JPEG=ONN)
set(old "${BINARY_DIR}/old_onednn")
file(WRITE "${old}/dnnl.hpp" "")
file(WRITE "${old}/oneapi/dnnl/dnnl_version.h" "#define DNNL_VERSION_MAJOR 2\n#define DNNL_VERSION_MINOR 5\n")
refused("oneDNN 2.5 (${old}/oneapi/dnnl/dnnl_version.h) is too old" "-DXCEPTION_ONEDNN_ROOT=${old}")

execute_process(COMMAND ${again} -DXCEPTION_CUDA=ON
  OUTPUT_VARIABLE text ERROR_VARIABLE text RESULT_VARIABLE result)
if(result EQUAL 0)
  file(READ "${BINARY_DIR}/build.ninja" rules)
  # Those of one generation from one PTX. CUDA before 12.8 knows nothing behind Hopper.
  set(codes 75,code=[sm_75] 80,code=[sm_80,sm_86,sm_89] 90a,code=[sm_90a])
  if(text MATCHES "With CUDA 12\\.[4-7]\\.")
    list(APPEND codes 90,code=[compute_90])
  else()
    list(APPEND codes 100,code=[sm_100] 120,code=[sm_120,compute_120])
  endif()
  foreach(code IN LISTS codes)
    string(FIND "${rules}" "arch=compute_${code}" at)
    if(at EQUAL -1)
      message(FATAL_ERROR "by default the compiler is not asked for ${code}")
    endif()
  endforeach()
  if(rules MATCHES "fast_math|libcudart\\.so|libcudnn")
    message(FATAL_ERROR "by default no arithmetic is changed, and no library of CUDA is linked")
  endif()
  # Hopper's machine code has instructions of its own, which PTX for later GPUs must not have.
  foreach(names IN ITEMS "90" "90a")
    run(${again} -DXCEPTION_CUDA=ON "-DXCEPTION_CUDA_ARCHITECTURES=${names}")
    file(READ "${BINARY_DIR}/build.ninja" rules)
    if(NOT rules MATCHES "arch=compute_90a,code=\\[sm_90a\\]" OR
        NOT rules MATCHES "arch=compute_90,code=\\[compute_90\\]")
      message(FATAL_ERROR "${names} does not make machine code of sm_90a and PTX of 9.0")
    endif()
  endforeach()
  set(architectures -DXCEPTION_CUDA=ON -DXCEPTION_CUDA_ARCHITECTURES)
  refused("'sm_90' is neither a number" ${architectures}=sm_90)
  refused("XCEPTION_CUDA_ARCHITECTURES is empty" ${architectures}=)
  refused("XCEPTION_CUDA_ARCHITECTURES: the kernels need GPUs of compute capability 7.5 (75) or later, so not 61"
    ${architectures}=61)
  refused("makes no code for 999; it does for 75" ${architectures}=999-virtual)
  refused("XCEPTION_CUDA_PTX: '80-real' is no number" -DXCEPTION_CUDA=ON -DXCEPTION_CUDA_PTX=80-real)
  refused("XCEPTION_CUDA_PTX: the kernels need" -DXCEPTION_CUDA=ON -DXCEPTION_CUDA_PTX=61)
elseif(NOT text MATCHES "no CUDA Toolkit")
  message(FATAL_ERROR "XCEPTION_CUDA=ON failed, but not for want of a toolkit:\n${text}")
endif()
