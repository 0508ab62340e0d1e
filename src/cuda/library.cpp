#include "cuda/library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace mseloss::cuda {
namespace {

constexpr char kFile[] = "libmseloss_cuda.so";

// The folder of the file that this function is in, with a slash at the end; empty if it is not known.
std::string own_folder() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&own_folder), &info) == 0 || info.dli_fname == nullptr) return {};
  const char* end = std::strrchr(info.dli_fname, '/');
  return end == nullptr ? std::string() : std::string(info.dli_fname, end + 1);
}

struct Loaded {
  const Driver* driver = nullptr;
  Status status;
};

Loaded load() {
  Loaded loaded;
  const char* const named = std::getenv("MSELOSS_CUDA_LIBRARY");
  void* library = nullptr;
  if (named != nullptr && *named != '\0') {
    library = dlopen(named, RTLD_NOW | RTLD_LOCAL);
  } else {
    if (const std::string folder = own_folder(); !folder.empty()) {
      library = dlopen((folder + kFile).c_str(), RTLD_NOW | RTLD_LOCAL);
    }
    if (library == nullptr) library = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) {
    const char* reason = dlerror();
    loaded.status =
        Status::error(Code::kDevice, "device: expected the library of the CUDA kernels, got \"%.256s\"",
                      reason == nullptr ? "" : reason);
    return loaded;
  }
  const auto function = reinterpret_cast<const Driver* (*)()>(dlsym(library, "mseloss_cuda_driver"));
  const Driver* const driver = function == nullptr ? nullptr : function();
  if (driver == nullptr || std::strcmp(driver->version, MSELOSS_VERSION) != 0) {
    loaded.status = Status::error(Code::kDevice, "device: expected %s of version %s, got %s", kFile,
                                  MSELOSS_VERSION, driver == nullptr ? "another library" : driver->version);
    return loaded;
  }
  loaded.driver = driver;
  return loaded;
}

}  // namespace

Status load_driver(const Driver** driver) try {
  static const Loaded loaded = load();
  *driver = loaded.driver;
  return loaded.status;
} catch (...) {
  return Status::error(Code::kOutOfMemory, "device: out of memory");
}

Status run_on_device(const Plan& plan, const Buffers& buffers, const Options& options) {
  const Driver* driver = nullptr;
  const Status status = load_driver(&driver);
  return driver == nullptr ? status : enqueue(*driver, plan, buffers, options);
}

Status sum_on_device(const Plan& plan, const Buffers& buffers, const SumRequest& request,
                     const Options& options, const SumTarget& target) {
  const Driver* driver = nullptr;
  const Status status = load_driver(&driver);
  return driver == nullptr ? status : sum(*driver, plan, buffers, request, options, target);
}

Status copy_on_device(void* to, const void* from, size_t bytes, bool wait, const Options& options) {
  const Driver* driver = nullptr;
  const Status status = load_driver(&driver);
  return driver == nullptr ? status : copy(*driver, to, from, bytes, wait, options);
}

}  // namespace mseloss::cuda
