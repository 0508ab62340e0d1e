# What the scripts of the repository share: messages, Debian and Python packages, CMake presets. They source it from the
# root of the repository.

readonly BUILD_PACKAGES=(g++ cmake ninja-build pkg-config libhwy-dev libtbb-dev libgtest-dev python3)
readonly PYTHON_PACKAGES=(python3-venv python3-dev)
readonly JOBS=${MSELOSS_JOBS:-$(nproc)}
export CMAKE_BUILD_PARALLEL_LEVEL=$JOBS CTEST_PARALLEL_LEVEL=$JOBS
if command -v ccache >/dev/null; then export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi

say() { printf '\n==> [%3d s] %s\n' "$SECONDS" "$*"; }
fail() {
  printf '\n%s: %s\n' "$0" "$*" >&2
  exit 1
}
trap 'printf "\n%s: stopped at line %s: %s\n" "${BASH_SOURCE[0]}" "$LINENO" "$BASH_COMMAND" >&2' ERR

# Installs missing Debian packages and says before how much is downloaded; never prompts if all are installed.
need() {
  local missing=() package
  if ! command -v dpkg-query >/dev/null; then
    printf 'not a Debian system: install these packages yourself\n  %s\n' "$*"
    return
  fi
  for package in "$@"; do
    [[ $(dpkg-query -W -f='${Status}' "$package" 2>/dev/null) == 'install ok installed' ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  local by=()
  if ((EUID != 0)); then
    by=(sudo)
    if ! command -v sudo >/dev/null || ! { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
      fail "packages are missing and this account cannot install them. As root, run:
  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    fi
  fi
  say 'updating the list of Debian packages'
  "${by[@]}" apt-get update -qq
  local uris megabytes
  uris=$(apt-get install --print-uris -qq --no-install-recommends "${missing[@]}")
  megabytes=$(awk '{ bytes += $3 } END { printf "%.0f", bytes / 1e6 }' <<<"$uris")
  say "installing ${missing[*]}: $(wc -l <<<"$uris") Debian packages, $megabytes MB to download"
  "${by[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" |
    sed -un 's/^\(Get:\|Setting up \)/  &/p'
}

# configure PRESET [-D...], build PRESET [--target ...]
configure() {
  say "configuring build/$1"
  cmake --preset "$@" -DMSELOSS_WERROR="${MSELOSS_WERROR:-OFF}" --log-level=WARNING
}
build() {
  say "building build/$1 on $JOBS processors"
  cmake --build --preset "$@"
}

# Creates the virtual environment with the pinned packages; repeats it when the pins change.
readonly PINS=python/requirements-dev.txt
venv() {
  need "${BUILD_PACKAGES[@]}" "${PYTHON_PACKAGES[@]}"
  cmp -s "$PINS" .venv/requirements-dev.txt && return
  say 'computing the size of the Python packages'
  python3 -m venv .venv
  .venv/bin/python python/download_size.py "$PINS"
  say 'downloading and installing the Python packages'
  .venv/bin/python -m pip install --disable-pip-version-check -r "$PINS"
  cp "$PINS" .venv/
}
python_package() {
  venv
  say 'building the Python package'
  .venv/bin/python -m pip install -q --no-build-isolation --no-deps .
}
