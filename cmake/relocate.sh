#!/bin/sh
# Run this file after the CANN prefix has moved. The library's SONAME is its own path, so that a program that links it
# records the path and needs neither an RPATH nor LD_LIBRARY_PATH. The build reserves room for it, before a
# marker. Programs that were linked before the move must be linked again.
#   relocate.sh [PATH [LIBRARY]]   PATH: the path to record, if the prefix is not in its final place yet;
#                                  LIBRARY: the file to change, if it is not in ../lib64
set -eu
marker=mseloss-soname-end
room=1000 # as in cmake/library.cmake of the sources
library=${2:-$(unset CDPATH && cd -- "$(dirname -- "$0")/../lib64" && pwd)/libmseloss_cann.so}
path=${1:-$library}

end=$(LC_ALL=C grep -abo "$marker" "$library" | head -n 1 | cut -d : -f 1)
length=$(printf %s "$path" | wc -c)
if [ -z "$end" ] || [ "$length" -ge "$room" ]; then
  echo "relocate.sh: expected a path of less than $room bytes and a library with room for it, got $path" >&2
  exit 1
fi
{
  printf %s "$path"
  head -c "$((room - length))" /dev/zero
} | dd of="$library" bs=1 seek="$((end - room))" conv=notrunc 2> /dev/null
