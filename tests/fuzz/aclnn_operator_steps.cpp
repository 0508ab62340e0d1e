// Steps with the operators and their executors, and the results that a run must have.
#include "tests/fuzz/aclnn_machine.h"
#include "tests/support/weighted.h"

namespace fuzz {

mseloss::DType core_dtype(aclDataType dtype) {
  return dtype == ACL_FLOAT     ? mseloss::DType::kFloat32
         : dtype == ACL_FLOAT16 ? mseloss::DType::kFloat16
                                : mseloss::DType::kBFloat16;
}

namespace {

struct Operator {
  int operands;
  decltype(&aclnnMseLoss) run;
  const char* name;
};
const Operator kOperators[] = {{4, aclnnMseLossBackward, "aclnnMseLossBackward"},
                               {3, aclnnMseLoss, "aclnnMseLoss"},
                               {3, aclnnMseLossOut, "aclnnMseLossOut"}};

int first_phase(int op, aclTensor* const* t, int64_t reduction, uint64_t* workspace,
                aclOpExecutor** executor) {
  if (op == 0)
    return aclnnMseLossBackwardGetWorkspaceSize(t[0], t[1], t[2], reduction, t[3], workspace, executor);
  const auto prepare = op == 1 ? aclnnMseLossGetWorkspaceSize : aclnnMseLossOutGetWorkspaceSize;
  return prepare(t[0], t[1], reduction, t[2], workspace, executor);
}

using Operands = std::vector<std::pair<Descriptor, std::shared_ptr<char*>>>;

mseloss::ConstTensor view(const Descriptor& d, const char* data) {
  const mseloss::DType dtype = core_dtype(d.dtype);
  // Without elements the offset may be any number.
  const int64_t offset = std::find(d.shape.begin(), d.shape.end(), 0) == d.shape.end() ? d.offset : 0;
  return {data + offset * mseloss::size_of(dtype), dtype, d.shape, d.strides};
}

// The call must be accepted: plain tensors of one dtype, all of the output's shape.
bool surely_valid(int op, int64_t reduction, const Operands& operands) {
  if (reduction < 0 || reduction > 2) return false;
  for (const auto& [d, data] : operands) {
    if (!d.plain || d.dtype != operands[0].first.dtype) return false;
    const bool scalar = op != 0 && reduction != 0 && &d == &operands.back().first;
    if (scalar ? op == 2 || !d.shape.empty() : d.shape != operands[0].first.shape) return false;
  }
  return true;
}

// No null address, and the output's memory is that of no input.
bool surely_disjoint(const Operands& operands) {
  if (operands.empty()) return false;  // those of another thread's tensors
  const char* const out = *operands.back().second;
  if (out == nullptr) return false;
  for (size_t i = 0; i + 1 < operands.size(); ++i) {
    const char* const in = *operands[i].second;
    if (in == nullptr || (in < out + kStorage && out < in + kStorage)) return false;
  }
  return true;
}

}  // namespace

std::vector<uint64_t> expected_results(const Slot& executor) {
  std::vector<mseloss::ConstTensor> views;
  for (const auto& [d, data] : executor.operands) views.push_back(view(d, *data));
  const auto reduction = static_cast<mseloss::Reduction>(executor.reduction);
  const mseloss::ConstTensor& out = views.back();
  if (executor.op == 0) return oracle::grad(views[0], views[1], views[2], reduction, out.dtype);
  const auto dtype = oracle::promoted_dtype(views[0].dtype, views[1].dtype);
  if (reduction == mseloss::Reduction::kNone) {
    auto bits = oracle::loss(views[0], views[1], dtype);  // rounded to the inputs' dtype first
    for (uint64_t& each : bits) each = oracle::encode(out.dtype, oracle::decode(dtype, each));
    return bits;
  }
  Shape slices;
  if (executor.op == 2) {
    slices = oracle::broadcast({views[0].shape, views[1].shape});
    if (slices.size() <= 1) {
      slices.clear();
    } else {
      slices[0] = 1;
    }
  }
  return weighted::reference(views[0], views[1], nullptr, nullptr, reduction, slices, out.dtype, out.dtype)
      .loss;
}

void Machine::prepare() {
  const int op = in_.below(3), operands = kOperators[op].operands;
  aclTensor* tensors[4] = {};
  Operands used;
  bool live = true;
  for (int i = 0; i < operands; ++i) {
    Slot* slot;
    tensors[i] = static_cast<aclTensor*>(choose(kTensor, &slot));
    live = live && slot != nullptr && slot->live;
    if (live) used.emplace_back(slot->descriptor, slot->data);
  }
  const int64_t reduction = in_.rarely() ? in_.signed_byte() : in_.below(3);
  Slot& executor = slot(kExecutor);
  uint64_t workspace = 77;
  aclOpExecutor *const untouched = reinterpret_cast<aclOpExecutor*>(&workspace), *made = untouched;
  const bool null_result = in_.rarely() && in_.rarely();
  const int code = first_phase(op, tensors, reduction, &workspace, null_result ? nullptr : &made);
  const char* const name = kOperators[op].name;
  const bool valid = live && surely_valid(op, reduction, used);
  if (!live || null_result) {
    expect(code, false, name);
  } else if (valid && surely_disjoint(used)) {
    expect(code, true, name);
  } else {
    done(code, name);
  }
  FUZZ_REQUIRE(code == 0 ? made != nullptr && workspace == 0 : made == untouched && workspace == 77,
               "%s: results after code %d", name, code);
  if (code != 0) return;
  if (executor.live)
    expect(aclDestroyAclOpExecutor(static_cast<aclOpExecutor*>(executor.handle)), true,
           "aclDestroyAclOpExecutor");
  created(kExecutor, executor, made);
  executor.op = op;
  executor.reduction = reduction;
  executor.operands = used;
}

void Machine::launch() {
  Slot *executor, *stream;
  void* const handle = choose(kExecutor, &executor);
  aclrtStream const on = choose_stream(&stream);
  const bool live = executor != nullptr && executor->live, bad_workspace = in_.rarely();
  const int op = live && !in_.rarely() ? executor->op : in_.below(3);
  ++launches;
  const bool may_run = live && op == executor->op && !bad_workspace && usable(stream);
  std::vector<uint64_t> expected;
  const bool compare = alone() && may_run && quiet() &&
                       std::all_of(executor->operands.begin(), executor->operands.end(),
                                   [](const auto& operand) { return *operand.second != nullptr; });
  if (compare) {
    expected = expected_results(*executor);
    for (int i = 0; i < kBuffers; ++i) buffers_[i].remember();
  }
  const int code =
      kOperators[op].run(nullptr, bad_workspace ? 8 : 0, static_cast<aclOpExecutor*>(handle), on);
  if (!may_run) {
    expect(code, false, kOperators[op].name);
  } else if (surely_disjoint(executor->operands)) {
    expect(code, true, kOperators[op].name);
  } else {
    done(code, kOperators[op].name);
  }
  if (live && !executor->repeatable) executor->live = false;
  if (!compare) return;
  expect(aclrtSynchronizeStream(on), true, "aclrtSynchronizeStream");
  ++compared;
  const auto& [d, data] = executor->operands.back();
  const mseloss::ConstTensor out = view(d, *data);
  for (size_t i = 0; code == 0 && i < expected.size(); ++i) {
    const char* at = static_cast<const char*>(out.data) +
                     oracle::offset_of(out.shape, out.strides, out.shape, static_cast<int64_t>(i)) *
                         mseloss::size_of(out.dtype);
    const uint64_t actual = oracle::load(out.dtype, at);
    FUZZ_REQUIRE(oracle::same(out.dtype, actual, expected[i]), "%s element %zu: %s, not %s",
                 kOperators[op].name, i, cases::text_of(out.dtype, actual).c_str(),
                 cases::text_of(out.dtype, expected[i]).c_str());
    for (int b = 0; b < kBuffers; ++b) {
      if (buffers_[b].begin() <= at && at < buffers_[b].end())
        std::memcpy(buffers_[b].remembered(at), at, static_cast<size_t>(mseloss::size_of(out.dtype)));
    }
  }
  for (int b = 0; b < kBuffers; ++b)
    FUZZ_REQUIRE(buffers_[b].difference() == nullptr, "%s: bytes of buffer %d outside the output",
                 kOperators[op].name, b);
}

void Machine::set_repeatable() {
  Slot* executor;
  void* const handle = choose(kExecutor, &executor);
  const bool live = executor != nullptr && executor->live;
  expect(aclSetAclOpExecutorRepeatable(static_cast<aclOpExecutor*>(handle)), live,
         "aclSetAclOpExecutorRepeatable");
  if (live) executor->repeatable = true;
}

void Machine::destroy_executor() {
  Slot* executor;
  void* const handle = choose(kExecutor, &executor);
  const bool live = executor != nullptr && executor->live;
  expect(aclDestroyAclOpExecutor(static_cast<aclOpExecutor*>(handle)), live, "aclDestroyAclOpExecutor");
  if (live) executor->live = false;
}

void Machine::set_address() {
  using Set = decltype(&aclSetTensorAddr);
  using SetInList = decltype(&aclSetDynamicTensorAddr);
  static const Set kSetters[] = {aclSetInputTensorAddr, aclSetOutputTensorAddr, aclSetTensorAddr,
                                 AclSetInputTensorAddr, AclSetOutputTensorAddr, AclSetTensorAddr};
  static const SetInList kListSetters[] = {aclSetDynamicInputTensorAddr,  aclSetDynamicOutputTensorAddr,
                                           aclSetDynamicTensorAddr,       AclSetDynamicInputTensorAddr,
                                           AclSetDynamicOutputTensorAddr, AclSetDynamicTensorAddr};
  Slot *executor, *tensor;
  auto* const handle = static_cast<aclOpExecutor*>(choose(kExecutor, &executor));
  const bool live = executor != nullptr && executor->live;
  const int which = in_.below(6);
  const size_t index = in_.rarely() ? in_.word() : static_cast<size_t>(in_.below(4));
  char* const data = in_.rarely() ? nullptr : address();
  const size_t all = live ? executor->operands.size() : 0;
  const size_t limit = which % 3 == 0 ? all - 1 : which % 3 == 1 ? 1 : all;
  if (in_.below(4) != 0) {
    auto* const target = static_cast<aclTensor*>(choose(kTensor, &tensor));
    const bool ok = live && tensor != nullptr && tensor->live && index < limit;
    expect(kSetters[which](handle, index, target, data), ok, "aclSetTensorAddr");
    if (ok) *tensor->data = data;
    return;
  }
  Slot* list;
  auto* const elements = static_cast<aclTensorList*>(choose(kList, &list));
  const size_t position = static_cast<size_t>(in_.below(4));
  const int code = kListSetters[which](handle, index, position, elements, data);
  const bool in_list = list != nullptr && list->live && position < list->elements.size();
  tensor = nullptr;
  for (Slot& each : slots_[kTensor])
    if (in_list && each.live && each.handle == list->elements[position]) tensor = &each;
  expect(code, live && tensor != nullptr && index < limit, "aclSetDynamicTensorAddr");
  if (code == 0 && tensor != nullptr) *tensor->data = data;
}

}  // namespace fuzz
