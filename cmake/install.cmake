# PREFIX/{include,lib}: the C++ library with its CMake and pkg-config files.
# PREFIX/cann: the layout of a CANN installation; its libraries are symbolic links to libmseloss_cann.so.

include(CMakePackageConfigHelpers)
set(MSELOSS_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/mseloss)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/mseloss DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
# An export set for each library, because users of a shared library need none of the packages used to build it.
get_target_property(mseloss_type mseloss TYPE)
set(mseloss_export_sets)
if(mseloss_type STREQUAL "SHARED_LIBRARY")
  install(TARGETS mseloss EXPORT mselossTargets
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  list(APPEND mseloss_export_sets mselossTargets)
endif()
if(NOT BUILD_SHARED_LIBS)
  if(mseloss_type STREQUAL "SHARED_LIBRARY")
    install(TARGETS mseloss_static EXPORT mselossStaticTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  else()
    install(TARGETS mseloss EXPORT mselossStaticTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  endif()
  list(APPEND mseloss_export_sets mselossStaticTargets)
endif()
if(TARGET mseloss_cann)
  set_target_properties(mseloss_cann PROPERTIES EXPORT_NAME cann)
  install(TARGETS mseloss_cann EXPORT mselossCannTargets LIBRARY DESTINATION cann/lib64)
  list(APPEND mseloss_export_sets mselossCannTargets)
endif()
foreach(set IN LISTS mseloss_export_sets)
  install(EXPORT ${set} NAMESPACE mseloss:: DESTINATION ${MSELOSS_CMAKE_DIR})
endforeach()

if(TARGET mseloss_cuda)  # beside the main library, which loads it
  install(TARGETS mseloss_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/mselossConfig.cmake.in
  ${PROJECT_BINARY_DIR}/mselossConfig.cmake INSTALL_DESTINATION ${MSELOSS_CMAKE_DIR})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/mselossConfigVersion.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/mselossConfig.cmake ${PROJECT_BINARY_DIR}/mselossConfigVersion.cmake
  ${PROJECT_SOURCE_DIR}/cmake/find_dependencies.cmake DESTINATION ${MSELOSS_CMAKE_DIR})

# Relocatable if the install folders are relative to the prefix, which is the default.
set(MSELOSS_PC_DIR ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR} OR IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
  set(MSELOSS_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
else()
  file(RELATIVE_PATH up /${MSELOSS_PC_DIR} /)
  string(REGEX REPLACE "/$" "" up ${up})
  set(MSELOSS_PC_PREFIX "\${pcfiledir}/${up}")
endif()
cmake_path(APPEND mseloss_pc_libdir "\${prefix}" ${CMAKE_INSTALL_LIBDIR})
cmake_path(APPEND mseloss_pc_includedir "\${prefix}" ${CMAKE_INSTALL_INCLUDEDIR})
# What a program that links the static library needs; without a shared library, that is every program.
if(mseloss_type STREQUAL "SHARED_LIBRARY")
  set(mseloss_pc_private .private)
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/mseloss.pc.in ${PROJECT_BINARY_DIR}/mseloss.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/mseloss.pc DESTINATION ${MSELOSS_PC_DIR})

if(NOT TARGET mseloss_cann)
  return()
endif()
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/cann/ DESTINATION cann/include)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/set_env.sh DESTINATION cann)
install(FILES ${PROJECT_SOURCE_DIR}/cmake/setenv.bash DESTINATION cann/bin)
install(PROGRAMS ${PROJECT_SOURCE_DIR}/cmake/relocate.sh DESTINATION cann/bin)
install(DIRECTORY DESTINATION cann/opp/vendors)  # ASCEND_OPP_PATH: operator packages install here
if(TARGET mseloss_cuda)
  install(TARGETS mseloss_cuda LIBRARY DESTINATION cann/lib64)
endif()
# Links with the names that CANN's build files and frameworks use.
install(CODE "
  set(cann_lib \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/cann/lib64\")
  foreach(name ascendcl acl_rt nnopbase opapi_math opapi_nn opapi)
    file(CREATE_LINK \"$<TARGET_FILE_NAME:mseloss_cann>\" \"\${cann_lib}/lib\${name}.so\" SYMBOLIC)
  endforeach()
  execute_process(COMMAND \"\${cann_lib}/../bin/relocate.sh\"
    \"\${CMAKE_INSTALL_PREFIX}/cann/lib64/$<TARGET_FILE_NAME:mseloss_cann>\" COMMAND_ERROR_IS_FATAL ANY)
")
