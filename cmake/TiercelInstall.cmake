# install: find_package(tiercel) gives tiercel::tiercel, tiercel::c (the C API, also found
# by pkg-config), and tiercel::cuda where it was built and the consumer has a CUDA Toolkit.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tiercel)

install(TARGETS tiercel EXPORT tiercelTargets FILE_SET HEADERS)
install(EXPORT tiercelTargets NAMESPACE tiercel:: DESTINATION ${package_dir})
if(TARGET tiercel_cuda)
  # An export of its own: the host library must be found on machines without CUDA.
  install(TARGETS tiercel_cuda EXPORT tiercelCudaTargets FILE_SET HEADERS)
  install(EXPORT tiercelCudaTargets NAMESPACE tiercel:: DESTINATION ${package_dir})
endif()
if(TARGET tiercel_c)
  # An export of its own: a C program needs nothing of what the C++ library stands on.
  install(TARGETS tiercel_c EXPORT tiercelCTargets FILE_SET HEADERS)
  install(EXPORT tiercelCTargets NAMESPACE tiercel:: DESTINATION ${package_dir})
  # By relative paths, so that the folder may be moved (`cmake --install --prefix`).
  cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_LIBDIR BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX}
    OUTPUT_VARIABLE TIERCEL_PC_TO_PREFIX)
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY ${TIERCEL_PC_TO_PREFIX}/pkgconfig
    OUTPUT_VARIABLE TIERCEL_PC_TO_PREFIX)
  configure_file(capi/tiercel.pc.in tiercel.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/tiercel.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endif()
if(TARGET tiercel_cli)
  set_target_properties(tiercel_cli PROPERTIES
    INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS tiercel_cli)
endif()

get_target_property(TIERCEL_LIBRARY_TYPE tiercel TYPE)
configure_package_config_file(cmake/tiercelConfig.cmake.in tiercelConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(tiercelConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/tiercelConfig.cmake
              ${PROJECT_BINARY_DIR}/tiercelConfigVersion.cmake
        DESTINATION ${package_dir})
