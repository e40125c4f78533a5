# SPDX-License-Identifier: Apache-2.0
# Debian's packages are its components: libcohort0, libcohort-dev, cohort, python3-cohort (cmake/packages.cmake).
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
  install(TARGETS ${target} EXPORT cohort-${component} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT libcohort-dev
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT libcohort-dev)
  install(EXPORT cohort-${component} FILE cohort-${component}-targets.cmake NAMESPACE cohort:: DESTINATION ${package_dir} COMPONENT libcohort-dev)
endforeach()
if(TARGET cohort_c)
  list(APPEND components c)
  install(TARGETS cohort_c EXPORT cohort-c LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT libcohort0 NAMELINK_COMPONENT libcohort-dev)
  install(EXPORT cohort-c FILE cohort-c-targets.cmake NAMESPACE cohort:: DESTINATION ${package_dir} COMPONENT libcohort-dev)
endif()

# Headers: those at the top of each room, and the private ones that they include.
install(CODE "set(COHORT_SOURCE \"${PROJECT_SOURCE_DIR}\")\nset(COHORT_ROOMS \"${rooms}\")\nset(COHORT_INCLUDE \"${CMAKE_INSTALL_INCLUDEDIR}\")"
  COMPONENT libcohort-dev)
install(SCRIPT ${CMAKE_CURRENT_LIST_DIR}/install-headers.cmake COMPONENT libcohort-dev)
install(FILES ${PROJECT_SOURCE_DIR}/cohort/kapi/c/cohort.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT libcohort-dev)

write_basic_package_version_file(${PROJECT_BINARY_DIR}/cohort-config-version.cmake COMPATIBILITY SameMinorVersion)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/cohort-config.cmake.in ${PROJECT_BINARY_DIR}/cohort-config.cmake INSTALL_DESTINATION ${package_dir})
install(FILES ${PROJECT_BINARY_DIR}/cohort-config.cmake ${PROJECT_BINARY_DIR}/cohort-config-version.cmake DESTINATION ${package_dir} COMPONENT libcohort-dev)

# pcfiledir keeps the package relocatable; it stands in LIBDIR/pkgconfig.
file(RELATIVE_PATH up /x/${CMAKE_INSTALL_LIBDIR}/pkgconfig /x)
string(REGEX REPLACE "/$" "" up ${up})
if(COHORT_DEBUG_LOCKS)
  set(COHORT_PC_DEFINITIONS " -DCOHORT_DEBUG_LOCKS")
endif()
# -lcohort is the C interface where it is installed beside it; the C++ library is the archive.
set(COHORT_PC_LIBRARY -lcohort)
if(TARGET cohort_c)
  set(COHORT_PC_LIBRARY -l:libcohort.a)
  configure_file(${CMAKE_CURRENT_LIST_DIR}/cohort-c.pc.in ${PROJECT_BINARY_DIR}/cohort-c.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/cohort-c.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT libcohort-dev)
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/cohort.pc.in ${PROJECT_BINARY_DIR}/cohort.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/cohort.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT libcohort-dev)

if(COHORT_TOOLS)
  install(TARGETS cohort_tool cohortd RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT cohort)
  configure_file(${PROJECT_SOURCE_DIR}/packaging/systemd/cohortd.service.in ${PROJECT_BINARY_DIR}/cohortd.service @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/cohortd.service DESTINATION lib/systemd/system COMPONENT cohort)
  if(COHORT_MAN)
    foreach(section 1 5 8)
      install(DIRECTORY ${COHORT_MAN}/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section} COMPONENT cohort FILES_MATCHING PATTERN "*.${section}" PATTERN "*.${section}.gz")
    endforeach()
  endif()
  if(COHORT_COMPLETION)
    # cohortd's is looked for under its own name.
    install(FILES ${COHORT_COMPLETION} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT cohort)
    install(FILES ${COHORT_COMPLETION} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions COMPONENT cohort RENAME cohortd)
  endif()
endif()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT license)
if(TARGET cohort_c)
  # Python on the C interface, and what gdb and bpftrace know of us.
  install(FILES ${PROJECT_SOURCE_DIR}/packaging/python/cohort.py DESTINATION lib/python3/dist-packages COMPONENT python3-cohort)
  file(GLOB scripts ${PROJECT_SOURCE_DIR}/packaging/bpftrace/*.bt)
  install(FILES ${scripts} DESTINATION ${CMAKE_INSTALL_DATADIR}/cohort/bpftrace COMPONENT cohort)
  install(FILES ${PROJECT_SOURCE_DIR}/packaging/gdb/cohort_gdb.py DESTINATION ${CMAKE_INSTALL_DATADIR}/cohort/gdb COMPONENT libcohort-dev)
  # gdb reads it when it loads the library from there, and knows the real file's name alone.
  set(auto_load ${CMAKE_INSTALL_DATADIR}/gdb/auto-load/${CMAKE_INSTALL_FULL_LIBDIR})
  install(FILES ${PROJECT_SOURCE_DIR}/packaging/gdb/cohort_gdb.py DESTINATION ${auto_load} RENAME libcohort.so.${PROJECT_VERSION}-gdb.py COMPONENT libcohort-dev)
endif()
include(${CMAKE_CURRENT_LIST_DIR}/packages.cmake)
