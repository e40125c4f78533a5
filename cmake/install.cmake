# SPDX-License-Identifier: Apache-2.0
# make install: programs, libraries, headers, the CMake package (one set of targets per component) and pkg-config.
if(NOT PROJECT_IS_TOP_LEVEL)
  return()
endif()
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/cohort)

get_property(components GLOBAL PROPERTY COHORT_COMPONENTS)
set(rooms)
foreach(component ${components})
  get_property(target GLOBAL PROPERTY COHORT_${component}_TARGET)
  get_property(more GLOBAL PROPERTY COHORT_${component}_ROOMS)
  list(APPEND rooms ${more})
  install(TARGETS ${target} EXPORT cohort-${component} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT cohort-${component} FILE cohort-${component}-targets.cmake NAMESPACE cohort:: DESTINATION ${package_dir})
endforeach()

# Headers: those at the top of each room, and the private ones that they include.
install(CODE "set(COHORT_SOURCE \"${PROJECT_SOURCE_DIR}\")\nset(COHORT_ROOMS \"${rooms}\")\nset(COHORT_INCLUDE \"${CMAKE_INSTALL_INCLUDEDIR}\")")
install(SCRIPT ${CMAKE_CURRENT_LIST_DIR}/install-headers.cmake)
install(FILES ${PROJECT_SOURCE_DIR}/cohort/kapi/c/cohort.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

write_basic_package_version_file(${PROJECT_BINARY_DIR}/cohort-config-version.cmake COMPATIBILITY SameMinorVersion)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/cohort-config.cmake.in ${PROJECT_BINARY_DIR}/cohort-config.cmake INSTALL_DESTINATION ${package_dir})
install(FILES ${PROJECT_BINARY_DIR}/cohort-config.cmake ${PROJECT_BINARY_DIR}/cohort-config-version.cmake DESTINATION ${package_dir})

# pcfiledir keeps the package relocatable; it stands in LIBDIR/pkgconfig.
file(RELATIVE_PATH up /x/${CMAKE_INSTALL_LIBDIR}/pkgconfig /x)
string(REGEX REPLACE "/$" "" up ${up})
if(COHORT_DEBUG_LOCKS)
  set(COHORT_PC_DEFINITIONS " -DCOHORT_DEBUG_LOCKS")
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/cohort.pc.in ${PROJECT_BINARY_DIR}/cohort.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/cohort.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(COHORT_TOOLS)
  install(TARGETS cohort_tool cohortd RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  configure_file(${PROJECT_SOURCE_DIR}/packaging/systemd/cohortd.service.in ${PROJECT_BINARY_DIR}/cohortd.service @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/cohortd.service DESTINATION lib/systemd/system)
  if(COHORT_MAN)
    foreach(section 1 5 8)
      install(DIRECTORY ${COHORT_MAN}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} FILES_MATCHING PATTERN "*.${section}")
    endforeach()
  endif()
  if(COHORT_COMPLETION)
    # cohortd's is looked for under its own name.
    install(FILES ${COHORT_COMPLETION} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
    install(FILES ${COHORT_COMPLETION} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME cohortd)
  endif()
endif()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
