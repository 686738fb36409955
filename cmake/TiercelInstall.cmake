# install: find_package(tiercel) gives tiercel::tiercel.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tiercel)

set_target_properties(tiercel PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
install(TARGETS tiercel EXPORT tiercelTargets FILE_SET HEADERS)
if(TARGET tiercel_cuda)
  install(TARGETS tiercel_cuda EXPORT tiercelTargets FILE_SET HEADERS)
endif()
if(TARGET tiercel_cli)
  install(TARGETS tiercel_cli)
endif()
install(EXPORT tiercelTargets NAMESPACE tiercel:: DESTINATION ${package_dir})
configure_package_config_file(cmake/tiercelConfig.cmake.in tiercelConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(tiercelConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/tiercelConfig.cmake
              ${PROJECT_BINARY_DIR}/tiercelConfigVersion.cmake
        DESTINATION ${package_dir})
