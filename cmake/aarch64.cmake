# Toolchain for a cross-build with Debian's g++-aarch64-linux-gnu. MSELOSS_SYSROOT has the unpacked arm64 packages of
# the libraries; `./dev test aarch64` makes it. The C library comes with the compiler.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES MSELOSS_SYSROOT)
set(CMAKE_FIND_ROOT_PATH ${MSELOSS_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${MSELOSS_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${MSELOSS_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig)
set(CMAKE_EXE_LINKER_FLAGS_INIT -Wl,-rpath-link,${MSELOSS_SYSROOT}/usr/lib/aarch64-linux-gnu)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static;-L;/usr/aarch64-linux-gnu;-E
    LD_LIBRARY_PATH=${MSELOSS_SYSROOT}/usr/lib/aarch64-linux-gnu)
