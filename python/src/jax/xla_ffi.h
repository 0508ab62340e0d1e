// The structures of XLA's foreign function interface that the handlers use, declared here so that building
// does not need jaxlib. Their layout is a binary interface: structures grow only at the end, and XLA rejects
// at registration a handler whose version it no longer supports. Written for version 0.3; the fields used
// have been the same since 0.1.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mseloss::python::xla {

inline constexpr int kMajor = 0, kMinor = 3;

enum class Code : uint32_t { kInvalidArgument = 3, kResourceExhausted = 8, kInternal = 13 };
enum class Type : uint32_t { kBool = 1, kI64 = 5, kF16 = 10, kF32 = 11, kF64 = 12, kBF16 = 16 };
enum class Stage : uint32_t { kExecute = 3 };
inline constexpr uint32_t kMetadata = 1;  // the extension of a call that queries the metadata
inline constexpr uint32_t kScalar = 3;    // the kind of an attribute

struct Extension {
  size_t struct_size;
  uint32_t type;
  Extension* next;
};

struct Version {
  size_t struct_size;
  Extension* extensions;
  int major, minor;
};

struct Metadata {
  size_t struct_size;
  Version version;  // out: the handler's
  uint32_t traits;  // out
};

struct MetadataExtension {
  Extension base;
  Metadata* metadata;
};

struct Buffer {
  size_t struct_size;
  Extension* extensions;
  Type dtype;
  void* data;  // dense, row-major
  int64_t rank;
  int64_t* dims;
};

struct Buffers {  // operands, results
  size_t struct_size;
  Extension* extensions;
  int64_t size;
  uint32_t* kinds;  // all of them buffers
  Buffer** items;
};

struct Scalar {
  Type dtype;
  void* value;
};

struct Attributes {
  size_t struct_size;
  Extension* extensions;
  int64_t size;
  uint32_t* kinds;
  void** names;
  Scalar** items;
};

struct Error;  // XLA's

struct ErrorArguments {
  size_t struct_size;
  Extension* extensions;
  const char* message;  // copied
  Code code;
};

struct DestroyArguments {
  size_t struct_size;
  Extension* extensions;
  Error* error;
};

struct StreamArguments {
  size_t struct_size;
  Extension* extensions;
  void* context;
  void* stream;  // out
};

struct AllocateArguments {
  size_t struct_size;
  Extension* extensions;
  void* context;
  size_t size, alignment;
  void* data;  // out
};

struct FreeArguments {
  size_t struct_size;
  Extension* extensions;
  void* context;
  size_t size;
  void* data;
};

struct Api {
  size_t struct_size;
  Extension* extensions;
  Version version;  // of the running XLA
  const void* internal;
  Error* (*create_error)(ErrorArguments*);
  void (*get_message)();
  void (*destroy_error)(DestroyArguments*);
  void (*register_handler)();
  Error* (*get_stream)(StreamArguments*);
  void (*other[4])();
  Error* (*allocate)(AllocateArguments*);  // device memory
  Error* (*free)(FreeArguments*);
};

struct Frame {
  size_t struct_size;
  Extension* extensions;
  const Api* api;
  void* context;
  Stage stage;
  Buffers operands, results;
  Attributes attributes;
};

}  // namespace mseloss::python::xla
