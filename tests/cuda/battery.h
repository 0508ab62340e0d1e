// Calls that together exercise every kernel and every path between them, on the model, against the oracle.
// The tests run them on the shipped kernels for many schedules, and on variants with seeded defects.
#pragma once

#include <sys/mman.h>

#include <functional>

#include "cuda/model/model.h"
#include "plan/plan.h"
#include "tests/support/weighted.h"

namespace battery {

using namespace cases;
using mseloss::Buffers;
using mseloss::Plan;
using mseloss::cuda::model::Machine;
using mseloss::cuda::model::Table;

// Empty if the call gave the expected bits and touched nothing else.
inline std::string text_of(const testing::AssertionResult& result) { return result ? "" : result.message(); }

class Runner {
 public:
  explicit Runner(const Table& table) : table_(table) {}

  std::string grad(Operand& g, Operand& x, Operand& y, Reduction reduction, Operand& out) const {
    const auto expected = oracle::grad(g.view(), x.view(), y.view(), reduction, out.dtype());
    const Bytes before = out.storage();
    Plan plan;
    Status status = mseloss::make_grad_plan(g.view(), x.view(), y.view(), reduction, out.tensor(), &plan);
    plan.holds_unit_gradient = holds_unit_gradient;
    const Buffers buffers{g.view().data, x.view().data, y.view().data, out.tensor().data, nullptr};
    if (status.ok()) status = mseloss::cuda::model::run(table_, plan, buffers, options);
    return status.ok() ? text_of(holds(out, expected, before)) : status.message();
  }

  std::string loss(Operand& x, Operand& y, Operand* w, Reduction reduction, Operand& out) const {
    const ConstTensor weight = w == nullptr ? ConstTensor() : w->view();
    const ConstTensor* const given = w == nullptr ? nullptr : &weight;
    const auto expected = reduction == Reduction::kNone && w == nullptr
                              ? oracle::loss(x.view(), y.view(), out.dtype())
                              : weighted::reference(x.view(), y.view(), given, nullptr, reduction,
                                                    out.shape(), out.dtype(), DType::kFloat32)
                                    .loss;
    const Bytes before = out.storage();
    Plan plan;
    Status status = mseloss::make_loss_plan(x.view(), y.view(), reduction, out.tensor(), &plan, {},
                                            mseloss::LossRounding::kOnce, given);
    const Buffers buffers{nullptr,           x.view().data,     y.view().data,
                          out.tensor().data, out.tensor().data, weight.data};
    if (status.ok()) status = mseloss::cuda::model::run(table_, plan, buffers, options);
    return status.ok() ? text_of(holds(out, expected, before)) : status.message();
  }

  std::string both(Operand& x, Operand& y, Operand* w, Operand& g, Reduction reduction, Operand& loss_out,
                   Operand& out) const {
    const ConstTensor weight = w == nullptr ? ConstTensor() : w->view(), gv = g.view();
    const ConstTensor* const given = w == nullptr ? nullptr : &weight;
    const auto expected = weighted::reference(x.view(), y.view(), given, &gv, reduction, loss_out.shape(),
                                              loss_out.dtype(), out.dtype());
    const Bytes before = out.storage(), loss_before = loss_out.storage();
    Plan plan;
    Status status = mseloss::make_loss_and_grad_plan(x.view(), y.view(), reduction, gv, loss_out.tensor(),
                                                     out.tensor(), &plan, {}, given);
    const Buffers buffers{gv.data,           x.view().data,          y.view().data,
                          out.tensor().data, loss_out.tensor().data, weight.data};
    if (status.ok()) status = mseloss::cuda::model::run(table_, plan, buffers, options);
    if (!status.ok()) return status.message();
    const std::string wrong = text_of(holds(loss_out, expected.loss, loss_before));
    return wrong.empty() ? text_of(holds(out, expected.grad, before)) : wrong;
  }

