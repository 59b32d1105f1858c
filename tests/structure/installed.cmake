# What `cmake --install` leaves works wherever it is moved to: for projects that find it by CMake or by pkg-config,
# and xception-infer. The library shows its interface and nothing that could get into a program's way.
include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

configure_command(command "${CMAKE_CURRENT_LIST_DIR}/installed" "-DCMAKE_PREFIX_PATH=${BINARY_DIR}/moved")
run("${CMAKE_COMMAND}" --install "${BUILD_DIR}" --prefix "${BINARY_DIR}/made")
file(RENAME "${BINARY_DIR}/made" "${BINARY_DIR}/moved")
write_services()
run(${command})
run("${CMAKE_COMMAND}" --build "${BINARY_DIR}")
run("${BINARY_DIR}/consumer")
check_service("${BINARY_DIR}/service")
check_service("${BINARY_DIR}/service_c")

file(GLOB_RECURSE package "${BINARY_DIR}/moved/xception.pc")
cmake_path(GET package PARENT_PATH package_dir)
set(ENV{PKG_CONFIG_PATH} "${package_dir}")
run(pkg-config --cflags --libs xception)
separate_arguments(flags UNIX_COMMAND "${output}")
run("${CXX_COMPILER}" -std=c++20 "${CMAKE_CURRENT_LIST_DIR}/consumer/main.cc" ${flags} -o "${BINARY_DIR}/by_pkg_config")
file(GLOB_RECURSE library "${BINARY_DIR}/moved/libxception.so")
cmake_path(GET library PARENT_PATH library_dir)
set(ENV{LD_LIBRARY_PATH} "${library_dir}")
run("${BINARY_DIR}/by_pkg_config")
run(cc -std=c99 "${BINARY_DIR}/service_c.c" ${flags} -o "${BINARY_DIR}/c_by_pkg_config")
check_service("${BINARY_DIR}/c_by_pkg_config")
unset(ENV{LD_LIBRARY_PATH})

run("${BINARY_DIR}/moved/bin/xception-infer" -m "${SOURCE_DIR}/weights/demo.safetensors" --info)

# Functions of the namespace itself, of the two public classes that have any, and those for C. Instances of the
# standard library's templates may be seen besides, since they are the same everywhere, and what a linker adds to each
# library (Ubuntu 22.04's).
run(nm --dynamic --defined-only --demangle "${library}")
string(REGEX REPLACE "\n$" "" symbols "${output}")
string(REPLACE ";" "," symbols "${symbols}")
string(REPLACE "\n" ";" symbols "${symbols}")
foreach(symbol IN LISTS symbols)
  if(NOT symbol MATCHES "^[0-9a-f]+ [A-Za-z] (xception::((Model|Session)::)?[A-Za-z_~=]+(\\[abi:cxx11\\])?\\(|xception_[a-z_]+$|(__bss_start|_edata|_end)$|[a-z ]*std::|typeinfo )")
    message(SEND_ERROR "libxception.so shows ${symbol}")
  endif()
endforeach()
