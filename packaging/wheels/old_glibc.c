// What Debian's static libstdc++ takes from a glibc that is newer than the wheel's tag.
#include <unistd.h>

// Whether the process has one thread; libstdc++ then skips atomic operations. 0 is always correct.
char __libc_single_threaded = 0;

// The source of std::random_device.
unsigned arc4random(void) {
  unsigned value = 0;
  while (getentropy(&value, sizeof value) != 0) {
  }
  return value;
}
