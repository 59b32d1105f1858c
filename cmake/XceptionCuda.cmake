# The CUDA compiler, for which GPUs it makes code, and which CUDA runtime is linked.
#
# Leaves XCEPTION_HAVE_CUDA, and with it the library xception_cudart, XCEPTION_CUDA_CODE (what
# CUDA_ARCHITECTURES is set to) and XCEPTION_CUDA_EMBEDDED_PTX (versions whose PTX goes into the binary).

set(XCEPTION_CUDA_ARCHITECTURES "75;80;86;89;90;100;120" CACHE STRING
  "GPUs to make machine code for; PTX of the last goes with it for those that come after. An entry with a suffix, as 80-virtual or 80-real, is that and nothing else")
set(XCEPTION_CUDA_PTX "" CACHE STRING
  "Versions whose PTX is embedded besides. The emulator of the tests runs that of 75, 80 and 90")
set(XCEPTION_CUDART Static CACHE STRING
  "CUDA runtime: Static (the program starts on any machine) or Shared (the tests' emulator can take its place)")
option(XCEPTION_CUDA_LINEINFO "Note source lines in GPU code, for profilers and the emulator's faults" OFF)
set(XCEPTION_CUDA_TESTS Emulator CACHE STRING "Where CUDA tests run: Emulator, or Device (a GPU of this machine)")
set_property(CACHE XCEPTION_CUDART PROPERTY STRINGS Static Shared)
set_property(CACHE XCEPTION_CUDA_TESTS PROPERTY STRINGS Emulator Device)

# What is missing, in words; empty where CUDA can be had.
function(xc_find_cuda missing)
  find_package(CUDAToolkit 12.4 QUIET)
  if(NOT CUDAToolkit_FOUND)
    set(${missing} "no CUDA Toolkit 12.4 or later was found. Install one, or set CUDAToolkit_ROOT"
      PARENT_SCOPE)
    return()
  endif()
  # That of the toolkit, whatever else is on PATH, over the compiler of everything else.
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    set(ENV{CUDACXX} "${CUDAToolkit_NVCC_EXECUTABLE}")
  endif()
  if(NOT CMAKE_CUDA_HOST_COMPILER)
    set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}" CACHE FILEPATH "Host compiler of nvcc")
  endif()
  include(CheckLanguage)
  check_language(CUDA)
  if(NOT CMAKE_CUDA_COMPILER)
    set(${missing} "CUDA Toolkit ${CUDAToolkit_VERSION} does not compile with ${CMAKE_CXX_COMPILER}. Name another host compiler with CMAKE_CUDA_HOST_COMPILER"
      PARENT_SCOPE)
    return()
  endif()
  set(${missing} "" PARENT_SCOPE)
endfunction()

set(XCEPTION_HAVE_CUDA OFF)
if(XCEPTION_CUDA STREQUAL "OFF")
  return()
endif()
xc_find_cuda(missing)
if(missing AND XCEPTION_CUDA STREQUAL "ON")
  message(FATAL_ERROR "XCEPTION_CUDA=ON, but ${missing}; or configure with -DXCEPTION_CUDA=OFF.")
elseif(missing)
  message(STATUS "Without CUDA: ${missing}.")
  return()
endif()
find_package(CUDAToolkit 12.4 QUIET REQUIRED)
enable_language(CUDA)
set(XCEPTION_HAVE_CUDA ON)

set(XCEPTION_CUDA_CODE)
set(newest)
foreach(architecture IN LISTS XCEPTION_CUDA_ARCHITECTURES)
  if(architecture MATCHES "^[0-9]+$")
    list(APPEND XCEPTION_CUDA_CODE ${architecture}-real)
    set(newest ${architecture}-virtual)
  elseif(architecture MATCHES "^[0-9]+-(real|virtual)$")
    list(APPEND XCEPTION_CUDA_CODE ${architecture})
  else()
    message(FATAL_ERROR "XCEPTION_CUDA_ARCHITECTURES: '${architecture}' is neither a number, as 80, nor one with -real or -virtual")
  endif()
endforeach()
list(APPEND XCEPTION_CUDA_CODE ${newest})
foreach(version IN LISTS XCEPTION_CUDA_PTX)
  list(APPEND XCEPTION_CUDA_CODE ${version}-virtual)
endforeach()
list(REMOVE_DUPLICATES XCEPTION_CUDA_CODE)
set(XCEPTION_CUDA_EMBEDDED_PTX ${XCEPTION_CUDA_CODE})
list(FILTER XCEPTION_CUDA_EMBEDDED_PTX INCLUDE REGEX "-virtual$")
list(TRANSFORM XCEPTION_CUDA_EMBEDDED_PTX REPLACE "-virtual$" "")

# Linked by name: CMake's own choice would hold only for what nvcc links.
set(CMAKE_CUDA_RUNTIME_LIBRARY None)
add_library(xception_cudart INTERFACE)
if(XCEPTION_CUDART STREQUAL "Shared")
  target_link_libraries(xception_cudart INTERFACE CUDA::cudart)
  # DT_RUNPATH, which LD_LIBRARY_PATH comes before, and not DT_RPATH.
  target_link_options(xception_cudart INTERFACE -Wl,--enable-new-dtags)
else()
  target_link_libraries(xception_cudart INTERFACE CUDA::cudart_static)
endif()
message(STATUS "With CUDA ${CUDAToolkit_VERSION} (${XCEPTION_CUDART} runtime): ${XCEPTION_CUDA_CODE}")
