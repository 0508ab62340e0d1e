# Installs into a scratch folder, then builds and runs user programs against the installation: cmake -DBUILD=.. -DSOURCE=..
# -DWORK=.. -DGENERATOR=.. -DFLAGS=.. -DTYPE=.. -DCXX=.. -P install_test.cmake
include(${CMAKE_CURRENT_LIST_DIR}/run.cmake)

function(build folder)
  run(${CMAKE_COMMAND} -S ${WORK}/${folder} -B ${WORK}/${folder}/build -G ${GENERATOR}
    -DCMAKE_BUILD_TYPE=${TYPE} -DCMAKE_C_FLAGS=${FLAGS} -DCMAKE_CXX_FLAGS=${FLAGS} ${ARGN})
  run(${CMAKE_COMMAND} --build ${WORK}/${folder}/build -j 1)
endfunction()

file(REMOVE_RECURSE ${WORK})
set(prefix "${WORK}/a prefix")
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})

# Builds as the CANN documentation describes, with only ASCEND_CUSTOM_PATH changed.
file(COPY ${SOURCE}/sample DESTINATION ${WORK})
foreach(language cpp c)
  configure_file(${SOURCE}/../../examples/aclnn_minimal.${language} ${WORK}/sample/opapi_test.${language} COPYONLY)
endforeach()
set(ENV{ASCEND_CUSTOM_PATH} "${prefix}/cann")
unset(ENV{LD_LIBRARY_PATH})
build(sample)
run(${WORK}/sample/build/opapi_test_cpp)
run(${WORK}/sample/build/opapi_test_c)

# The documentation's configure line skips the RPATH: the program finds the library all the same.
file(COPY ${WORK}/sample/CMakeLists.txt ${WORK}/sample/opapi_test.cpp ${WORK}/sample/opapi_test.c
  DESTINATION ${WORK}/without_rpath)
build(without_rpath -DCMAKE_SKIP_RPATH=TRUE)
run(${WORK}/without_rpath/build/opapi_test_cpp)
run(${WORK}/without_rpath/build/opapi_test_c)

# Every name that frameworks load is there and leads to the same library.
foreach(name ascendcl acl_rt nnopbase opapi opapi_math opapi_nn)
  file(REAL_PATH ${prefix}/cann/lib64/lib${name}.so library)
  if(NOT library STREQUAL "${prefix}/cann/lib64/libmseloss_cann.so")
    message(FATAL_ERROR "lib${name}.so leads to ${library}")
  endif()
endforeach()

# After the prefix has moved, set_env.sh says what to do; then programs are linked again.
unset(ENV{ASCEND_CUSTOM_PATH})
file(RENAME ${prefix} "${WORK}/a moved prefix")
set(prefix "${WORK}/a moved prefix")
execute_process(COMMAND bash ${SOURCE}/set_env_check.sh ${prefix} absolute RESULT_VARIABLE code ERROR_VARIABLE message)
if(NOT code EQUAL 0 OR NOT message MATCHES "has moved. Run .*/cann/bin/relocate.sh")
  message(FATAL_ERROR "set_env.sh after a move: ${code} ${message}")
endif()
run(${prefix}/cann/bin/relocate.sh)
execute_process(COMMAND bash ${SOURCE}/set_env_check.sh ${prefix} absolute RESULT_VARIABLE code ERROR_VARIABLE message)
if(NOT code EQUAL 0 OR NOT message STREQUAL "")
  message(FATAL_ERROR "set_env.sh after relocate.sh: ${code} ${message}")
endif()

# The environment files set all paths, also in shells with awkward settings.
set(check ${SOURCE}/set_env_check.sh)
foreach(how absolute twice cdpath setenv given)
  run(bash ${check} ${prefix} ${how})
endforeach()
find_program(zsh zsh)
if(zsh)
  run(zsh ${check} ${prefix} absolute)
endif()
# A shell that does not tell a sourced file its path: with ASCEND_CUSTOM_PATH it works, without it it says what to do.
find_program(dash dash)
if(dash)
  run(dash ${check} ${prefix} given)
  execute_process(COMMAND dash ${check} ${prefix} absolute RESULT_VARIABLE code ERROR_VARIABLE message)
  if(code EQUAL 0 OR NOT message MATCHES "Set ASCEND_CUSTOM_PATH")
    message(FATAL_ERROR "set_env.sh in dash: ${code} ${message}")
  endif()
