#include "tests/fuzz/plan_case.h"

#include <sstream>

namespace fuzz {
namespace {

constexpr Operator kOperators[] = {
    Operator::kGrad,        Operator::kGrad,       Operator::kGrad,        Operator::kLoss,
    Operator::kLoss,        Operator::kLoss,       Operator::kLossAndGrad, Operator::kLossAndGrad,
    Operator::kLossAndGrad, Operator::kPartialSum, Operator::kPartialSum,  Operator::kExplain,
    Operator::kDigits,
};

// A host whose loop runs the tasks backwards on the calling thread, or refuses to run any.
bool serial_loop(void* refuses, int count, void (*task)(void*, int), void* data) {
  if (refuses != nullptr) return false;
  while (count-- > 0) task(data, count);
  return true;
}
int three_threads(void*) { return 3; }
int g_refuses;
const HostThreads kHosts[] = {{&serial_loop, &three_threads, nullptr},
                              {&serial_loop, &three_threads, &g_refuses}};

void decode_options(Input& in, Case* c) {
  const std::vector<std::string>& targets = [] {
    static const std::vector<std::string> all = cases::targets();
    return std::cref(all);
  }();
  c->target = targets[static_cast<size_t>(in.below(static_cast<int>(targets.size())))].c_str();
  const int bits = in.byte();
  c->options.threads = bits % 8;
  c->options.store = static_cast<Options::Store>(bits / 8 % 3);
  c->options.exact = bits / 24 % 3 == 0;
  const int host = in.byte() / 32;
  if (host >= 6) c->options.host_threads = &kHosts[host - 6];
}

DType decode_dtype(Input& in, DType usual, int role) {
  const int choice = in.byte();
  if (role == kW && choice < 100) return DType::kBool;
  if (choice < 190) return usual;
  return static_cast<DType>(choice < 250 ? choice % 4 : choice % 6);  // 4 is bool, 5 is none
}

Shape decode_shape(Input& in, int64_t most_elements) {
  Shape shape(static_cast<size_t>(in.rarely() ? 9 : in.below(9)));
  int64_t left = most_elements;
  for (int64_t& extent : shape) {
    const int choice = in.byte();
    extent = choice < 100   ? 1 + choice % 6
             : choice < 180 ? 1 + choice % 16
             : choice < 230 ? 1 + choice % 40
             : choice < 245 ? 1
             : choice < 249 ? 0
                            : left;
    extent = std::min(extent, left);
    left = std::max<int64_t>(1, left / std::max<int64_t>(extent, 1));
  }
  return shape;
}

void set_ones(Input& in, Shape* shape) {
  const int mask = in.byte();
  for (size_t k = 0; k < shape->size(); ++k)
    if (mask >> k % 8 & 1) (*shape)[k] = 1;
}

// A shape near `all`: mostly one that broadcasts to it.
Shape decode_narrowed(Input& in, Shape all) {
  const int choice = in.byte();
  if (choice < 120) return all;
  if (choice >= 235 && choice < 248) return Shape(static_cast<size_t>(in.below(3)), 1);
  if (choice >= 248) {
    if (all.empty()) return Shape(9, 1);
    all[static_cast<size_t>(in.byte()) % all.size()] += in.signed_byte() / 32;
    return all;
  }
  set_ones(in, &all);
  if (choice >= 200 && !all.empty())
    all.erase(all.begin(), all.begin() + in.below(static_cast<int>(all.size()) + 1));
  return all;
}

void decode_strides(Input& in, View* view) {
  const size_t rank = view->shape.size();
  view->strides.clear();
  const int choice = in.byte();
  if (choice >= 252) {
    view->strides.assign(rank + 1 - static_cast<size_t>(rank != 0 && choice % 2 == 0) * 2, 1);
    return;
  }
  if (choice < 90 || rank == 0) return;
  view->strides.assign(rank, 0);
  if (choice >= 235) {
    for (int64_t& stride : view->strides) stride = in.signed_byte() / 8;
    return;
  }
  std::vector<size_t> order(rank);  // innermost first
  for (size_t k = 0; k < rank; ++k) order[k] = rank - 1 - k;
  if (choice >= 110)
    for (size_t k = rank; k > 1; --k) std::swap(order[k - 1], order[in.byte() % k]);
  const bool gaps = choice >= 150, flips = choice >= 180, zeros = choice >= 210;
  int64_t step = 1;
  for (const size_t k : order) {
    const int how = gaps ? in.byte() : 0;
    if (gaps && how % 4 == 0) step *= 1 + how / 4 % 5;
    view->strides[k] = flips && how / 64 == 1 ? -step : step;
    if (zeros && how / 64 == 2) {
      view->strides[k] = 0;
    } else {
      step *= std::max<int64_t>(view->shape[k], 1);
    }
    if (gaps) step += how / 16 % 3;
  }
}

// Dimensions whose strides do not matter get any.
void decode_unused_strides(Input& in, View* view) {
  if (!view->has_strides() || view->strides.empty() || in.byte() < 200) return;
  const bool empty = std::find(view->shape.begin(), view->shape.end(), 0) != view->shape.end();
  for (size_t k = 0; k < view->shape.size(); ++k)
    if (view->shape[k] <= 1 || empty) view->strides[k] = static_cast<int64_t>(in.word());
}

void decode_wild(Input& in, View* view) {
  for (int64_t& extent : view->shape)
    if (in.byte() >= 128) extent = static_cast<int64_t>(in.word() >> in.below(64));
  for (int64_t& stride : view->strides)
    if (in.byte() >= 128) stride = static_cast<int64_t>(in.word()) >> in.below(64);
  if (in.byte() >= 200) view->data = reinterpret_cast<char*>(in.word());
}

// Moves the view into its arena, or onto the view of an earlier operand.
void decode_place(Input& in, Case* c, int role, Arena* arenas) {
  View& view = c->views[role];
  const int choice = in.byte();
  int64_t low, high;
  std::tie(low, high) = view.reach();
  if (high - low > Arena::kBytes / 2) {
    view.strides.clear();
    if (view.count() > Arena::kBytes / 8) view.shape.clear();
    std::tie(low, high) = view.reach();
  }
  const auto place = [&](Arena& arena, char* at) {
    view.arena = &arena;
    view.data = std::clamp(at, arena.begin() - low, arena.end() - high);
  };
  const int other = in.below(kRoles);
  if (choice >= 225 && c->used[static_cast<size_t>(other)] && other != role &&
      c->views[other].data != nullptr) {
    const View& beside = c->views[other];
    if (choice < 240 && beside.shape == view.shape && !c->wild) {
      view.strides = beside.strides, view.dtype = beside.dtype;
      std::tie(low, high) = view.reach();
      place(*beside.arena, beside.data);
    } else {
      place(*beside.arena, beside.data + in.signed_byte());
    }
    return;
  }
  Arena& own = arenas[role];
  place(own, choice < 120   ? own.end()
             : choice < 200 ? own.begin()
                            : own.begin() + Arena::kBytes / 2 + in.signed_byte());
}

void fill_view(Case* c, View& view, cases::Values values) {
  if (view.data == nullptr || view.dtype > DType::kBool) return;
  for (int64_t i = 0, n = view.count(); i < n; ++i) {
    char* at =
        view.data + oracle::offset_of(view.shape, view.strides, view.shape, i) * mseloss::size_of(view.dtype);
    if (view.dtype == DType::kBool) {
      *at = static_cast<char>(c->random.chance(60) ? c->random.pick({1, 2, 255}) : 0);
    } else {
      oracle::store(view.dtype, at, cases::random_value(c->random, view.dtype, values));
    }
  }
}

}  // namespace

std::pair<int64_t, int64_t> View::reach() const {
  __int128 low = 0, high = 0;
  for (size_t k = 0; k < shape.size(); ++k) {
    if (shape[k] <= 0) return {0, 0};
    if (shape[k] == 1 || (!strides.empty() && !has_strides())) continue;
    const __int128 step = static_cast<__int128>(stride(k)) * (shape[k] - 1);
    (step < 0 ? low : high) += step;
  }
  const int size = mseloss::size_of(dtype);
  constexpr __int128 kMost = int64_t{1} << 60;
  return {static_cast<int64_t>(std::max(low * size, -kMost)),
          static_cast<int64_t>(std::min((high + 1) * size, kMost))};
}

void decode(Input& in, Arena* arenas, Case* c) {
  c->input = &in;
  c->random = cases::Random(in.seed());
  c->op = in.pick(kOperators);
  c->wild = c->op == Operator::kExplain && in.byte() >= 100;
  c->weighted = c->op != Operator::kExplain && in.byte() % 3 == 0;
  c->reduction = static_cast<Reduction>(in.rarely() ? in.byte() : in.below(3));
  decode_options(in, c);
  const bool sum_of_parts = c->op == Operator::kPartialSum;
  const bool grad = c->op != Operator::kLoss && (!sum_of_parts || in.byte() % 2 == 0);
  const bool loss = c->op == Operator::kLoss || c->op == Operator::kLossAndGrad;
  if (sum_of_parts) c->reduction = Reduction::kSum;
  c->used = {grad, true, true, c->weighted, grad, loss};
  const DType usual = cases::kDTypes[in.below(4)];
  // A few cases are large enough for tiles, packing and several threads; the oracle takes a second for the
  // largest.
  const Shape whole = decode_shape(in, in.seed() % 16384 == 0 ? 20000 : in.seed() % 512 == 0 ? 2000 : 200);
  Shape all = whole;
  c->each([&](int role, View& view) {
    view.dtype = decode_dtype(in, usual, role);
    if (role == kG && c->op != Operator::kGrad && c->op != Operator::kExplain && c->sums()) {
      view.shape = Shape(static_cast<size_t>(in.below(3)), 1);  // one element, until there is a loss
    } else if (role < kGradOut) {
      view.shape = decode_narrowed(in, whole);
    }
  });
  broadcast_shape(*c, &all);
  if (c->used[kGradOut]) c->views[kGradOut].shape = in.rarely() ? decode_narrowed(in, all) : all;
  if (loss) {
    Shape& shape = c->views[kLossOut].shape = all;
    if (c->sums()) {
      if (in.byte() < 100) {
        shape.clear();
      } else {
        set_ones(in, &shape);
        if (grad && !in.rarely()) c->views[kG].shape = decode_narrowed(in, shape);
      }
    }
    if (in.rarely()) shape = decode_narrowed(in, shape);
  }
  for (const int role : {kX, kY, kG, kW, kGradOut, kLossOut}) {
    if (!c->used[static_cast<size_t>(role)]) continue;
    View& view = c->views[role];
    view.arena = &arenas[role];
    decode_strides(in, &view);
    decode_place(in, c, role, arenas);
    decode_unused_strides(in, &view);
    if (c->wild) decode_wild(in, &view);
    if (in.rarely() && in.rarely()) view.data = nullptr;
  }
  for (int role = 0; role < kRoles; ++role) arenas[role].reset();
  if (c->wild) return;
  c->each([](int, View& view) {
    if (view.data == nullptr) return;
    const auto [low, high] = view.reach();
    view.arena->cover(view.data + low, view.data + high);
  });
  for (int role = 0; role < kRoles; ++role) arenas[role].randomize(c->random);
  c->each([&](int role, View& view) {
    const cases::Values values = c->random.pick(cases::kValues);
    if (!c->is_output(role) && (view.has_strides() || view.strides.empty())) fill_view(c, view, values);
  });
  for (int role = 0; role < kRoles; ++role) arenas[role].remember();
}

std::string describe(Case& c) {
  static const char* const kNames[] = {"grad", "loss", "loss_and_grad", "PartialSum", "explain", "digits"};
  std::ostringstream text;
  text << kNames[static_cast<int>(c.op)] << ' ' << (c.weighted ? "weighted " : "") << "reduction "
       << static_cast<int>(c.reduction) << " target " << c.target << " threads " << c.options.threads
       << " store " << static_cast<int>(c.options.store) << " exact " << c.options.exact << " host "
       << (c.options.host_threads != nullptr);
  c.each([&](int role, View& view) {
    text << "\n  " << kRoleNames[role] << ": dtype " << static_cast<int>(view.dtype) << " shape (";
    for (const int64_t n : view.shape) text << n << ' ';
    text << ") strides (";
    for (const int64_t n : view.strides) text << n << ' ';
    text << ") at " << static_cast<const void*>(view.data);
  });
  return text.str();
}

}  // namespace fuzz
