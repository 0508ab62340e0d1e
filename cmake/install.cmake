# PREFIX/{include,lib}: the C++ library with its CMake and pkg-config files.
