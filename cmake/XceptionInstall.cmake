# What `cmake --install` puts on a machine: xception-infer, the public headers, and one shared library that holds
# the engine and image input and shows of them what the headers declare. Programs find it by
# find_package(xception) or pkg-config and need neither its sources nor the headers of what it is built on.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# CMake wants a source; what the library is made of are the archives that the tools and tests link.
file(CONFIGURE OUTPUT shared.cc CONTENT "")
add_library(xception_shared SHARED "${CMAKE_CURRENT_BINARY_DIR}/shared.cc")
set_target_properties(xception_shared PROPERTIES
  OUTPUT_NAME xception
  EXPORT_NAME engine
  LINK_LIBRARY_OVERRIDE WHOLE_ARCHIVE,xception_engine,xception_image
  VERSION ${PROJECT_VERSION}
  SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})  # before 1.0 each minor version is a new interface
target_link_libraries(xception_shared PRIVATE xception_image)  # and with it the engine
target_link_options(xception_shared PRIVATE -Wl,--exclude-libs,libcudart_static.a)
target_compile_features(xception_shared INTERFACE cxx_std_20)
target_include_directories(xception_shared INTERFACE "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")

set(installed xception_shared)
if(XCEPTION_BUILD_TOOLS)
  list(APPEND installed xception-infer)
endif()
# Libraries outside of the system's folders, a oneDNN of one's own for one, are found where the build found them. One
# that the set-up put into the sources, as where the system has none, goes along: they may be gone tomorrow.
set_target_properties(${installed} PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
cmake_path(IS_PREFIX PROJECT_SOURCE_DIR "${XCEPTION_ONEDNN_LIBRARY}" NORMALIZE onednn_is_ours)
if(onednn_is_ours)
  cmake_path(GET XCEPTION_ONEDNN_LIBRARY PARENT_PATH onednn_dir)
  file(GLOB onednn_by_soname "${onednn_dir}/libdnnl.so.[0-9]")
  install(FILES ${onednn_by_soname} DESTINATION "${CMAKE_INSTALL_LIBDIR}/xception")
  file(RELATIVE_PATH lib_from_bin "${CMAKE_INSTALL_FULL_BINDIR}" "${CMAKE_INSTALL_FULL_LIBDIR}")
  set_target_properties(xception_shared PROPERTIES INSTALL_RPATH "$ORIGIN/xception")
  if(XCEPTION_BUILD_TOOLS)
    set_target_properties(xception-infer PROPERTIES INSTALL_RPATH "$ORIGIN/${lib_from_bin}/xception")
  endif()
endif()
install(TARGETS ${installed} EXPORT xception-targets)
install(DIRECTORY engine/include/ TYPE INCLUDE)
install(FILES LICENSE TYPE DOC)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/xception")
install(EXPORT xception-targets NAMESPACE xception:: DESTINATION "${package_dir}")
configure_file(cmake/xception-config.cmake.in xception-config.cmake @ONLY)
set(pc_dir "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig")
file(RELATIVE_PATH libdir_from_pc "${pc_dir}" "${CMAKE_INSTALL_FULL_LIBDIR}")
file(RELATIVE_PATH includedir_from_pc "${pc_dir}" "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
configure_file(cmake/xception.pc.in xception.pc @ONLY)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/xception-config-version.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES
  "${PROJECT_BINARY_DIR}/xception-config.cmake" "${PROJECT_BINARY_DIR}/xception-config-version.cmake"
  DESTINATION "${package_dir}")
install(FILES "${PROJECT_BINARY_DIR}/xception.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