  // A PartialSum over the operands: the state of its fast sum, or the exact sum. Either has the reference's
  // rounded value, unless a fast sum is undecided.
  std::string partial(Operand& x, Operand& y, Operand* w, bool exact, DType to) const {
    const ConstTensor weight = w == nullptr ? ConstTensor() : w->view();
    const ConstTensor* const given = w == nullptr ? nullptr : &weight;
    double none = 0;
    Plan plan;
    Status status = mseloss::make_loss_plan(x.view(), y.view(), Reduction::kSum, {&none, DType::kFloat64},
                                            &plan, {}, mseloss::LossRounding::kOnce, given);
    const Buffers buffers{nullptr, x.view().data, y.view().data, &none, nullptr, weight.data};
    mseloss::PartialSum sum;
    if (status.ok()) {
      status = mseloss::cuda::model::sum(table_, plan, buffers, {exact, false}, options,
                                         mseloss::SumAccess::target(&sum));
    }
    if (!status.ok()) return status.message();
    if (!mseloss::SumAccess::is_valid(sum)) return "the state of a partial sum is inconsistent";
    if (sum.count() != 0 && sum.exact() != exact) return "a partial sum is of the other mode";
    for (const Reduction reduction : {Reduction::kSum, Reduction::kMean}) {
      const auto expected =
          weighted::reference(x.view(), y.view(), given, nullptr, reduction, {}, to, DType::kFloat32);
      uint64_t bits = 0;
      const bool decided = sum.finish(reduction, to, &bits);
      if (!decided && exact) return "an exact partial sum is undecided";
      if (decided && !oracle::same(to, oracle::load(to, &bits), expected.loss[0])) {
        return "a partial sum is wrong";
      }
    }
    return {};
  }

  Options options;
  bool holds_unit_gradient = false;

