# Configures the operator package against a stand-in for CANN's CMake package, with its preset and without, then again
# with each of three faults that the stand-in must find: cmake -DASCEND=.. -DWORK=.. -DCXX=.. -P package_test.cmake
cmake_minimum_required(VERSION 3.20)

set(units ascend910b ascend910_93 ascend310p ascend950)

# Sets `out` to "" if the project in `folder` configures and yields the right package, else to what is wrong.
function(configure folder out)
  set(binary ${folder}/build_out)
  file(REMOVE_RECURSE ${binary})
  execute_process(
    COMMAND ${CMAKE_COMMAND} -E env ASCEND_HOME_PATH=${CMAKE_CURRENT_LIST_DIR}/cann
      ${CMAKE_COMMAND} -S . -B build_out -DCMAKE_CXX_COMPILER=${CXX} ${ARGN}
    WORKING_DIRECTORY ${folder} RESULT_VARIABLE code OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT code EQUAL 0)
    set(${out} "${output}" PARENT_SCOPE)
    return()
  endif()
  file(STRINGS ${binary}/package.txt package)
  set(expected "vendor mseloss")
  foreach(unit IN LISTS units)
    list(APPEND expected "unit ${unit}")
  endforeach()
  list(APPEND expected "package mseloss RUN" "library cust_optiling TILING" "library cust_opapi ACLNN"
    "library cust_op_proto GRAPH" "add cust_optiling" "add cust_opapi" "add cust_op_proto" "kernel ascendc_kernels"
    "add ascendc_kernels")
  if(NOT package STREQUAL expected)
    set(${out} "the package is ${package}, not ${expected}" PARENT_SCOPE)
    return()
  endif()
  # Every header of the project that the installed kernel and its headers include is installed beside it.
  file(GLOB kernels ${binary}/installed/*.cpp ${binary}/installed/*.h)
  foreach(kernel IN LISTS kernels)
    file(STRINGS ${kernel} includes REGEX "^#include \"")
    foreach(include IN LISTS includes)
      string(REGEX REPLACE "^#include \"(.*)\".*" "\\1" header ${include})
      if(EXISTS ${folder}/op_kernel/${header} AND NOT EXISTS ${binary}/installed/${header})
        set(${out} "${header} is not installed" PARENT_SCOPE)
        return()
      endif()
    endforeach()
  endforeach()
  if(kernels STREQUAL "")
    set(${out} "no kernel is installed" PARENT_SCOPE)
    return()
  endif()
  set(${out} "" PARENT_SCOPE)
endfunction()

function(copy_project folder)
  file(REMOVE_RECURSE ${folder})
  file(COPY ${ASCEND}/CMakeLists.txt ${ASCEND}/CMakePresets.json ${ASCEND}/op_host ${ASCEND}/op_kernel
    DESTINATION ${folder})
endfunction()

# A copy with `from` replaced by `to` in one file must not configure as it should.
function(expect_fault name file from to pattern)
  copy_project(${WORK}/${name})
  file(READ ${WORK}/${name}/${file} text)
  string(REPLACE "${from}" "${to}" faulty "${text}")
  if(faulty STREQUAL text)
    message(FATAL_ERROR "${name}: ${file} has no ${from}")
  endif()
  file(WRITE ${WORK}/${name}/${file} "${faulty}")
  configure(${WORK}/${name} problem)
  if(NOT problem MATCHES "${pattern}")
    message(FATAL_ERROR "${name}: expected a problem that matches ${pattern}, got: ${problem}")
  endif()
endfunction()

copy_project(${WORK}/right)
foreach(arguments --preset=default "")
  configure(${WORK}/right problem ${arguments})
  if(NOT problem STREQUAL "")
    message(FATAL_ERROR "cmake ${arguments}: ${problem}")
  endif()
endforeach()

expect_fault(relative_sources op_host/CMakeLists.txt "\${CMAKE_CURRENT_SOURCE_DIR}/" "" "no such file")
expect_fault(no_kernel_dir op_kernel/CMakeLists.txt "  KERNEL_DIR .\n" "" "mse_loss_v2_grad.h is not installed")
expect_fault(late_vendor CMakeLists.txt "if(NOT DEFINED vendor_name)" "find_package(ASC REQUIRED HINTS
  \${ASCEND_CANN_PACKAGE_PATH}/compiler/tikcpp/ascendc_kernel_cmake)
if(NOT DEFINED vendor_name)" "the package is vendor customize")
expect_fault(late_units CMakeLists.txt "if(NOT DEFINED ASCEND_COMPUTE_UNIT)" "find_package(ASC REQUIRED HINTS
  \${ASCEND_CANN_PACKAGE_PATH}/compiler/tikcpp/ascendc_kernel_cmake)
if(NOT DEFINED ASCEND_COMPUTE_UNIT)" "unit ascend910b;package")
