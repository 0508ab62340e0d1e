# Source this file (bash, zsh) before running programs that were built for CANN.
# cd without CDPATH, which would search other folders first, and without functions, aliases or hooks, which may print.
_mseloss_cann="$(unset CDPATH; unset -f cd 2>/dev/null || :; \cd -- "$(dirname -- "${BASH_SOURCE:-$0}")" >/dev/null && pwd)"
export ASCEND_HOME_PATH="$_mseloss_cann"
export ASCEND_TOOLKIT_HOME="$_mseloss_cann"
export ASCEND_CUSTOM_PATH="$_mseloss_cann"
export LD_LIBRARY_PATH="$_mseloss_cann/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
unset _mseloss_cann
