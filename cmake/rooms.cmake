# SPDX-License-Identifier: Apache-2.0
# cohort_component(NAME ROOMS r... LINK targets...): one library cohort::NAME out of rooms, and a test program per room.
# Files are found by their names, so that a new one needs no line here.

add_library(cohort_flags INTERFACE)
target_compile_features(cohort_flags INTERFACE cxx_std_23)
set(COHORT_PRIVATE_FLAGS -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wundef $<$<BOOL:${COHORT_WERROR}>:-Werror>
  # clang takes std::stable_sort of libstdc++ 12 for a use of something deprecated.
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety> $<$<CXX_COMPILER_ID:Clang>:-Wno-deprecated-declarations>
  # gcc 12 warns wrongly about "literal" + std::string (gcc bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
if(COHORT_SANITIZE)
  # gcc 12 folds alike functions of types of different size and then warns about array bounds, with the sanitizers only.
  # Tracking variables through instrumented code takes a third of its compile time.
  add_compile_options(-fsanitize=${COHORT_SANITIZE} -fno-omit-frame-pointer -g $<$<CXX_COMPILER_ID:GNU>:-fno-ipa-icf> $<$<CXX_COMPILER_ID:GNU>:-fno-var-tracking>)
  add_link_options(-fsanitize=${COHORT_SANITIZE})
endif()

function(cohort_component name)
  cmake_parse_arguments(ARG "" "" "ROOMS;LINK" ${ARGN})
  set(target cohort_${name})
  if(name STREQUAL cohort)
    set(target cohort_lib)
  endif()
  set(sources)
  foreach(room ${ARG_ROOMS})
    file(GLOB_RECURSE found CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cohort/${room}/*.cpp)
    list(FILTER found EXCLUDE REGEX "_(test|bench|fuzz)\\.cpp$")
    list(APPEND sources ${found})
  endforeach()
  if(sources)
    add_library(${target} ${sources})
    set(scope PUBLIC)
    target_compile_options(${target} PRIVATE ${COHORT_PRIVATE_FLAGS})
    target_compile_features(${target} PUBLIC cxx_std_23)
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
    target_compile_features(${target} INTERFACE cxx_std_23)
  endif()
  add_library(cohort::${name} ALIAS ${target})
  target_include_directories(${target} ${scope} $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:include>)
  target_link_libraries(${target} ${scope} ${ARG_LINK})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name} POSITION_INDEPENDENT_CODE ON)
  if(sources)
    set_target_properties(${target} PROPERTIES OUTPUT_NAME $<IF:$<STREQUAL:${name},cohort>,cohort,cohort_${name}>)
  endif()
  set_property(GLOBAL APPEND PROPERTY COHORT_COMPONENTS ${name})
  set_property(GLOBAL PROPERTY COHORT_${name}_TARGET ${target})
  set_property(GLOBAL PROPERTY COHORT_${name}_ROOMS ${ARG_ROOMS})

  if(COHORT_TESTS)
    find_package(GTest REQUIRED)
    foreach(room ${ARG_ROOMS})
      file(GLOB_RECURSE tests CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cohort/${room}/*_test.cpp)
      if(tests)
        # *_test.c: C11, what a C program sees of us; its claims are run by a *_test.cpp beside it.
        file(GLOB_RECURSE c_tests CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cohort/${room}/*_test.c)
        set_source_files_properties(${c_tests} PROPERTIES COMPILE_OPTIONS "-std=c11;-Wall;-Wextra;-Wpedantic;-Wstrict-prototypes;-Werror")
        add_executable(${room}_test ${tests} ${c_tests})
        target_compile_options(${room}_test PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:${COHORT_PRIVATE_FLAGS}>")
        target_link_libraries(${room}_test PRIVATE ${target} GTest::gtest GTest::gmock GTest::gtest_main)
        set_target_properties(${room}_test PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
        add_test(NAME ${room} COMMAND ${room}_test --gtest_output=json:${PROJECT_BINARY_DIR}/tests/${room}.json)
        set_tests_properties(${room} PROPERTIES LABELS ${room} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
      endif()
    endforeach()
  endif()
endfunction()
