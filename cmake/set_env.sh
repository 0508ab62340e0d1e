# Source this file (bash, zsh) before running programs that were built for CANN.
_mseloss_cann="$(cd "$(dirname "${BASH_SOURCE:-$0}")" && pwd)"
export ASCEND_HOME_PATH="$_mseloss_cann"
export ASCEND_TOOLKIT_HOME="$_mseloss_cann"
export ASCEND_CUSTOM_PATH="$_mseloss_cann"
export LD_LIBRARY_PATH="$_mseloss_cann/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
unset _mseloss_cann
