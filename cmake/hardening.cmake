# Flags that make memory errors harder to exploit. bench/instructions measures that they cost nothing.
option(MSELOSS_HARDENING "stack protector, fortified library calls, control-flow protection, full RELRO" ON)
if(NOT MSELOSS_HARDENING OR MSELOSS_SANITIZE OR NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang" OR NOT UNIX)
  return()
endif()
include(CheckCXXCompilerFlag)
include(CheckLinkerFlag)
# Shadow stacks, which need no instructions. Linux does not track indirect branches in user space, so that the
# instructions of -fcf-protection=branch would protect nothing.
set(CMAKE_REQUIRED_FLAGS -Werror)  # Clang only warns about flags of other processors
foreach(flag -fstack-protector-strong -fcf-protection=return -mbranch-protection=standard)
  string(MAKE_C_IDENTIFIER MSELOSS_HAS${flag} has)
  check_cxx_compiler_flag(${flag} ${has})
  if(${has})
    add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:${flag}>)
  endif()
endforeach()
unset(CMAKE_REQUIRED_FLAGS)
# glibc warns about fortification without optimisation, which debug builds may lack.
add_compile_options("$<$<AND:$<COMPILE_LANGUAGE:C,CXX>,$<NOT:$<CONFIG:Debug>>>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=2>")
foreach(flag LINKER:-z,relro LINKER:-z,now LINKER:-z,noexecstack)
  string(MAKE_C_IDENTIFIER MSELOSS_HAS_${flag} has)
  check_linker_flag(CXX ${flag} ${has})
  if(${has})
    add_link_options(${flag})
  endif()
endforeach()
