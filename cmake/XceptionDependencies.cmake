# The libraries of other fields, each found once. tools/quickstart installs them with apt.

find_package(Threads REQUIRED)

# Stops where oneDNN is older: 2.2 adds a tensor to a convolution's sums wrongly.
function(xc_check_onednn least)
  set(header "${XCEPTION_ONEDNN_INCLUDE_DIR}/oneapi/dnnl/dnnl_version.h")
  file(STRINGS "${header}" version REGEX "define DNNL_VERSION_M(AJOR|INOR) +[0-9]+")
  list(TRANSFORM version REPLACE "[^0-9]+" "")
  list(JOIN version "." version)
  if(version VERSION_LESS least)
    message(FATAL_ERROR "oneDNN ${version} (${header}) is too old, and its answers would be wrong. Set "
      "XCEPTION_ONEDNN_ROOT to the prefix of ${least} or newer; PyPI has it as onednn-cpu-gomp and "
      "onednn-devel-cpu-gomp.")
  endif()
endfunction()

# CPU convolutions: oneDNN 2.6 or 3.x. Found by file and not by its CMake package, since Debian's asks
# for an OpenCL that nothing here uses. Another build of oneDNN: -DXCEPTION_ONEDNN_ROOT=PREFIX.
set(XCEPTION_ONEDNN_ROOT "" CACHE PATH "Prefix of the oneDNN to build against (empty: the system's)")
find_path(XCEPTION_ONEDNN_INCLUDE_DIR dnnl.hpp
  HINTS "${XCEPTION_ONEDNN_ROOT}" PATH_SUFFIXES include REQUIRED)
find_library(XCEPTION_ONEDNN_LIBRARY dnnl
  HINTS "${XCEPTION_ONEDNN_ROOT}" PATH_SUFFIXES lib lib64 REQUIRED)
xc_check_onednn(2.6)
add_library(xception_onednn INTERFACE)
target_include_directories(xception_onednn SYSTEM INTERFACE "${XCEPTION_ONEDNN_INCLUDE_DIR}")
target_link_libraries(xception_onednn INTERFACE "${XCEPTION_ONEDNN_LIBRARY}")

find_package(nlohmann_json 3.9 REQUIRED)     # weight-file header, JSON output
find_package(OpenSSL REQUIRED COMPONENTS Crypto)  # SHA-256 of the weight file

find_path(XCEPTION_STB_INCLUDE_DIR stb_image.h PATH_SUFFIXES stb REQUIRED)
add_library(xception_stb INTERFACE)
target_include_directories(xception_stb SYSTEM INTERFACE "${XCEPTION_STB_INCLUDE_DIR}")

xc_check_choice(XCEPTION_JPEG AUTO ON OFF)
set(XCEPTION_HAVE_JPEG OFF)
if(NOT XCEPTION_JPEG STREQUAL "OFF")
  find_package(JPEG)
  if(JPEG_FOUND)
    set(XCEPTION_HAVE_JPEG ON)
  elseif(XCEPTION_JPEG STREQUAL "ON")
    message(FATAL_ERROR "XCEPTION_JPEG=ON, but libjpeg-turbo is not installed. "
      "Install it (apt-get install libjpeg62-turbo-dev) or configure with -DXCEPTION_JPEG=OFF.")
  endif()
endif()

if(XCEPTION_BUILD_TOOLS)
  find_package(CLI11 REQUIRED)               # command line
endif()
if(XCEPTION_BUILD_TESTS)
  find_package(Catch2 REQUIRED)              # 2.13 and 3.x, told apart in tests/testing.h
endif()
