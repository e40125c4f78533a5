# SPDX-License-Identifier: Apache-2.0
# libcohort.so.0: the C interface alone, with the C++ library inside it and hidden. The C++ library itself stays static: its headers are templates and
# restartable sequences, which a user's program has inlined, and an ABI of them could not be kept.
# Where everything is built shared on request, or as part of another project, cohort.h comes with cohort::cohort as before.
if(NOT PROJECT_IS_TOP_LEVEL OR BUILD_SHARED_LIBS)
  return()
endif()
set(COHORT_SOVERSION 0)
file(GLOB c_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cohort/kapi/c_*.cpp)
list(FILTER c_sources EXCLUDE REGEX "_test\\.cpp$")
add_library(cohort_c SHARED ${c_sources})
add_library(cohort::c ALIAS cohort_c)
target_compile_options(cohort_c PRIVATE ${COHORT_PRIVATE_FLAGS})
target_compile_definitions(cohort_c PRIVATE COHORT_PROJECT_VERSION=${version_number})
target_include_directories(cohort_c INTERFACE $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/cohort/kapi/c> $<INSTALL_INTERFACE:include>)
target_link_libraries(cohort_c PRIVATE cohort_lib)
set(map ${PROJECT_SOURCE_DIR}/packaging/libcohort.map)
# Its threads and per-thread memory outlive a dlclose(): it stays where it is.
target_link_options(cohort_c PRIVATE -Wl,--version-script=${map} -Wl,-z,nodelete)
set_target_properties(cohort_c PROPERTIES OUTPUT_NAME cohort EXPORT_NAME c VERSION ${PROJECT_VERSION} SOVERSION ${COHORT_SOVERSION} LINK_DEPENDS ${map})

if(COHORT_TESTS)
  # The claims of cohort.h once more, through the shared library.
  add_executable(c_shared_test ${PROJECT_SOURCE_DIR}/cohort/kapi/c_abi_test.c ${PROJECT_SOURCE_DIR}/cohort/kapi/c_abi_test.cpp)
  target_link_libraries(c_shared_test PRIVATE cohort_c GTest::gtest GTest::gtest_main)
  target_compile_features(c_shared_test PRIVATE cxx_std_23)
  set_target_properties(c_shared_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  add_test(NAME c_shared COMMAND c_shared_test --gtest_output=json:${PROJECT_BINARY_DIR}/tests/c_shared.json)
  set_tests_properties(c_shared PROPERTIES LABELS c_shared WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  find_package(Python3 QUIET COMPONENTS Interpreter)
  if(Python3_FOUND AND NOT CMAKE_CROSSCOMPILING AND NOT COHORT_SANITIZE)
    add_test(NAME python COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/packaging/python/test_cohort.py)
    set_tests_properties(python PROPERTIES LABELS python ENVIRONMENT COHORT_LIBRARY=$<TARGET_FILE:cohort_c>)
  endif()
endif()
