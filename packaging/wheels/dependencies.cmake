# Builds Highway and oneTBB into the library, for wheels that must not depend on either:
#   cmake -DCMAKE_PROJECT_mseloss_INCLUDE=packaging/wheels/dependencies.cmake ...
# MSELOSS_HWY_SOURCE, MSELOSS_TBB_SOURCE: their sources. Without these, git fetches the versions that Debian 12 has.
include(FetchContent)
include(${PROJECT_SOURCE_DIR}/cmake/hardening.cmake)  # also for the dependencies
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

function(mseloss_dependency name source repository tag)
  if(source)
    FetchContent_Declare(${name} SOURCE_DIR ${source})
  else()
    FetchContent_Declare(${name} GIT_REPOSITORY ${repository} GIT_TAG ${tag} GIT_SHALLOW ON)
  endif()
  FetchContent_GetProperties(${name})
  if(NOT ${name}_POPULATED)
    FetchContent_Populate(${name})
  endif()
  # FetchContent_MakeAvailable would add their targets to `all` and their files to the installation.
  add_subdirectory(${${name}_SOURCE_DIR} ${${name}_BINARY_DIR} EXCLUDE_FROM_ALL)
endfunction()

set(CMAKE_POLICY_VERSION_MINIMUM 3.5)  # oneTBB 2021.8 declares an older one
set(BUILD_SHARED_LIBS_BEFORE ${BUILD_SHARED_LIBS})
set(BUILD_SHARED_LIBS OFF)
set(BUILD_TESTING OFF)
foreach(option HWY_ENABLE_TESTS HWY_ENABLE_CONTRIB HWY_ENABLE_EXAMPLES TBB_TEST TBB_STRICT TBBMALLOC_PROXY_BUILD
    TBB_FIND_PACKAGE)
  set(${option} OFF CACHE BOOL "" FORCE)
endforeach()
mseloss_dependency(highway "${MSELOSS_HWY_SOURCE}" https://github.com/google/highway 1.0.3)
mseloss_dependency(onetbb "${MSELOSS_TBB_SOURCE}" https://github.com/oneapi-src/oneTBB v2021.8.0)
set(BUILD_SHARED_LIBS ${BUILD_SHARED_LIBS_BEFORE})

# A static oneTBB refers to its allocator by weak symbols, which do not extract members of an archive.
target_link_libraries(tbb INTERFACE TBB::tbbmalloc)
target_link_options(tbb INTERFACE LINKER:-u,scalable_malloc)
