# What every target of the project is compiled with.

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

# xc_target(NAME): language level, warnings and sanitizers of one of our own targets.
function(xc_target name)
  target_compile_features(${name} PUBLIC cxx_std_20)
  set_target_properties(${name} PROPERTIES CXX_EXTENSIONS OFF)
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wconversion -Wshadow)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    target_compile_options(${name} PRIVATE -Wno-restrict)  # false in "a" + string: GCC bug 105651
  endif()
  # No contraction across statements: a run repeats bitwise whatever the compiler inlined.
  target_compile_options(${name} PRIVATE -ffp-contract=off)
  if(XCEPTION_WERROR)
    target_compile_options(${name} PRIVATE -Werror)
  endif()
  if(XCEPTION_SANITIZE)
    target_compile_options(${name} PRIVATE
      -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_link_options(${name} PRIVATE -fsanitize=address,undefined)
    if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
      # False under the sanitizers, as GCC's manual says: in libstdc++'s <regex>, for one.
      target_compile_options(${name} PRIVATE -Wno-maybe-uninitialized)
    endif()
  endif()
  if(XCEPTION_FUZZERS)
    # Coverage for the fuzzer in the libraries too; its main() is linked in tests/fuzz only.
    target_compile_options(${name} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
endfunction()
