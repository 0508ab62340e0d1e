#include "model/run.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "../op_kernel/mse_loss_v2_grad_tiling.h"
#include "model/core.h"
#include "register/op_def_registry.h"

extern "C" {
ascend_model::Kernel mse_loss_v2_grad_2201_float, mse_loss_v2_grad_2201_half,
    mse_loss_v2_grad_2201_bfloat16_t;
ascend_model::Kernel mse_loss_v2_grad_2002_float, mse_loss_v2_grad_2002_half;
ascend_model::Kernel mse_loss_v2_grad_3510_float, mse_loss_v2_grad_3510_half,
    mse_loss_v2_grad_3510_bfloat16_t;
}

namespace ops {
OpDef& ModelDefinitionOfMseLossV2Grad();
}

namespace ascend_model {
namespace {

thread_local std::string refusal;
constexpr uint64_t kReservedUb = 8192;  // bytes at the end of UB that the compiler reserves by default

struct ChipFacts {
  int architecture;
  int soc_version;  // platform_ascendc::SocVersion
  uint32_t cores;
  uint64_t ub_bytes;   // as GetCoreMemSize reports it
  uint64_t ub_usable;  // by a kernel, whatever is reported
  uint64_t l2_bytes;
};
// Sizes of the unified buffer are documented; numbers of cores and L2 sizes of the 310P and the 950 are
// nominal.
constexpr ChipFacts kChips[kChipCount] = {
    {2201, 1, 48, 196352, 196352 - kReservedUb, uint64_t{192} << 20},
    {2002, 2, 8, 262144, 262144 - kReservedUb, uint64_t{16} << 20},
    {3510, 4, 64, 262144 - kReservedUb, 262144 - kReservedUb, uint64_t{128} << 20},
};
const ChipFacts& FactsOf(const Request& request) { return kChips[static_cast<int>(request.chip)]; }

ge::DataType DataTypeOf(DType dtype) {
  return dtype == DType::kFloat32 ? ge::DT_FLOAT : dtype == DType::kFloat16 ? ge::DT_FLOAT16 : ge::DT_BF16;
}

uint64_t BytesOf(const std::vector<int64_t>& shape, DType dtype) {
  uint64_t count = dtype == DType::kFloat32 ? 4 : 2;
  for (const int64_t dim : shape) {
    count *= static_cast<uint64_t>(dim);
  }
  return count;
}

fe::PlatFormInfos PlatformOf(const Request& request) {
  fe::PlatFormInfos platform;
  platform.soc_version = FactsOf(request).soc_version;
  platform.aiv_cores = request.vector_cores;
  platform.ub_bytes = request.ub_bytes;
  platform.l2_bytes = request.l2_bytes;
  return platform;
}

gert::TilingContext ContextOf(const Request& request, fe::PlatFormInfos* platform) {
  gert::TilingContext context;
  const gert::CompileTimeTensorDesc desc{DataTypeOf(request.dtype)};
  for (const Tensor* input : {&request.predict, &request.label, &request.dout}) {
    context.input_shapes.push_back(gert::StorageShape{gert::Shape(input->shape)});
    context.input_descs.push_back(desc);
  }
  context.output_shape = gert::StorageShape{gert::Shape(request.y_shape)};
  context.output_desc = desc;
  context.attrs = gert::RuntimeAttrs{{request.reduction}};
  context.platform = platform;
  return context;
}

std::vector<int64_t> BlockOrder(const Request& request, uint32_t blocks) {
  std::vector<int64_t> order = request.only_blocks;
  if (order.empty()) {
    order.resize(blocks);
    std::iota(order.begin(), order.end(), 0);
  }
  std::mt19937_64 random(request.seed);
  std::shuffle(order.begin(), order.end(), random);
  return order;
}

// The byte ranges of y that the given blocks must write according to the tiling data.
std::vector<std::pair<uint64_t, uint64_t>> Expected(const Request& request, const MseLossV2GradTilingData& t,
                                                    const std::vector<int64_t>& order) {
  if (request.only_blocks.empty()) {
    return {{0, BytesOf(request.y_shape, request.dtype)}};
  }
  std::vector<std::pair<uint64_t, uint64_t>> expected;
  const uint64_t element = request.dtype == DType::kFloat32 ? 4 : 2;
  for (const int64_t block : order) {
    const int64_t first = block * t.base_units + std::min(block, t.extra_cores);
    const int64_t units = t.base_units + (block < t.extra_cores ? 1 : 0);
    expected.emplace_back(first * t.unit * element, std::min((first + units) * t.unit, t.total) * element);
  }
  return expected;
}

void RunBlocks(const Operator& op, const Request& request, gert::TilingContext* context, Outcome* outcome) {
  Kernel* const kernel = op.kernel[static_cast<int>(request.chip)][static_cast<int>(request.dtype)];
  if (kernel == nullptr) {
    throw Violation(18, "the kernel is not compiled for this chip and dtype");
  }
  GlobalMemory memory;
  const std::pair<const char*, const Tensor*> inputs[] = {
      {"predict", &request.predict}, {"label", &request.label}, {"dout", &request.dout}};
  uint8_t* addresses[4];
  for (int i = 0; i < 3; ++i) {
    const auto& [name, tensor] = inputs[i];
    addresses[i] = static_cast<uint8_t*>(const_cast<void*>(tensor->data));
    memory.regions.push_back(
        {name, reinterpret_cast<uintptr_t>(tensor->data), BytesOf(tensor->shape, request.dtype), false, {}});
  }
  addresses[3] = static_cast<uint8_t*>(request.y);
  memory.regions.push_back(
      {"y", reinterpret_cast<uintptr_t>(request.y), BytesOf(request.y_shape, request.dtype), true, {}});

  const std::vector<int64_t> order = BlockOrder(request, context->block_dim);
  for (const int64_t block : order) {
    CoreOptions options;
    options.architecture = FactsOf(request).architecture;
    options.block = block;
    options.blocks = context->block_dim;
    options.ub_limit =
        static_cast<uint32_t>(std::min<uint64_t>(request.ub_bytes - kReservedUb, FactsOf(request).ub_usable));
    options.saturate = request.saturate;
    options.timing = request.timing;
    Core core(options, &memory, &outcome->counters);
    struct Guard {
      ~Guard() { Core::SetCurrent(nullptr); }
    } guard;
    Core::SetCurrent(&core);
    kernel(addresses[0], addresses[1], addresses[2], addresses[3], nullptr, context->tiling.data());
    core.Finish();
    ++outcome->counters.blocks;
  }
  MseLossV2GradTilingData tiling;
  std::memcpy(&tiling, context->tiling.data(), sizeof tiling);
  memory.CheckWritten(Expected(request, tiling, order));
}

}  // namespace

void ReportRefusal(const char* reason) { refusal = reason; }

const Operator& MseLossV2Grad() {
  static const Operator op = {
      {{mse_loss_v2_grad_2201_float, mse_loss_v2_grad_2201_half, mse_loss_v2_grad_2201_bfloat16_t},
       {mse_loss_v2_grad_2002_float, mse_loss_v2_grad_2002_half, nullptr},
       {mse_loss_v2_grad_3510_float, mse_loss_v2_grad_3510_half, mse_loss_v2_grad_3510_bfloat16_t}},
      ops::ModelDefinitionOfMseLossV2Grad().ai_core.tiling};
  return op;
}

void UseChip(Chip chip, Request* request) {
  request->chip = chip;
  const ChipFacts& facts = FactsOf(*request);
  request->vector_cores = facts.cores;
  request->ub_bytes = facts.ub_bytes;
  request->l2_bytes = facts.l2_bytes;
}

std::string Tile(const Operator& op, const Request& request, MseLossV2GradTilingData* tiling,
                 uint32_t* blocks) {
  fe::PlatFormInfos platform = PlatformOf(request);
  gert::TilingContext context = ContextOf(request, &platform);
  refusal.clear();
  if (op.tiling(&context) != ge::GRAPH_SUCCESS) {
    return refusal.empty() ? "tiling failed without a reason" : refusal;
  }
  std::memcpy(tiling, context.tiling.data(), sizeof *tiling);
  *blocks = context.block_dim;
  return "";
}

Outcome RunOperator(const Operator& op, const Request& request) {
  Outcome outcome;
  fe::PlatFormInfos platform = PlatformOf(request);
  gert::TilingContext context = ContextOf(request, &platform);
  refusal.clear();
  if (op.tiling(&context) != ge::GRAPH_SUCCESS) {
    outcome.error = refusal.empty() ? "tiling failed without a reason" : refusal;
    return outcome;
  }
  outcome.blocks = context.block_dim;
  try {
    if (context.block_dim < 1 || context.block_dim > std::min(request.vector_cores, 65535U)) {
      throw Violation(18, std::to_string(context.block_dim) + " blocks for " +
                              std::to_string(request.vector_cores) + " vector cores");
    }
    if (context.workspaces.size() != 1 || context.workspaces[0] != 0) {
      throw Violation(18, "a workspace was requested");
    }
    RunBlocks(op, request, &context, &outcome);
  } catch (const Violation& violation) {
    outcome.error = violation.what();
    outcome.rule = violation.rule;
  }
  return outcome;
}

std::string Run(const Request& request, Counters* counters) {
  const Outcome outcome = RunOperator(MseLossV2Grad(), request);
  if (counters != nullptr) {
    *counters = outcome.counters;
  }
  return outcome.error;
}

}  // namespace ascend_model
