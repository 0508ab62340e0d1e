# Source this file in bash: the same as ../set_env.sh, under the name that CANN's packages use.
. "$(dirname -- "${BASH_SOURCE[0]}")/../set_env.sh"
