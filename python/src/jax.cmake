# Adds the XLA FFI handlers of mseloss.jax where the jaxlib of the building Python brings its headers.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c
    "import importlib.util as u, pathlib as p; s = u.find_spec('jaxlib'); print(p.Path(s.origin).parent / 'include')"
  OUTPUT_STRIP_TRAILING_WHITESPACE OUTPUT_VARIABLE MSELOSS_JAXLIB_INCLUDE ERROR_QUIET)
if(EXISTS "${MSELOSS_JAXLIB_INCLUDE}/xla/ffi/api/ffi.h")
  target_sources(_core PRIVATE ${CMAKE_CURRENT_LIST_DIR}/jax.cpp)
  target_include_directories(_core SYSTEM PRIVATE ${MSELOSS_JAXLIB_INCLUDE})
else()
  message(STATUS "mseloss.jax: no jaxlib headers in ${Python_EXECUTABLE}; building without the JAX handlers")
endif()