 private:
  const Table& table_;
};

struct Shapes {
  Random random{7};
  // Chunk-aligned: the dense kernels take it.
  Operand dense(DType dtype, Shape shape, Values values, bool output = false) {
    Operand operand(random, dtype, std::move(shape), cases::Layout::kDense, output, kCacheLineAligned);
    operand.fill(random, values);
    return operand;
  }
  Operand mask(Shape shape) {
    Operand operand(random, DType::kBool, std::move(shape), cases::Layout::kDense);
    for (int64_t i = 0; i < oracle::count_of(operand.shape()); ++i) {
      oracle::store(DType::kBool, operand.at(i), random.chance(70));
    }
    return operand;
  }
  Operand any(DType dtype, Shape shape, cases::Layout layout, Values values, bool output = false) {
    Operand operand(random, dtype, std::move(shape), layout, output);
    operand.fill(random, values);
    return operand;
  }
};

using Finding = std::string;

inline Finding dense_elements(const Runner& run, int64_t count) {
  Shapes make;
  for (const DType dtype : kDTypes) {
    for (const Values values : {Values::kUnit, Values::kSpecial}) {
      Operand g = make.dense(dtype, {}, Values::kUnit), x = make.dense(dtype, {count}, values);
      Operand y = make.dense(dtype, {count}, values), out = make.dense(dtype, {count}, values, true);
      if (auto f = run.grad(g, x, y, Reduction::kMean, out); !f.empty()) return f;
      if (auto f = run.loss(x, y, nullptr, Reduction::kNone, out); !f.empty()) return f;
      Operand gs = make.dense(dtype, {count}, values), loss = make.dense(dtype, {count}, values, true);
      if (auto f = run.both(x, y, nullptr, gs, Reduction::kNone, loss, out); !f.empty()) return f;
    }
  }
  return {};
}

// Rows of whole chunks: a target that is broadcast over the rows, and one with an element per row.
inline Finding rows(const Runner& run, int64_t count, int64_t columns) {
  Shapes make;
  for (const DType dtype : kDTypes) {
    const Shape shape{3, count, columns};
    Operand g = make.dense(dtype, {3, count, 1}, Values::kUnit), x = make.dense(dtype, shape, Values::kUnit);
    Operand y = make.dense(dtype, {columns}, Values::kUnit),
            each = make.dense(dtype, {count, 1}, Values::kUnit);
    Operand out = make.dense(dtype, shape, Values::kUnit, true),
            loss = make.dense(dtype, shape, Values::kUnit, true);
    if (auto f = run.grad(g, x, y, Reduction::kMean, out); !f.empty()) return f;
    if (auto f = run.loss(x, each, nullptr, Reduction::kNone, loss); !f.empty()) return f;
    if (auto f = run.both(x, y, nullptr, g, Reduction::kNone, loss, out); !f.empty()) return f;
  }
  return {};
}

inline Finding in_place(const Runner& run) {
  Shapes make;
  Operand g = make.dense(DType::kFloat32, {}, Values::kUnit),
          y = make.dense(DType::kFloat32, {3000}, Values::kUnit);
  Operand x = make.dense(DType::kFloat32, {3000}, Values::kUnit, true);
  if (auto f = run.grad(g, x, y, Reduction::kSum, x); !f.empty()) return f;
  Operand loss = make.dense(DType::kFloat32, {}, Values::kUnit, true);
  return run.both(x, y, nullptr, g, Reduction::kMean, loss, x);
}

// A gradient that `out` holds for a grad_output of 1: it is left as it is for 1 and computed for any other.
inline Finding held_gradients(const Table& table, DType dtype) {
  Runner run(table);
  run.holds_unit_gradient = true;
  Shapes make;
  using cases::Layout;
  const double factors[] = {1, 3, dtype == DType::kFloat64 ? 1 + 0x1p-40 : 1 + 0x1p-7};
  for (const Layout layout : {Layout::kDense, Layout::kSliced}) {
    for (const Shape& shape : {Shape{5000}, Shape{40, 64}}) {
      for (const double factor : factors) {
        Operand g = make.dense(dtype, {}, Values::kUnit), y = make.any(dtype, shape, layout, Values::kUnit);
        oracle::store(dtype, g.at(0), oracle::encode(dtype, factor));
        Operand x = make.dense(dtype, shape, Values::kUnit),
                out = make.dense(dtype, shape, Values::kUnit, true);
        const Bytes before = out.storage();
        Finding finding = run.grad(g, x, y, Reduction::kMean, out);
        if (factor == 1) finding = out.storage() == before ? "" : "a gradient that is there is written again";
        if (!finding.empty()) return finding;
      }
    }
  }
  return {};
}

inline Finding partial_sums(const Runner& run, int64_t count) {
  Shapes make;
  for (const DType dtype : kDTypes) {
    for (const bool exact : {false, true}) {
      Operand x = make.dense(dtype, {count}, Values::kUnit), y = make.dense(dtype, {count}, Values::kUnit);
      Operand w = make.dense(dtype, {count}, Values::kUnit);
      Operand mask = make.mask({count});
      for (Operand* weight : {static_cast<Operand*>(nullptr), &w, &mask}) {
        if (auto f = run.partial(x, y, weight, exact, dtype); !f.empty()) return f;
      }
    }
  }
  return {};
}

inline Finding any_layout(const Runner& run, int cases_count, uint64_t seed) {
  Shapes make{Random(seed)};
  for (int i = 0; i < cases_count; ++i) {
    const DType dtype = make.random.pick(kDTypes), to = make.random.pick(kDTypes);
    const Shape shape = random_shape(make.random, 600);
    const auto layout = [&] { return make.random.pick(kLayouts); };
    Operand g = make.any(dtype, shape, layout(), Values::kUnit);
    Operand x = make.any(dtype, shape, layout(), Values::kSpecial),
            y = make.any(dtype, shape, layout(), Values::kUnit);
    Operand out = make.any(to, shape, cases::Layout::kAny, Values::kUnit, true);
    if (auto f = run.grad(g, x, y, make.random.pick(kReductions), out); !f.empty()) return f;
    Operand w = make.any(make.random.chance(30) ? DType::kBool : dtype, shape, layout(), Values::kUnit);
    Shape kept = shape;
    for (int64_t& extent : kept) {
      if (make.random.chance(50)) extent = 1;
    }
    if (make.random.chance(30)) kept.clear();
    const Reduction reduction = make.random.chance(50) ? Reduction::kMean : Reduction::kSum;
    Operand sum = make.any(to, kept, cases::Layout::kAny, Values::kUnit, true);
    if (auto f = run.loss(x, y, make.random.chance(60) ? &w : nullptr, reduction, sum); !f.empty()) return f;
    Operand gs = make.any(dtype, kept, cases::Layout::kAny, Values::kUnit);
    if (auto f = run.both(x, y, make.random.chance(60) ? &w : nullptr, gs, reduction, sum, out); !f.empty())
      return f;
  }
  return {};
}

inline Finding transposed(const Runner& run, DType dtype, int64_t rows, int64_t columns) {
  Shapes make;
  const Shape shape{rows, columns};
  Operand g = make.dense(dtype, {}, Values::kUnit),
          x = make.any(dtype, shape, cases::Layout::kDense, Values::kUnit);
  Operand y = make.any(dtype, shape, cases::Layout::kTransposed, Values::kUnit);
  Operand out = make.any(dtype, shape, cases::Layout::kDense, Values::kUnit, true);
  if (auto f = run.grad(g, x, y, Reduction::kSum, out); !f.empty()) return f;
  Operand turned = make.any(DType::kFloat64, shape, cases::Layout::kTransposed, Values::kUnit, true);
  Operand gs = make.any(dtype, shape, cases::Layout::kDense, Values::kUnit);
  if (auto f = run.grad(gs, x, x, Reduction::kSum, turned); !f.empty()) return f;
  return run.grad(gs, x, y, Reduction::kMean, turned);
}

// The sum of `count` squares, dense and strided, decided by the fast sweep or not.
inline Finding whole_sums(const Runner& run, int64_t count) {
  Shapes make;
  for (const DType dtype : kDTypes) {
    for (const Values values : {Values::kUnit, Values::kWide}) {
      for (const DType to : {dtype, DType::kFloat64, DType::kFloat16}) {
        Operand x = make.dense(dtype, {count}, values), y = make.dense(dtype, {count}, Values::kUnit);
        Operand out = make.dense(to, {}, values, true);
        if (auto f = run.loss(x, y, nullptr, Reduction::kMean, out); !f.empty()) return f;
        Operand g = make.dense(dtype, {}, Values::kUnit), grad = make.dense(dtype, {count}, values, true);
        if (auto f = run.both(x, y, nullptr, g, Reduction::kSum, out, grad); !f.empty()) return f;
      }
    }
  }
  return {};
}

// A sum that is a tie of float16, which no bound decides: the squares of `count` ones, for odd counts from
// 2049 on.
inline Finding tied_sum(const Runner& run, int64_t count) {
  Shapes make;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
    Operand x = make.dense(dtype, {count}, Values::kUnit), y = make.dense(dtype, {}, Values::kUnit);
    for (int64_t i = 0; i < count; ++i) oracle::store(dtype, x.at(i), oracle::encode(dtype, 1));
    oracle::store(dtype, y.at(0), 0);
    Operand out = make.dense(DType::kFloat16, {}, Values::kUnit, true);
    if (auto f = run.loss(x, y, nullptr, Reduction::kSum, out); !f.empty()) return f;
  }
  return {};
}

