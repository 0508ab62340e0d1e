# Builds a project that contains this one as a subproject, statically, then installs both from the same build folder:
# cmake -DROOT=.. -DSOURCE=.. -DWORK=.. -DGENERATOR=.. -DFLAGS=.. -DCXX=.. -P subproject_test.cmake
include(${CMAKE_CURRENT_LIST_DIR}/run.cmake)

file(REMOVE_RECURSE ${WORK})
file(COPY ${SOURCE}/subproject ${SOURCE}/consumer/main.cpp DESTINATION ${WORK})
set(build ${WORK}/build)
# One instruction set without optimisation: this test is about the build, and most of its time is that of the kernels.
set(configure ${CMAKE_COMMAND} -S ${WORK}/subproject -B ${build} -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${CXX}
  -DCMAKE_CXX_FLAGS=${FLAGS} -DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 -DMSELOSS_ROOT=${ROOT}
  -DMSELOSS_DISABLED_TARGETS=HWY_SSE4|HWY_AVX2|HWY_AVX3 -DBUILD_SHARED_LIBS=OFF)
run(${configure})
run(${CMAKE_COMMAND} --build ${build})
run(${build}/program)
run(${CMAKE_COMMAND} --install ${build} --prefix ${WORK}/parent)
file(GLOB_RECURSE files RELATIVE ${WORK}/parent ${WORK}/parent/*)
if(NOT files STREQUAL "bin/program")
  message(FATAL_ERROR "expected the parent's program only, got ${files}")
endif()

# With MSELOSS_INSTALL the subproject is installed too; without a shared library every program needs what the archive does.
run(${configure} -DMSELOSS_INSTALL=ON)
run(${CMAKE_COMMAND} --install ${build} --prefix ${WORK}/both)
file(GLOB_RECURSE libraries RELATIVE ${WORK}/both ${WORK}/both/*.a ${WORK}/both/*.so*)
if(NOT libraries MATCHES "^lib[^;]*/libmseloss\\.a$")
  message(FATAL_ERROR "expected libmseloss.a only, got ${libraries}")
endif()
file(GLOB_RECURSE pc ${WORK}/both/*/mseloss.pc)
cmake_path(GET pc PARENT_PATH pc_dir)
run(${CMAKE_COMMAND} -E env PKG_CONFIG_PATH=${pc_dir} pkg-config --cflags --libs mseloss)
string(STRIP "${output}" flags)
separate_arguments(flags UNIX_COMMAND "${flags} ${FLAGS}")
run(${CXX} -std=c++20 ${WORK}/main.cpp ${flags} -o ${WORK}/by_pkg_config)
run(${WORK}/by_pkg_config)
run(${CMAKE_COMMAND} -S ${WORK}/subproject -B ${WORK}/installed -G ${GENERATOR} -DCMAKE_CXX_COMPILER=${CXX}
  -DCMAKE_CXX_FLAGS=${FLAGS} -DCMAKE_PREFIX_PATH=${WORK}/both)
run(${CMAKE_COMMAND} --build ${WORK}/installed)
run(${WORK}/installed/program)
