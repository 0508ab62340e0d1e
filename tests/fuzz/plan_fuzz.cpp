// libFuzzer harness of the C++ operators: any call either has an error that the rules explain and changes no
// byte, or the exact bits of the scalar oracle in the elements of its outputs and changes no other byte.
#include "tests/fuzz/plan_case.h"
#include "tests/support/weighted.h"

namespace fuzz {
namespace {

using mseloss::Code;
using mseloss::PartialSum;
using mseloss::Status;
using weighted::Slice;

const char* const kCounts[] = {"plans",         "accepted",    "refused", "grad",  "loss",
                               "loss_and_grad", "partial_sum", "explain", "digits"};
Tally<9> tally(kCounts);

Arena* arenas() {
  static Arena all[kRoles];
  return all;
}

const ConstTensor* weight_of(const Case& c, ConstTensor* storage) {
  if (!c.weighted) return nullptr;
  *storage = c.views[kW].input();
  return storage;
}

// grad() with a weight: the scale of a mean is 2 / sum(w) over the broadcast shape.
oracle::Bits weighted_grad(const Case& c, const ConstTensor& w, const Shape& all) {
  const ConstTensor g = c.views[kG].input(), x = c.views[kX].input(), y = c.views[kY].input();
  const DType dtype = x.dtype, compute = dtype == DType::kFloat64 ? dtype : DType::kFloat32;
  const bool wide = dtype == DType::kFloat64, masked = w.dtype == DType::kBool;
  const auto multiply = [&](double a, double b) {
    return wide ? a * b : static_cast<double>(static_cast<float>(a) * static_cast<float>(b));
  };
  Slice slice;
  for (int64_t i = 0, n = oracle::count_of(all); i < n; ++i) slice.add(0, weighted::weight_at(&w, all, i));
  const double scale = slice.scale(c.reduction, compute);
  return oracle::each(all, [&](int64_t i) {
    const double xi = oracle::value_at(x, all, i), yi = oracle::value_at(y, all, i);
    const double d = wide ? oracle::difference<double>(xi, yi) : oracle::difference<float>(xi, yi);
    const double wi = weighted::weight_at(&w, all, i), gi = oracle::value_at(g, all, i);
    const double r = masked && wi == 0 ? 0 : multiply(multiply(d, scale), multiply(wi, gi));
    return oracle::encode(c.views[kGradOut].dtype, oracle::decode(dtype, oracle::encode(dtype, r)));
  });
}

weighted::Reference reference(const Case& c, const Shape& all) {
  ConstTensor storage;
  const ConstTensor* w = weight_of(c, &storage);
  const ConstTensor x = c.views[kX].input(), y = c.views[kY].input(), g = c.views[kG].input();
  if (c.op == Operator::kGrad) {
    if (w != nullptr) return {{}, weighted_grad(c, *w, all)};
    return {{}, oracle::grad(g, x, y, c.reduction, c.views[kGradOut].dtype)};
  }
  const View& loss = c.views[kLossOut];
  return weighted::reference(x, y, w, c.used[kG] ? &g : nullptr, c.reduction, loss.shape, loss.dtype,
                             c.views[kGradOut].dtype);
}

Status call(const Case& c) {
  const View* v = c.views;
  const ConstTensor g = v[kG].input(), x = v[kX].input(), y = v[kY].input(), w = v[kW].input();
  const Tensor grad = v[kGradOut].output(), loss = v[kLossOut].output();
  switch (c.op) {
    case Operator::kGrad:
      return c.weighted ? mseloss::grad(g, x, y, w, c.reduction, grad, c.options)
                        : mseloss::grad(g, x, y, c.reduction, grad, c.options);
    case Operator::kLoss:
      return c.weighted ? mseloss::loss(x, y, w, c.reduction, loss, c.options)
                        : mseloss::loss(x, y, c.reduction, loss, c.options);
    default:
      return c.weighted ? mseloss::loss_and_grad(x, y, w, c.reduction, g, loss, grad, c.options)
                        : mseloss::loss_and_grad(x, y, c.reduction, g, loss, grad, c.options);
  }
}

// The elements of an output must equal `expected`; they are then part of the remembered state.
void require_elements(Case& c, int role, const oracle::Bits& expected) {
  const View& out = c.views[role];
  for (size_t i = 0; i < expected.size(); ++i) {
    char* at = out.data + oracle::offset_of(out.shape, out.strides, out.shape, static_cast<int64_t>(i)) *
                              mseloss::size_of(out.dtype);
    const uint64_t actual = oracle::load(out.dtype, at);
    FUZZ_REQUIRE(oracle::same(out.dtype, actual, expected[i]), "%s element %zu: %s, not %s\n%s",
                 kRoleNames[role], i, cases::text_of(out.dtype, actual).c_str(),
                 cases::text_of(out.dtype, expected[i]).c_str(), describe(c).c_str());
    std::memcpy(out.arena->remembered(at), at, static_cast<size_t>(mseloss::size_of(out.dtype)));
  }
}

void require_no_other_change(Case& c) {
  for (int role = 0; role < kRoles; ++role) {
    const char* changed = arenas()[role].difference();
    FUZZ_REQUIRE(changed == nullptr, "byte %p in the arena of %s\n%s", static_cast<const void*>(changed),
                 kRoleNames[role], describe(c).c_str());
  }
}

void require_code(Case& c, const Status& status, uint32_t errors) {
  const bool expected = errors == 0 ? status.ok() : errors >> static_cast<int>(status.code()) & 1;
  FUZZ_REQUIRE(expected, "code %d (%s), expected one of 0x%x\n%s", static_cast<int>(status.code()),
               status.message(), errors, describe(c).c_str());
  ++tally[status.ok() ? 1 : 2];
}

void run_operator(Case& c, uint32_t errors) {
  weighted::Reference expected;
  Shape all;
  if (errors == 0 && broadcast_shape(c, &all)) expected = reference(c, all);
  require_code(c, call(c), errors);
  if (c.used[kGradOut]) require_elements(c, kGradOut, expected.grad);
  if (c.used[kLossOut]) require_elements(c, kLossOut, expected.loss);
  require_no_other_change(c);
}

struct Parts {
  PartialSum total;
  std::vector<PartialSum> each;
  Slice exact;
};

void add_reference(const Case& c, bool divisor_only, Slice* slice) {
  Case copy = c;
  Shape all;
  broadcast_shape(copy, &all);
  ConstTensor storage;
  const ConstTensor* w = weight_of(c, &storage);
  const ConstTensor x = c.views[kX].input(), y = c.views[kY].input();
  const bool wide = oracle::promoted_dtype(x.dtype, y.dtype) == DType::kFloat64;
  for (int64_t i = 0, n = oracle::count_of(all); i < n; ++i) {
    const double wi = weighted::weight_at(w, all, i);
    if (w != nullptr && w->dtype == DType::kBool && wi == 0) continue;
    if (divisor_only) {
      if (std::isfinite(wi)) {
        slice->weights.add(wi);
      } else {
        slice->weight_special += wi;
      }
      continue;
    }
    const double xi = oracle::value_at(x, all, i), yi = oracle::value_at(y, all, i);
    slice->add(wide ? oracle::difference<double>(xi, yi) : oracle::difference<float>(xi, yi), wi);
  }
}

// One part, added in one of four ways.
void add_part(Case& c, uint32_t errors, Parts* parts) {
  const int how = c.input->below(8);
  const auto mode = how % 2 == 0 ? PartialSum::Mode::kFast : PartialSum::Mode::kExact;
  const ConstTensor x = c.views[kX].input(), y = c.views[kY].input();
  ConstTensor storage;
  const ConstTensor* w = weight_of(c, &storage);
  const bool divisor_only = how >= 6, with_grad = c.used[kGradOut] && how >= 4 && !divisor_only;
  // Without grad_input in the call, it cannot be wrong.
  if (!with_grad && c.used[kGradOut]) {
    Case without = c;
    without.used[kG] = without.used[kGradOut] = false;
    errors = expected_errors(without);
  }
  Slice before = parts->exact;
  if (errors == 0) add_reference(c, divisor_only, &parts->exact);
  PartialSum part;
  Status status;
  if (with_grad) {
    weighted::Reference expected;
    const ConstTensor g = c.views[kG].input();
    if (errors == 0)
      expected = weighted::reference(x, y, w, &g, Reduction::kSum, Shape(), DType::kFloat64,
                                     c.views[kGradOut].dtype);
    status = part.add_with_grad(x, y, w, 2, g, c.views[kGradOut].output(), c.options);
    require_code(c, status, errors);
    require_elements(c, kGradOut, expected.grad);
  } else if (divisor_only) {
    status = part.add_divisor(x, y, w, mode, c.options);
    // It reads no input, so these may be null.
    if (status.ok() && errors == 1u << static_cast<int>(Code::kNullPointer)) {
      parts->exact = before;
      return;
    }
    require_code(c, status, errors);
  } else {
    status = w == nullptr ? part.add(x, y, mode, c.options) : part.add(x, y, *w, mode, c.options);
    require_code(c, status, errors);
  }
  require_no_other_change(c);
  parts->total.merge(part);
  parts->each.push_back(part);
}

void require_finish(Case& c, const PartialSum& sum, const Slice& exact, Reduction reduction, DType to) {
  uint64_t out = 0;
  if (!sum.finish(reduction, to, &out)) {
    FUZZ_REQUIRE(!sum.exact() || reduction == Reduction::kNone, "finish of an exact sum\n%s",
                 describe(c).c_str());
    return;
  }
  const uint64_t expected = oracle::encode(to, exact.rounded(reduction, oracle::format_of(to)));
  FUZZ_REQUIRE(oracle::same(to, oracle::load(to, &out), expected), "finish: %s, not %s\n%s",
               cases::text_of(to, oracle::load(to, &out)).c_str(), cases::text_of(to, expected).c_str(),
               describe(c).c_str());
}

void run_partial_sum(Case& c, uint32_t errors) {
  Parts parts;
  for (int count = 1 + c.input->below(4); count > 0; --count) add_part(c, errors, &parts);
  if (parts.each.empty()) return;
  const Reduction reduction = static_cast<Reduction>(c.input->below(3));
  const DType to = cases::kDTypes[c.input->below(4)];
  require_finish(c, parts.total, parts.exact, reduction, to);
  double scale = 0;
  if (parts.total.scale(reduction, to, &scale)) {
    const DType compute = to == DType::kFloat64 ? to : DType::kFloat32;
    const bool none = reduction == Reduction::kMean && parts.total.count() == 0;
    const double expected = none ? 0 : parts.exact.scale(reduction, compute);
    FUZZ_REQUIRE(scale == expected || (std::isnan(scale) && std::isnan(expected)), "scale %a, not %a\n%s",
                 scale, expected, describe(c).c_str());
  }
  // The sum of the parts' digits is the sum of the parts.
  const DType wire = c.input->byte() < 128 ? DType::kFloat64 : to;
  std::vector<int32_t> digits(static_cast<size_t>(PartialSum::digit_count(wire))), sum(digits.size());
  for (const PartialSum& part : parts.each) {
    if (!part.encode(wire, digits).ok()) return;
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += digits[i];
  }
  PartialSum decoded;
  const Status status = decoded.decode(sum);
  FUZZ_REQUIRE(status.ok(), "decode: %s\n%s", status.message(), describe(c).c_str());
  require_finish(c, decoded, parts.exact, reduction, to);
}

// Digits that no sum wrote: decode() refuses them or gives a sum that can be used.
void run_digits(Case& c) {
  const DType dtype = cases::kDTypes[c.input->below(2) * 3];
  std::vector<int32_t> digits(static_cast<size_t>(PartialSum::digit_count(dtype)));
  PartialSum sum;
  if (c.input->below(2) == 0) {  // those of an empty sum, some of them changed
    FUZZ_REQUIRE(sum.encode(dtype, digits).ok(), "encode");
  } else {
    for (int32_t& digit : digits) digit = static_cast<int32_t>(c.random.bits() >> c.random.range(32, 63));
  }
  for (int changes = 0; changes < 40 && !c.input->empty(); ++changes) {
    const size_t at = static_cast<size_t>(c.input->byte()) * 256 + c.input->byte();
    digits[at % digits.size()] = static_cast<int32_t>(c.input->word() >> c.input->below(64));
  }
  if (c.input->rarely()) digits.resize(digits.size() - 1);
  const Status status = sum.decode(digits);
  ++tally[status.ok() ? 1 : 2];
  if (!status.ok()) {
    FUZZ_REQUIRE(status.code() == Code::kDigits || status.code() == Code::kShape, "%s", status.message());
    FUZZ_REQUIRE(sum.count() == 0, "changed by words that were refused");
    return;
  }
  double out = 0;
  PartialSum twice = sum;
  twice.merge(sum);
  for (const PartialSum& each : {sum, twice}) {
    (void)each.finish(Reduction::kMean, DType::kFloat32, &out);
    (void)each.finish(Reduction::kSum, DType::kFloat64, &out);
    (void)each.scale(Reduction::kMean, DType::kFloat32, &out);
    (void)each.encode(DType::kFloat64, digits);
  }
}

void run_explain(Case& c, uint32_t errors) {
  const View* v = c.views;
  const std::string text = mseloss::explain(v[kG].input(), v[kX].input(), v[kY].input(), c.reduction,
                                            v[kGradOut].output(), c.options);
  const bool refused = text.find("expected") != std::string::npos;
  FUZZ_REQUIRE(!text.empty(), "no text\n%s", describe(c).c_str());
  FUZZ_REQUIRE(c.wild ? refused || errors == 0 : refused == (errors != 0), "%s, errors 0x%x\n%s",
               text.c_str(), errors, describe(c).c_str());
  ++tally[refused ? 2 : 1];
  if (!c.wild) require_no_other_change(c);
}

}  // namespace
}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fuzz;
  Input input(data, size);
  Case c;
  decode(input, arenas(), &c);
  FUZZ_REQUIRE(mseloss::set_target(c.target).ok(), "target %s", c.target);
  ++tally[0];
  ++tally[3 + static_cast<int>(c.op)];
  const uint32_t errors = expected_errors(c);
  switch (c.op) {
    case Operator::kPartialSum:
      run_partial_sum(c, errors);
      break;
    case Operator::kDigits:
      run_digits(c);
      break;
    case Operator::kExplain:
      run_explain(c, errors);
      break;
    default:
      run_operator(c, errors);
  }
  return 0;
}
