# set_env_check.sh PREFIX HOW: sources the environment file of an installed prefix and checks what it sets.
set -eu
prefix=$1
case $2 in
  absolute) . "$prefix/cann/set_env.sh" ;;
  twice)
    cd "$prefix/cann"
    . ./set_env.sh
    . ./set_env.sh
    ;;
  cdpath)
    export CDPATH="/:$prefix"
    cd "$prefix" > /dev/null
    . cann/set_env.sh
    ;;
  setenv) . "$prefix/cann/bin/setenv.bash" ;;
  given)
    ASCEND_CUSTOM_PATH=$prefix/cann
    . "$prefix/cann/set_env.sh"
    ;;
esac
for name in ASCEND_HOME_PATH ASCEND_TOOLKIT_HOME ASCEND_CUSTOM_PATH; do
  eval "value=\$$name"
  if [ "$value" != "$prefix/cann" ]; then
    echo "$name is $value, not $prefix/cann"
    exit 1
  fi
done
if [ "$ASCEND_OPP_PATH" != "$prefix/cann/opp" ] || [ ! -d "$ASCEND_OPP_PATH/vendors" ]; then
  echo "ASCEND_OPP_PATH is $ASCEND_OPP_PATH"
  exit 1
fi
case $LD_LIBRARY_PATH in
  "$prefix/cann/lib64"*) ;;
  *)
    echo "LD_LIBRARY_PATH is $LD_LIBRARY_PATH"
    exit 1
    ;;
esac