endif()
file(WRITE ${WORK}/build_sample.sh [[
  . "$1/cann/set_env.sh"
  exec cmake -S "$2" -B "$2/build" -G "$3" -DCMAKE_C_FLAGS="$4" -DCMAKE_CXX_FLAGS="$4"
]])
file(REMOVE_RECURSE ${WORK}/sample/build)
run(bash ${WORK}/build_sample.sh ${prefix} ${WORK}/sample ${GENERATOR} "${FLAGS}")
run(${CMAKE_COMMAND} --build ${WORK}/sample/build)
run(${WORK}/sample/build/opapi_test_c)

file(COPY ${SOURCE}/consumer DESTINATION ${WORK})
file(COPY ${SOURCE}/../../examples/mpi_loss.cpp DESTINATION ${WORK}/consumer)
file(GLOB_RECURSE pc "${prefix}/*/mseloss.pc")
cmake_path(GET pc PARENT_PATH pc_dir)
set(ENV{PKG_CONFIG_PATH} ${pc_dir})
build(consumer -DCMAKE_PREFIX_PATH=${prefix})
foreach(library mseloss__mseloss mseloss__mseloss_static PkgConfig__MSELOSS_PC static_pc)
  run(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${prefix}/lib ${WORK}/consumer/build/consumer_${library})
endforeach()
execute_process(COMMAND readelf -d ${WORK}/consumer/build/consumer_static_pc OUTPUT_VARIABLE needed COMMAND_ERROR_IS_FATAL ANY)
if(needed MATCHES "libmseloss")
  message(FATAL_ERROR "a program that pkg-config links statically needs ${needed}")
endif()

# Highway and oneTBB need not have CMake packages: pkg-config suffices.
file(REMOVE_RECURSE ${WORK}/consumer/build)
build(consumer -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_DISABLE_FIND_PACKAGE_hwy=ON -DCMAKE_DISABLE_FIND_PACKAGE_TBB=ON)
run(${WORK}/consumer/build/consumer_mseloss__mseloss_static)

# What cannot be provided is refused with the reason.
function(refused arguments reason)
  file(REMOVE_RECURSE ${WORK}/refused)
  file(WRITE ${WORK}/refused/CMakeLists.txt "cmake_minimum_required(VERSION 3.25)\nproject(refused LANGUAGES CXX)\n"
    "find_package(mseloss ${arguments})\n")
  execute_process(COMMAND ${CMAKE_COMMAND} -S ${WORK}/refused -B ${WORK}/refused/build -G ${GENERATOR}
    -DCMAKE_PREFIX_PATH=${prefix} ${ARGN} RESULT_VARIABLE code ERROR_VARIABLE message OUTPUT_QUIET)
  string(REGEX REPLACE "[ \n]+" " " message "${message}")
  if(code EQUAL 0 OR NOT message MATCHES "${reason}")
    message(FATAL_ERROR "find_package(mseloss ${arguments}): expected \"${reason}\", got ${code} ${message}")
  endif()
endfunction()
refused("CONFIG REQUIRED COMPONENTS gpu" "component gpu: expected one of cann, mpi, static")
refused("CONFIG REQUIRED COMPONENTS static" "the static library needs Highway" -DCMAKE_DISABLE_FIND_PACKAGE_TBB=ON
  -DCMAKE_DISABLE_FIND_PACKAGE_PkgConfig=ON)
refused("0.2 CONFIG REQUIRED" "compatible with requested version")

# A program for an older standard gets one reason, not a page of errors that follow from it.
execute_process(COMMAND ${CXX} -std=c++17 -fsyntax-only "-I${prefix}/include" ${WORK}/consumer/main.cpp
  RESULT_VARIABLE code ERROR_VARIABLE message OUTPUT_QUIET)
string(REGEX MATCHALL "error: " errors "${message}")
list(LENGTH errors count)
if(code EQUAL 0 OR NOT message MATCHES "mseloss needs C\\+\\+20" OR count GREATER 2)
  message(FATAL_ERROR "C++17: expected one reason, got ${code} ${message}")
endif()
