# Source this file in bash or zsh before you build or run programs that were written for CANN.
# In other shells, which do not tell a sourced file its path, set ASCEND_CUSTOM_PATH to this folder first.
_mseloss_file="${BASH_SOURCE:-$0}"
# cd without CDPATH, which would search other folders first, and without functions, aliases or hooks, which may print.
_mseloss_cann="$(unset CDPATH; unset -f cd 2>/dev/null || :; \cd -- "$(dirname -- "$_mseloss_file")" >/dev/null 2>&1 &&
  pwd)" || _mseloss_cann=
if [ ! -f "$_mseloss_cann/set_env.sh" ] || [ ! -d "$_mseloss_cann/lib64" ]; then
  _mseloss_cann="${ASCEND_CUSTOM_PATH:-}"
fi
if [ -f "$_mseloss_cann/set_env.sh" ] && [ -d "$_mseloss_cann/lib64" ]; then
  export ASCEND_HOME_PATH="$_mseloss_cann"
  export ASCEND_TOOLKIT_HOME="$_mseloss_cann"
  export ASCEND_CUSTOM_PATH="$_mseloss_cann"
  export ASCEND_OPP_PATH="$_mseloss_cann/opp"
  export LD_LIBRARY_PATH="$_mseloss_cann/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  if ! LC_ALL=C grep -aqF "$_mseloss_cann/lib64/libmseloss_cann.so" "$_mseloss_cann/lib64/libmseloss_cann.so"; then
    echo "set_env.sh: this folder has moved. Run $_mseloss_cann/bin/relocate.sh once, and link programs again." >&2
  fi
  unset _mseloss_file _mseloss_cann
else
  unset _mseloss_file _mseloss_cann
  echo 'set_env.sh: this shell does not tell the file its path. Set ASCEND_CUSTOM_PATH to the folder of' \
    'set_env.sh and source it again, or use bash.' >&2
  return 1
fi
