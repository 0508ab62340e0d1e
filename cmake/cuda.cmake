# libmseloss_cuda.so: the CUDA kernels. It is a library of its own, which the main one loads at the first call that names
# a CUDA device, so that neither needs CUDA to be installed.
set(mseloss_cuda_default OFF)
if(PROJECT_IS_TOP_LEVEL)
  set(mseloss_cuda_default AUTO)
endif()
set(MSELOSS_CUDA ${mseloss_cuda_default} CACHE STRING "the CUDA kernels: AUTO (if nvcc is found), ON, OFF")
set_property(CACHE MSELOSS_CUDA PROPERTY STRINGS AUTO ON OFF)
set(MSELOSS_CUDA_ARCHITECTURES "80-real;90-real;90-virtual" CACHE STRING
  "CMAKE_CUDA_ARCHITECTURES of the kernels; \"all\" stands for every one that releases contain")
if(MSELOSS_CUDA STREQUAL "OFF" OR (MSELOSS_CUDA STREQUAL "AUTO" AND MSELOSS_SANITIZE))
  return()
endif()
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  if(MSELOSS_CUDA STREQUAL "ON")
    message(FATAL_ERROR "MSELOSS_CUDA=ON: nvcc was not found; set CMAKE_CUDA_COMPILER")
  endif()
  message(STATUS "CUDA kernels: no (nvcc was not found)")
  return()
endif()
enable_language(CUDA)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that of nvcc 13
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
endif()
set(architectures ${MSELOSS_CUDA_ARCHITECTURES})
if(architectures STREQUAL "all")
  set(architectures 75-real 80-real 86-real 89-real 90-real 100-real 120-real 120-virtual)
endif()
message(STATUS "CUDA kernels: ${CMAKE_CUDA_COMPILER_ID} ${CMAKE_CUDA_COMPILER_VERSION}, ${architectures}")

add_library(mseloss_cuda SHARED src/cuda/device.cu)
set_target_properties(mseloss_cuda PROPERTIES
  CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF CUDA_ARCHITECTURES "${architectures}" LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}
  CUDA_RUNTIME_LIBRARY Static CUDA_VISIBILITY_PRESET hidden)
target_compile_definitions(mseloss_cuda PRIVATE MSELOSS_VERSION="${PROJECT_VERSION}")
target_include_directories(mseloss_cuda PRIVATE src include)
# Every operation rounds: no contraction, subnormals kept, division as IEEE 754 has it. Constexpr functions of the
# headers that the CPU shares are compiled for the device too.
target_compile_options(mseloss_cuda PRIVATE
  $<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr -fmad=false -ftz=false -prec-div=true -prec-sqrt=true>)
target_link_options(mseloss_cuda PRIVATE LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/mseloss_cuda.map)
set_target_properties(mseloss_cuda PROPERTIES LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/mseloss_cuda.map)
