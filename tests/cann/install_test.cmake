# Installs into a scratch folder, then builds and runs user programs against the installation: cmake -DBUILD=.. -DSOURCE=..
# -DWORK=.. -DGENERATOR=.. -DFLAGS=.. -DTYPE=.. -P install_test.cmake
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${ARGV}\n${output}")
  endif()
endfunction()

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
build(sample)
run(${WORK}/sample/build/opapi_test_cpp)
run(${WORK}/sample/build/opapi_test_c)

# set_env.sh alone sets the paths for the build and the loader, and the prefix is relocatable.
unset(ENV{ASCEND_CUSTOM_PATH})
file(RENAME ${prefix} ${WORK}/moved)
set(prefix ${WORK}/moved)
run(bash -c ". '${prefix}/cann/set_env.sh' && test \"$ASCEND_CUSTOM_PATH\" = '${prefix}/cann' && '${WORK}/sample/build/opapi_test_c'")
run(bash -c "cd '${prefix}' && CDPATH='..:.' && . cann/set_env.sh && test \"$ASCEND_HOME_PATH\" = '${prefix}/cann'")

file(COPY ${SOURCE}/consumer DESTINATION ${WORK})
file(GLOB_RECURSE pc ${prefix}/*/mseloss.pc)
cmake_path(GET pc PARENT_PATH pc_dir)
set(ENV{PKG_CONFIG_PATH} ${pc_dir})
build(consumer -DCMAKE_PREFIX_PATH=${prefix})
foreach(library mseloss__mseloss mseloss__mseloss_static PkgConfig__MSELOSS_PC)
  run(${CMAKE_COMMAND} -E env LD_LIBRARY_PATH=${prefix}/cann/lib64 ${WORK}/consumer/build/consumer_${library})
endforeach()
