# An overlay port that builds this checkout: vcpkg install mseloss --overlay-ports=packaging/vcpkg
# Built by the scripts of vcpkg 2026.07 (x64-linux-release), with the system's Highway and oneTBB in place of vcpkg's; not
# by the vcpkg program, which resolves these. tests/install runs the commands with stand-ins for vcpkg's functions.
get_filename_component(SOURCE_PATH ${CURRENT_PORT_DIR}/../../.. ABSOLUTE)

vcpkg_check_features(OUT_FEATURE_OPTIONS options FEATURES cann MSELOSS_ACL)
vcpkg_cmake_configure(SOURCE_PATH ${SOURCE_PATH} OPTIONS ${options}
  -DMSELOSS_ASCEND_MODEL=OFF -DMSELOSS_CUDA=OFF -DMSELOSS_CUDA_MODEL=OFF -DMSELOSS_EXAMPLES=OFF -DMSELOSS_TESTS=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH lib/cmake/mseloss)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE ${CURRENT_PACKAGES_DIR}/debug/include)
vcpkg_install_copyright(FILE_LIST ${SOURCE_PATH}/LICENSE)