// d^2 = 1 and three squares just below half its last place on one thread, which a chain of float64 additions
// loses; the rest of the sum, on other threads, makes it lie between what the chain gives and a tie of
// float32.
inline Finding lost_terms(const Runner& run) {
  Shapes make;
  Operand x = make.dense(DType::kFloat32, {64}, Values::kUnit),
          y = make.dense(DType::kFloat32, {}, Values::kUnit);
  oracle::store(DType::kFloat32, y.at(0), 0);
  const auto put = [&](int64_t i, float v) {
    oracle::store(DType::kFloat32, x.at(i), std::bit_cast<uint32_t>(v));
  };
  for (int64_t i = 0; i < 64; ++i) put(i, 0);
  put(0, 1);
  for (int64_t i = 1; i < 4; ++i) put(i, std::nextafter(std::sqrt(0x1p-53F), 0.0F));
  double rest = 0x1p-24 - 1.25 * 0x1p-52;
  for (int64_t i = 4; i < 64 && rest > 0x1p-57; i += 4) {
    const float root = std::nextafter(static_cast<float>(std::sqrt(rest)), 0.0F);
    put(i, root);
    rest -= static_cast<double>(root) * root;
  }
  Operand out = make.dense(DType::kFloat32, {}, Values::kUnit, true);
  if (auto f = run.partial(x, y, nullptr, false, DType::kFloat32); !f.empty()) return f;
  return run.loss(x, y, nullptr, Reduction::kSum, out);
}

// Sums that start with the exact sweep, of terms of very different magnitudes.
inline Finding exact_sums(const Table& table, int64_t count) {
  Runner run(table);
  run.options.exact = true;
  Shapes make;
  for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
    for (const Values values : {Values::kUnit, Values::kWide, Values::kSpecial}) {
      Operand x = make.dense(dtype, {count}, values), y = make.dense(dtype, {count}, values);
      Operand w = make.dense(dtype, {count}, values), out = make.dense(dtype, {}, values, true);
      for (Operand* weight : {static_cast<Operand*>(nullptr), &w}) {
        if (auto f = run.loss(x, y, weight, Reduction::kSum, out); !f.empty()) return f;
      }
    }
  }
  return {};
}

