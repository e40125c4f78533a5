# SPDX-License-Identifier: Apache-2.0
# Man pages and bash completion: made from the command tables of the programs just built, which a cross-build cannot run.
if(NOT COHORT_TOOLS OR CMAKE_CROSSCOMPILING)
  return()
endif()
find_package(Python3 QUIET COMPONENTS Interpreter)
find_program(SCDOC scdoc)
if(NOT Python3_FOUND)
  message(STATUS "no python3: no man pages and no completion")
  return()
endif()

set(COHORT_COMPLETION ${PROJECT_BINARY_DIR}/completion/cohort)
add_custom_command(OUTPUT ${COHORT_COMPLETION}
  COMMAND ${PROJECT_SOURCE_DIR}/scripts/make-completion ${PROJECT_BINARY_DIR} ${COHORT_COMPLETION}
  DEPENDS cohort_tool cohortd ${PROJECT_SOURCE_DIR}/scripts/make-completion ${PROJECT_SOURCE_DIR}/packaging/completion/cohort.bash.in
  COMMENT "completion" VERBATIM)
add_custom_target(completion ALL DEPENDS ${COHORT_COMPLETION})
if(COHORT_TESTS)
  add_test(NAME completion COMMAND bash ${PROJECT_SOURCE_DIR}/packaging/completion/completion_test.sh ${COHORT_COMPLETION} $<TARGET_FILE:cohort_tool>)
  set_tests_properties(completion PROPERTIES LABELS completion TIMEOUT 300)
endif()

if(NOT SCDOC)
  message(STATUS "no scdoc: no man pages")
  return()
endif()
set(COHORT_MAN ${PROJECT_BINARY_DIR}/man)
file(GLOB prose CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/docs/man/*.scd)
add_custom_command(OUTPUT ${COHORT_MAN}.made
  COMMAND ${PROJECT_SOURCE_DIR}/scripts/make-man ${PROJECT_BINARY_DIR} ${COHORT_MAN} $<$<BOOL:${COHORT_GZIP_MAN}>:--gzip>
  COMMAND ${CMAKE_COMMAND} -E touch ${COHORT_MAN}.made
  DEPENDS cohort_tool cohortd ${PROJECT_SOURCE_DIR}/scripts/make-man ${prose}
  COMMENT "man pages" VERBATIM COMMAND_EXPAND_LISTS)
add_custom_target(man ALL DEPENDS ${COHORT_MAN}.made)
