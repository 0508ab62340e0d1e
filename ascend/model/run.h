// Runs the operator on this machine: host tiling, then the kernel on the model, on host memory.
//
//   ascend_model::Request request;
//   request.dtype = ascend_model::DType::kFloat32;
//   request.reduction = "mean";
//   request.predict = {{1024, 1024}, x};  // shape, contiguous data
//   ...
//   std::string error = ascend_model::Run(request);
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "model/counters.h"

namespace fe {
struct PlatFormInfos;
}
namespace gert {
struct TilingContext;
}

struct MseLossV2GradTilingData;

namespace ascend_model {

enum class DType { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2 };
inline constexpr int kDTypeCount = 3;

// Atlas A3 has the architecture of Atlas A2.
enum class Chip { kAtlasA2 = 0, kAscend310P = 1, kAscend950 = 2 };
inline constexpr int kChipCount = 3;

struct Tensor {
  std::vector<int64_t> shape;
  const void* data = nullptr;  // contiguous, aligned to the element size
};

struct Request {
  DType dtype = DType::kFloat32;
  std::string reduction = "mean";
  Tensor predict;
  Tensor label;
  Tensor dout;
  std::vector<int64_t> y_shape;
  void* y = nullptr;  // may be exactly one of the inputs

  // The default is an Atlas A2 with 48 vector cores. UseChip() sets all four.
  Chip chip = Chip::kAtlasA2;
  uint32_t vector_cores = 48;  // on a 310P: cores
  uint64_t ub_bytes = 196352;  // as GetCoreMemSize reports it
  uint64_t l2_bytes = uint64_t{192} << 20;
  bool saturate = false;                  // saturating overflow mode
  uint64_t seed = 0;                      // for the order in which blocks run
  std::vector<int64_t> only_blocks = {};  // empty: all
  Timing timing;
};

void UseChip(Chip chip, Request* request);

// A kernel and its tiling function; tests pass variants of both. Null: not compiled for that chip and dtype.
using Kernel = void(uint8_t*, uint8_t*, uint8_t*, uint8_t*, uint8_t*, uint8_t*);
struct Operator {
  Kernel* kernel[kChipCount][kDTypeCount];
  uint32_t (*tiling)(gert::TilingContext*);
};
const Operator& MseLossV2Grad();

struct Outcome {
  std::string error;  // empty on success
  int rule = 0;       // rule number of docs/ascend.md; 0 on success or if tiling failed
  uint32_t blocks = 0;
  Counters counters;
};
Outcome RunOperator(const Operator& op, const Request& request);

// Runs only the tiling. Returns an empty string or the reason of the failure.
std::string Tile(const Operator& op, const Request& request, MseLossV2GradTilingData* tiling,
                 uint32_t* blocks);

// Returns an empty string on success, else why tiling failed or which rule the kernel broke. Thread-safe.
std::string Run(const Request& request, Counters* counters = nullptr);

// Sets the reason of the calling thread's failed tiling; the shipped tiling source calls it through report.h.
void ReportRefusal(const char* reason);

}  // namespace ascend_model
