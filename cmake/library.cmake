# mseloss: the C++ library; static if BUILD_SHARED_LIBS is OFF, else shared.
# mseloss_static: the static library. It is always a target; tests link it because they use internal symbols of src/.
#   It is installed unless BUILD_SHARED_LIBS is ON.
# mseloss_cann: acl and aclnn, with everything of the library that they need, in one file that exports nothing else. A
#   program can therefore link mseloss beside the real CANN.
file(GLOB MSELOSS_SOURCES CONFIGURE_DEPENDS src/*.cpp src/plan/*.cpp src/numerics/*.cpp src/cpu/*.cpp src/cpu/*/*.cpp src/cuda/*.cpp)
# The dtype-dependent kernels take longest to compile, so each dtype has its own objects.
set(MSELOSS_DTYPE_SOURCES elementwise.cpp slices.cpp sums.cpp weighted.cpp)
list(TRANSFORM MSELOSS_DTYPE_SOURCES PREPEND ${PROJECT_SOURCE_DIR}/src/cpu/kernels/)
list(REMOVE_ITEM MSELOSS_SOURCES ${MSELOSS_DTYPE_SOURCES})
add_library(mseloss_objects OBJECT ${MSELOSS_SOURCES})
set(mseloss_object_libraries mseloss_objects)
foreach(dtype Float32 Float16 BFloat16 Float64)
  add_library(mseloss_kernels_${dtype} OBJECT ${MSELOSS_DTYPE_SOURCES})
  target_compile_definitions(mseloss_kernels_${dtype} PRIVATE MSELOSS_KERNEL_DTYPE=k${dtype})
  if(MSELOSS_SANITIZE MATCHES "address")
    # In kernels, whose many inlined lambdas are scopes, these checks take three quarters of GCC's time.
    target_compile_options(mseloss_kernels_${dtype} PRIVATE -fno-sanitize-address-use-after-scope)
  endif()
  list(APPEND mseloss_object_libraries mseloss_kernels_${dtype})
endforeach()
foreach(library IN LISTS mseloss_object_libraries)
  list(APPEND mseloss_objects_files $<TARGET_OBJECTS:${library}>)
endforeach()

set(mseloss_shared_libraries)
if(DEFINED BUILD_SHARED_LIBS AND NOT BUILD_SHARED_LIBS)
  add_library(mseloss STATIC ${mseloss_objects_files})
  add_library(mseloss_static ALIAS mseloss)
  set(mseloss_libraries mseloss)
else()
  add_library(mseloss SHARED ${mseloss_objects_files})
  add_library(mseloss_static STATIC ${mseloss_objects_files})
  set_target_properties(mseloss_static PROPERTIES EXCLUDE_FROM_ALL "${BUILD_SHARED_LIBS}")
  if(UNIX)
    set_target_properties(mseloss_static PROPERTIES OUTPUT_NAME mseloss)
  endif()
  set(mseloss_libraries mseloss mseloss_static)
  list(APPEND mseloss_shared_libraries mseloss)
endif()
# Until 1.0 a minor version may change the API and with it the ABI.
if(PROJECT_VERSION_MAJOR EQUAL 0)
  set(mseloss_soversion 0.${PROJECT_VERSION_MINOR})
else()
  set(mseloss_soversion ${PROJECT_VERSION_MAJOR})
endif()
set_target_properties(mseloss PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${mseloss_soversion})

if(MSELOSS_ACL)
  file(GLOB MSELOSS_ACL_SOURCES CONFIGURE_DEPENDS src/acl/*.cpp src/aclnn/*.cpp)
  list(FILTER MSELOSS_ACL_SOURCES EXCLUDE REGEX "/ascend_model\\.cpp$")  # only with MSELOSS_ASCEND_MODEL
  add_library(mseloss_acl_objects OBJECT ${MSELOSS_ACL_SOURCES})
  list(APPEND mseloss_object_libraries mseloss_acl_objects)
  add_library(mseloss_cann_static STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:mseloss_acl_objects>)  # for tests
  target_link_libraries(mseloss_cann_static PUBLIC mseloss_static)
endif()
if(MSELOSS_ACL AND UNIX)
  # For the CANN prefix. Its SONAME is the path at which it is: a program then records that path and needs neither an
  # RPATH nor LD_LIBRARY_PATH, which CANN's build files do not set. cmake/relocate.sh writes the path into the room that
  # is reserved here, after the build and again on installation.
  add_library(mseloss_cann SHARED ${mseloss_objects_files} $<TARGET_OBJECTS:mseloss_acl_objects>)
  string(REPEAT "_" 1000 soname_room)
  set_target_properties(mseloss_cann PROPERTIES NO_SONAME ON)
  target_link_options(mseloss_cann PRIVATE "LINKER:-soname,${soname_room}mseloss-soname-end")
  add_custom_command(TARGET mseloss_cann POST_BUILD VERBATIM
    COMMAND sh ${PROJECT_SOURCE_DIR}/cmake/relocate.sh $<TARGET_FILE:mseloss_cann> $<TARGET_FILE:mseloss_cann>)
  target_include_directories(mseloss_cann PRIVATE ${PROJECT_SOURCE_DIR}/include PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include/cann> $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include/cann/aclnn>
    $<INSTALL_INTERFACE:cann/include> $<INSTALL_INTERFACE:cann/include/aclnn>)
  add_library(mseloss::cann ALIAS mseloss_cann)
  list(APPEND mseloss_shared_libraries mseloss_cann)
endif()

foreach(library IN LISTS mseloss_object_libraries)
  target_compile_definitions(${library} PRIVATE MSELOSS_VERSION="${PROJECT_VERSION}"
    $<$<BOOL:${MSELOSS_DISABLED_TARGETS}>:MSELOSS_DISABLED_TARGETS=\(${MSELOSS_DISABLED_TARGETS}\)>)
  target_include_directories(${library}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include/cann ${PROJECT_SOURCE_DIR}/include/cann/aclnn)
  target_link_libraries(${library} PRIVATE hwy::hwy TBB::tbb Threads::Threads)
endforeach()
foreach(library IN LISTS mseloss_libraries ITEMS mseloss_cann)
  if(TARGET ${library})
    target_link_libraries(${library} PRIVATE hwy::hwy TBB::tbb Threads::Threads ${CMAKE_DL_LIBS})
  endif()
endforeach()
foreach(library IN LISTS mseloss_libraries)
  target_include_directories(${library} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_compile_features(${library} PUBLIC cxx_std_20)
  add_library(mseloss::${library} ALIAS ${library})
endforeach()
if(NOT TARGET mseloss::mseloss_static)
  add_library(mseloss::mseloss_static ALIAS mseloss)
endif()

foreach(library IN LISTS mseloss_shared_libraries)
  if(UNIX AND NOT APPLE)
    # Threads run code of the library until the process ends, so it is never unloaded. The list of symbols keeps
    # instantiations of the standard library's templates, which have default visibility, out of the interface.
    target_link_options(${library} PRIVATE LINKER:-z,nodelete
      LINKER:--version-script=${PROJECT_SOURCE_DIR}/cmake/${library}.map)
    set_property(TARGET ${library} APPEND PROPERTY LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/${library}.map)
  endif()
endforeach()