// 1 + 2^-24 is a tie of float32, which 2^-200 alone breaks: it reaches the sum of a thread between 2^-70 and
// -2^-70, where two float64 have no room for it.
inline Finding spilled_terms(const Table& table) {
  Runner run(table);
  run.options.exact = true;
  Shapes make;
  constexpr int64_t kCount = 5 * 256;
  auto& settings = Machine::current().settings;
  const auto saved = settings.min_terms;
  settings.min_terms = 1 << 20;
  Operand x = make.dense(DType::kFloat32, {kCount}, Values::kUnit),
          w = make.dense(DType::kFloat32, {kCount}, Values::kUnit);
  Operand y = make.dense(DType::kFloat32, {}, Values::kUnit),
          out = make.dense(DType::kFloat32, {}, Values::kUnit, true);
  const auto put = [](Operand& o, int64_t i, float v) {
    oracle::store(DType::kFloat32, o.at(i), std::bit_cast<uint32_t>(v));
  };
  put(y, 0, 0);
  for (int64_t i = 0; i < kCount; ++i) put(x, i, 0), put(w, i, 1);
  const float roots[] = {1, 0x1p-12F, 0x1p-35F, 0x1p-100F, 0x1p-35F};
  for (int64_t i = 0; i < 5; ++i) put(x, 256 * i, roots[i]);
  put(w, 4 * 256, -1);
  Finding finding = run.loss(x, y, &w, Reduction::kSum, out);
  settings.min_terms = saved;
  return finding;
}

// More additions to one cell of the exact sweep than it has room for, by one block.
inline Finding full_cells(const Table& table) {
  Runner run(table);
  run.options.exact = true;
  Shapes make;
  auto& settings = Machine::current().settings;
  const auto saved = settings.min_terms;
  settings.min_terms = 1 << 20;
  constexpr int64_t kCount = 70001;
  Operand x = make.dense(DType::kFloat64, {kCount}, Values::kUnit),
          w = make.dense(DType::kFloat64, {kCount}, Values::kUnit);
  Operand y = make.dense(DType::kFloat64, {}, Values::kUnit);
  oracle::store(DType::kFloat64, y.at(0), 0);
  const double ones = std::nextafter(2.0, 0.0);  // every bit set
  for (int64_t i = 0; i < kCount; ++i) {
    oracle::store(DType::kFloat64, x.at(i), std::bit_cast<uint64_t>(ones));
    oracle::store(DType::kFloat64, w.at(i), std::bit_cast<uint64_t>(1.0));
  }
  Operand out = make.dense(DType::kFloat64, {}, Values::kUnit, true);
  Finding finding = run.loss(x, y, &w, Reduction::kSum, out);
  settings.min_terms = saved;
  return finding;
}

// A float64 gradient just above a tie of float16, which a rounding to float32 in between would make a tie.
inline Finding double_rounding(const Runner& run) {
  Shapes make;
  for (const DType to : {DType::kFloat16, DType::kBFloat16}) {
    Operand x = make.dense(DType::kFloat64, {8}, Values::kUnit),
            zero = make.dense(DType::kFloat64, {}, Values::kUnit);
    Operand half = make.dense(DType::kFloat64, {}, Values::kUnit),
            out = make.dense(to, {8}, Values::kUnit, true);
    const auto put = [](Operand& o, int64_t i, double v) {
      oracle::store(DType::kFloat64, o.at(i), std::bit_cast<uint64_t>(v));
    };
    put(zero, 0, 0);
    put(half, 0, 0.5);
    for (int i = 0; i < 8; ++i)
      put(x, i, (i & 4 ? -1 : 1) * (1 + (to == DType::kFloat16 ? 0x1p-11 : 0x1p-8) + (i % 4 - 1) * 0x1p-40));
    if (auto f = run.grad(half, x, zero, Reduction::kSum, out); !f.empty()) return f;
  }
  return {};
}

