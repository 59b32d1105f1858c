# What every target of the project is compiled with.

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

# xc_check_choice(OPTION VALUE...): stops where the option has another value, which would pass for the
# default or for none.
function(xc_check_choice option)
  if(NOT "${${option}}" IN_LIST ARGN)
    list(JOIN ARGN ", " values)
    message(FATAL_ERROR "${option} is '${${option}}': expected one of ${values}")
  endif()
endfunction()

# xc_target(NAME): language level, warnings and sanitizers of one of our own targets.
function(xc_target name)
  target_compile_features(${name} PUBLIC cxx_std_20)
  set_target_properties(${name} PROPERTIES CXX_EXTENSIONS OFF)
  set(options -Wall -Wextra -Wconversion -Wshadow)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    list(APPEND options -Wno-restrict)  # false in "a" + string: GCC bug 105651
  endif()
  # No contraction across statements: a run repeats bitwise whatever the compiler inlined.
  list(APPEND options -ffp-contract=off)
  if(XCEPTION_WERROR)
    list(APPEND options -Werror)
  endif()
  if(XCEPTION_SANITIZE)
    list(APPEND options
      -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${name} PRIVATE -fsanitize=address,undefined)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # False under the sanitizers, as GCC's manual says: in libstdc++'s <regex>, for one.
      list(APPEND options -Wno-maybe-uninitialized)
    endif()
  endif()
  target_compile_options(${name} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${options}>")
  if(XCEPTION_HAVE_CUDA)
    xc_cuda_target(${name})
  endif()
endfunction()

# xc_library(NAME): the same of one that the shared library is made of, which shows nothing but what the public
# headers declare.
function(xc_library name)
  xc_target(${name})
  set_target_properties(${name} PROPERTIES
    CXX_VISIBILITY_PRESET hidden
    CUDA_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON)
endfunction()

# The .cu files of a target. nvcc's own code between ours is not clean of conversions, so the host
# compiler warns of less. ptxas tells of what a kernel keeps in local memory: it should be nothing.
function(xc_cuda_target name)
  set_target_properties(${name} PROPERTIES CUDA_ARCHITECTURES OFF)
  # -std by hand: CMake 3.25 does not know that nvcc has C++20.
  set(options ${XCEPTION_CUDA_OPTIONS} -std=c++20 -Xcompiler=-Wall,-Wextra,-ffp-contract=off
    -Xptxas=--warn-on-spills,--warn-on-local-memory-usage)
  if(XCEPTION_CUDA_LINEINFO)
    list(APPEND options -lineinfo)
  endif()
  if(XCEPTION_WERROR)
    list(APPEND options --Werror=all-warnings -Xcompiler=-Werror -Xptxas=--warning-as-error)
  endif()
  target_compile_options(${name} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${options}>")
endfunction()
