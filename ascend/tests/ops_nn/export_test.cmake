# Exports the operator into an empty stand-in for ops-nn's folders, builds it there and runs its tests:
#   cmake -DASCEND=.. -DWORK=.. -DCXX=.. -DPYTHON=.. -P export_test.cmake
cmake_minimum_required(VERSION 3.20)

function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "${ARGV}: ${code}\n${output}")
  endif()
endfunction()

function(expect_refusal pattern)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT code EQUAL 1 OR NOT output MATCHES "${pattern}")
    message(FATAL_ERROR "${ARGN}: expected status 1 and ${pattern}, got ${code}\n${output}")
  endif()
endfunction()

set(checkout ${WORK}/ops-nn)
set(export ${PYTHON} ${ASCEND}/ops_nn/export.py)
file(REMOVE_RECURSE ${checkout})
expect_refusal("is it a checkout of ops-nn" ${export} ${checkout})
expect_refusal("usage" ${export})
file(MAKE_DIRECTORY ${checkout}/experimental/loss)
run(${export} ${checkout})
expect_refusal("already exists" ${export} ${checkout})

# The files of a folder in experimental/loss.
set(name mse_loss_v2_grad)
file(GLOB_RECURSE files RELATIVE ${checkout}/experimental/loss/${name} ${checkout}/experimental/loss/${name}/*)
foreach(file CMakeLists.txt README.md docs/aclnnMseLossV2Grad.md examples/test_aclnn_${name}.cpp
    op_host/CMakeLists.txt op_host/${name}_def.cpp op_host/${name}_infershape.cpp op_host/${name}_tiling.cpp
    op_host/${name}_split.h op_kernel/${name}.cpp op_kernel/${name}.h op_kernel/${name}_tiling.h tests/CMakeLists.txt
    tests/ut/CMakeLists.txt tests/ut/op_host/CMakeLists.txt tests/ut/op_host/test_${name}_infershape.cpp
    tests/ut/op_host/test_${name}_tiling.cpp tests/ut/op_kernel/CMakeLists.txt
    tests/ut/op_kernel/test_${name}.cpp)
  if(NOT file IN_LIST files)
    message(FATAL_ERROR "${file} is missing")
  endif()
  list(REMOVE_ITEM files ${file})
endforeach()
if(NOT files STREQUAL "")
  message(FATAL_ERROR "unexpected files: ${files}")
endif()

run(${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${WORK}/build -DOPS_NN=${checkout} -DCMAKE_CXX_COMPILER=${CXX}
  -DCMAKE_BUILD_TYPE=Release)
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${CMAKE_CTEST_COMMAND} --test-dir ${WORK}/build --output-on-failure --no-tests=error)