// A gradient of more than 2^32 elements in memory that takes no room until it is touched; some blocks run,
// and the first and last elements are checked. Float16, at an address that keeps the dense kernels away if
// `shift` is odd.
inline Finding large(const Table& table, int64_t shift) {
  constexpr int64_t kCount = (int64_t{1} << 32) + 5000, kBytes = 2 * kCount + 64;
  const auto reserve = [] {
    return static_cast<char*>(
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  };
  char *const x = reserve(), *const out = reserve();
  if (x == MAP_FAILED || out == MAP_FAILED) return "no address space";
  const int64_t shape[] = {kCount};
  const uint16_t one = 0x3c00, zero = 0;
  char *const input = x + 2 * shift, *const result = out + 2 * shift;
  for (const int64_t i : {int64_t{0}, kCount - 1}) std::memcpy(input + 2 * i, &one, 2);
  Plan plan;
  auto& settings = Machine::current().settings;
  const auto saved = settings;
  settings.only_blocks = 6;
  settings.max_blocks = int64_t{1} << 30;
  Status status = mseloss::make_grad_plan({&one, DType::kFloat16}, {input, DType::kFloat16, shape},
                                          {&zero, DType::kFloat16}, Reduction::kSum,
                                          {result, DType::kFloat16, shape}, &plan);
  const Buffers buffers{&one, input, &zero, result, nullptr};
  if (status.ok()) status = mseloss::cuda::model::run(table, plan, buffers, {});
  settings = saved;
  Finding finding = status.ok() ? "" : status.message();
  for (const int64_t i : {int64_t{0}, int64_t{1}, kCount - 2, kCount - 1}) {
    uint16_t bits;
    std::memcpy(&bits, result + 2 * i, 2);
    const uint16_t expected = i == 0 || i == kCount - 1 ? 0x4000 : 0;  // 2
    if (finding.empty() && bits != expected) finding = "element " + std::to_string(i) + " is wrong";
  }
  munmap(x, kBytes);
  munmap(out, kBytes);
  return finding;
}

// Rows, columns and few long slices, with weights of either sign or a mask.
inline Finding slices(const Runner& run, int64_t rows, int64_t columns) {
  Shapes make;
  for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
    for (const bool mask : {false, true}) {
      const Shape shape{rows, columns};
      Operand x = make.any(dtype, shape, cases::Layout::kDense, Values::kUnit);
      Operand y = make.any(dtype, {columns}, cases::Layout::kDense, Values::kUnit);
      Operand w = mask ? make.mask(shape) : make.any(dtype, shape, cases::Layout::kDense, Values::kUnit);
      for (const Shape& kept : {Shape{rows, 1}, Shape{1, columns}}) {
        Operand sum = make.any(dtype, kept, cases::Layout::kDense, Values::kUnit, true);
        if (auto f = run.loss(x, y, &w, Reduction::kMean, sum); !f.empty()) return f;
        Operand g = make.any(dtype, kept, cases::Layout::kDense, Values::kUnit);
        Operand grad = make.any(dtype, shape, cases::Layout::kDense, Values::kUnit, true);
        if (auto f = run.both(x, y, &w, g, Reduction::kMean, sum, grad); !f.empty()) return f;
      }
    }
  }
  return {};
}

// The first finding, or an empty string. `thorough` repeats the calls with more schedules and shapes.
inline Finding all(const Table& table, bool thorough) {
  Runner run(table);
  mseloss::cuda::model::Settings& settings = Machine::current().settings;
  const auto saved = settings;
  Finding finding;
  for (uint64_t seed = 1; finding.empty() && seed <= (thorough ? 2 : 1); ++seed) {
    settings.seed = seed;
    settings.multiprocessors = static_cast<int>(seed);
    const std::function<Finding()> calls[] = {
        [&] { return dense_elements(run, 5); },
        [&] { return dense_elements(run, 9003); },
        [&] { return in_place(run); },
        [&] { return held_gradients(table, DType::kFloat32); },
        [&] { return held_gradients(table, DType::kBFloat16); },
        [&] { return held_gradients(table, DType::kFloat64); },
        [&] { return partial_sums(run, 0); },
        [&] { return partial_sums(run, 3000); },
        [&] { return rows(run, 7, 64); },
        [&] { return rows(run, 50, 40); },
        [&] { return transposed(run, DType::kFloat32, 33, 40); },
        [&] { return transposed(run, DType::kFloat64, 16, 70); },
        [&] { return transposed(run, DType::kFloat16, 64, 20); },
        [&] { return double_rounding(run); },
        [&] { return lost_terms(run); },
        [&] { return exact_sums(table, 700); },
        [&] { return spilled_terms(table); },
        [&] { return full_cells(table); },
        [&] { return large(table, 0); },
        [&] { return large(table, 1); },
        [&] { return tied_sum(run, 2049); },
        [&] { return whole_sums(run, 1); },
        [&] { return whole_sums(run, 9001); },
        [&] { return tied_sum(run, 33001); },
        [&] { return slices(run, 7, 300); },
        [&] { return slices(run, 300, 7); },
        [&] { return slices(run, 3, 5000); },
        [&] { return any_layout(run, thorough ? 150 : 40, seed); },
    };
    for (const auto& call : calls) {
      if (finding = call(); !finding.empty()) break;
    }
  }
  settings = saved;
  return finding;
}

}  // namespace battery
