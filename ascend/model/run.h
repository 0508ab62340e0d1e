// The operator on this machine: host tiling, then the kernel on the model, on ordinary memory.
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

struct Tensor {
  std::vector<int64_t> shape;
  const void* data = nullptr;  // contiguous, at least aligned to the element
};

struct Request {
  DType dtype = DType::kFloat32;
  std::string reduction = "mean";
  Tensor predict;
  Tensor label;
  Tensor dout;
  std::vector<int64_t> y_shape;
  void* y = nullptr;  // may be exactly one of the inputs

  // The chip: Atlas A2 with 48 vector cores unless told otherwise.
  uint32_t vector_cores = 48;
  uint64_t ub_bytes = 196352;  // as GetCoreMemSize reports it
  uint64_t l2_bytes = uint64_t{192} << 20;
  bool saturate = false;                  // the other float overflow mode
  uint64_t seed = 0;                      // of the order in which blocks run
  std::vector<int64_t> only_blocks = {};  // all when empty
  Timing timing;
};

// A kernel and its tiling; tests pass variants of them.
struct Operator {
  void (*kernel[3])(uint8_t*, uint8_t*, uint8_t*, uint8_t*, uint8_t*, uint8_t*);  // by DType
  uint32_t (*tiling)(gert::TilingContext*);
};
const Operator& MseLossV2Grad();

struct Outcome {
  std::string error;  // empty when all went well
  int rule = 0;       // of docs/ascend.md; 0 when tiling refused or nothing is wrong
  uint32_t blocks = 0;
  Counters counters;
};
Outcome RunOperator(const Operator& op, const Request& request);

// The tiling alone; empty or the reason it refused.
std::string Tile(const Operator& op, const Request& request, MseLossV2GradTilingData* tiling,
                 uint32_t* blocks);

// Empty on success, else one sentence: what tiling refused or which rule the kernel broke. Thread safe.
std::string Run(const Request& request, Counters* counters = nullptr);

// What the tiling of the calling thread last refused; the shipped tiling source reports through it.
void ReportRefusal(const char* reason);

}  // namespace ascend_model
