#!/usr/bin/env bash
# The laboratory: bench/run.sh [quick|full|compare A B|report RESULT]
#   full     < 10 minutes; checks, measures, plots into BUILD/bench
#   quick    < 1 minute: fewer cases, smaller tensors, no plots
#   compare  two result files side by side
#   report   tables and plots of the documentation from a result
# BUILD (default build/bench) is configured and built first; PYTHON (default python3) needs torch, jax, numpy,
# matplotlib and mseloss for the peers, which are left out, visibly, where it lacks them.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
build=${BUILD:-$root/build/bench}
python=${PYTHON:-python3}
form=${1:-full}

case $form in
  compare) exec "$python" "$here/compare.py" "${@:2}" ;;
  report)
    "$python" "$here/plot.py" "$2" "$root/docs/images"
    exec "$python" "$here/report.py" "$2" "$root"
    ;;
  quick | full) ;;
  *)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac

cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DMSELOSS_BENCH=ON -DMSELOSS_ACL=OFF \
  -DMSELOSS_TESTS=OFF -DMSELOSS_EXAMPLES=OFF > /dev/null
cmake --build "$build" > /dev/null
MSELOSS_COMMIT=$(git -C "$root" rev-parse HEAD 2> /dev/null || echo unknown)
export MSELOSS_COMMIT
out=$build/results
mkdir -p "$out"
rm -f "$out/core.json" "$out/peers.json" "$out/fork_join.json"
echo "load: $(cut -d' ' -f1 /proc/loadavg)"

flags=()
if [[ $form == quick ]]; then flags+=(--quick); fi
status=0
"$build/bench/mseloss_bench" "${flags[@]}" --out "$out/core.json" || status=1
if "$python" -c 'import jax, ml_dtypes, mseloss, numpy, torch' 2> /dev/null; then
  "$python" "$here/peers.py" "${flags[@]}" --out "$out/peers.json" || status=1
  if [[ $form == full ]]; then
    "$python" "$here/fork_join.py" "$build/bench/libmseloss_fork_join.so" "$out/fork_join.json" || status=1
  fi
else
  echo "peers are left out: $python cannot import jax, ml_dtypes, mseloss, numpy and torch"
fi
"$python" "$here/merge.py" "$out/$form.json" "$out/core.json" "$out/peers.json" "$out/fork_join.json"
if [[ $form == full ]] && "$python" -c 'import matplotlib' 2> /dev/null; then
  "$python" "$here/plot.py" "$out/$form.json" "$out"
fi
exit $status
