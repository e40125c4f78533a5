# SPDX-License-Identifier: Apache-2.0
# Cross-builds for 64-bit ARM with Debian's g++-aarch64-linux-gnu. COHORT_SYSROOT: a folder into which Debian's arm64 packages of the
# libraries (libhwloc-dev, libgtest-dev, ...) are unpacked; scripts/check-aarch64 makes one, and sets PKG_CONFIG_LIBDIR and PKG_CONFIG_SYSROOT_DIR to it.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES COHORT_SYSROOT)
set(CMAKE_FIND_ROOT_PATH ${COHORT_SYSROOT} /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# What a library of the sysroot needs in its turn.
set(CMAKE_EXE_LINKER_FLAGS_INIT -Wl,-rpath-link,${COHORT_SYSROOT}/usr/lib/aarch64-linux-gnu)
# Headers of one architecture: Debian's cross compiler does not look there by itself.
set(CMAKE_CXX_FLAGS_INIT "-isystem ${COHORT_SYSROOT}/usr/include/${CMAKE_LIBRARY_ARCHITECTURE}")
set(CMAKE_C_FLAGS_INIT ${CMAKE_CXX_FLAGS_INIT})
