# SPDX-License-Identifier: Apache-2.0
# Debian's packages, by CPack; scripts/packages-deb makes them in a build of their own with the prefix /usr. Each package is an install component.
set(maintainer "Cohort maintainers <maintainers@cohort.example>")
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME cohort)
set(CPACK_PACKAGE_CONTACT "${maintainer}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "many-core machinery of the kernel, in user space")
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_OUTPUT_FILE_PREFIX ${PROJECT_BINARY_DIR}/packages)
set(CPACK_COMPONENTS_ALL libcohort0 libcohort-dev cohort python3-cohort)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

# package(NAME SECTION DEPENDS "SUMMARY" "DESCRIPTION")
macro(package name section depends summary description)
  string(TOUPPER ${name} upper)
  set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${name})
  set(CPACK_DEBIAN_${upper}_PACKAGE_SECTION ${section})
  set(CPACK_DEBIAN_${upper}_PACKAGE_DEPENDS "${depends}")
  set(CPACK_COMPONENT_${upper}_DESCRIPTION "${summary}\n${description}")
  # What Debian wants of each package: its licence and its changes.
  install(FILES ${PROJECT_SOURCE_DIR}/packaging/debian/copyright DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name} COMPONENT ${name} EXCLUDE_FROM_ALL)
  install(FILES ${PROJECT_BINARY_DIR}/changelog.gz DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${name} COMPONENT ${name} EXCLUDE_FROM_ALL)
endmacro()

configure_file(${PROJECT_SOURCE_DIR}/packaging/debian/changelog.in ${PROJECT_BINARY_DIR}/changelog @ONLY)
execute_process(COMMAND gzip -9nkf ${PROJECT_BINARY_DIR}/changelog)

set(same "(= ${PROJECT_VERSION})")
package(libcohort0 libs "" "This package: C library."
  "Ordered parallel jobs, memory and counters per CPU, a model of cpusets and core\nscheduling, behind a C interface with opaque handles.")
set(CPACK_DEBIAN_LIBCOHORT0_PACKAGE_SHLIBDEPS ON)
# As Debian's own helper writes them; CPack's postinst calls ldconfig, which a trigger does since long.
file(WRITE ${PROJECT_BINARY_DIR}/shlibs "libcohort ${COHORT_SOVERSION} libcohort0 (>= ${PROJECT_VERSION})\n")
file(WRITE ${PROJECT_BINARY_DIR}/triggers "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_LIBCOHORT0_PACKAGE_CONTROL_EXTRA "${PROJECT_BINARY_DIR}/shlibs;${PROJECT_BINARY_DIR}/triggers")
package(libcohort-dev libdevel
  "libcohort0 ${same}, libhwloc-dev, libzstd-dev, libdeflate-dev, liblz4-dev, zlib1g-dev, libfmt-dev, libtomlplusplus-dev, nlohmann-json3-dev, pkg-config"
  "This package: development files."
  "Headers, the C++ library (static), the C library's link, the CMake package and\npkg-config files, and printers for gdb.")
package(cohort utils "" "This package: programs."
  "cohort runs streams through codecs or commands in parallel and in order, brings\nup groups of jobs with CPUs of their own, explains cpusets and core scheduling;\ncohortd serves memory that processes share by raw pointer.")
set(CPACK_DEBIAN_COHORT_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_COHORT_PACKAGE_RECOMMENDS "bash-completion, man-db")
package(python3-cohort python "libcohort0 ${same}, python3" "This package: Python module."
  "Python (ctypes) on the C library.")
set(CPACK_DEBIAN_PYTHON3-COHORT_PACKAGE_ARCHITECTURE all)
set(scripts ${PROJECT_SOURCE_DIR}/packaging/debian/python3)
set(CPACK_DEBIAN_PYTHON3-COHORT_PACKAGE_CONTROL_EXTRA "${scripts}/postinst;${scripts}/prerm")
include(CPack)
