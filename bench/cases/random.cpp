// Cases with random layouts: shapes, dimension orders, slices, steps and broadcasts.
#include <algorithm>
#include <numeric>
#include <random>

#include "bench/cases/case.h"

namespace bench {

std::vector<Case> random_cases(int count, unsigned seed) {
  constexpr DType kDTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64};
  std::mt19937_64 random(seed);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  std::vector<Case> cases;
  while (static_cast<int>(cases.size()) < count) {
    // About 1, 2 or 4 M elements, distributed over 1 to 5 dimensions in factors of 2 to 8.
    const auto rank = static_cast<size_t>(1 + below(5));
    Shape shape(rank, 1);
    const int64_t wanted = 1 << (20 + below(3));
    for (int64_t left = wanted; left > 1;) {
      const auto d = static_cast<size_t>(below(static_cast<int64_t>(rank)));
      const int64_t factor = std::min<int64_t>(left, 2 + below(7));
      shape[d] *= factor;
      left /= factor;
    }
    const auto view = [&](bool output) {
      std::vector<int> order(rank);
      std::iota(order.begin(), order.end(), 0);
      if (below(2) == 0) std::shuffle(order.begin(), order.end(), random);
      Shape own = shape, memory = shape;
      for (size_t d = 0; d < rank; ++d) {
        if (!output && below(4) == 0) own[d] = memory[d] = 1;  // broadcast
        if (below(8) == 0) memory[d] += 1 + below(5);          // slice of a larger tensor
      }
      View v = permuted(memory, order);
      v.shape = own;
      if (below(10) == 0) {
        for (int64_t& stride : v.strides) stride *= 2;
      }
      return v;
    };
    const DType dtype = kDTypes[below(4)];
    View out = view(true), y = view(false), x = view(false), g = view(false);
    Case c = make_case("random", Op::kGrad, dtype, "random/" + std::to_string(cases.size()), std::move(g),
                       std::move(x), std::move(y), std::move(out));
    c.reduction = below(2) == 0 ? Reduction::kMean : Reduction::kNone;
    c.seconds = 0.02;
    // If no input has the full extent of a dimension, input becomes dense with the full shape.
    for (size_t d = 0; d < rank; ++d) {
      if (c.view[kG].shape[d] == 1 && c.view[kX].shape[d] == 1 && c.view[kY].shape[d] == 1)
        c.view[kX] = dense(shape);
    }
    if (std::ranges::all_of(c.view, [&](const View& v) { return required_bytes(v, dtype) <= (256 << 20); }))
      cases.push_back(std::move(c));
  }
  return cases;
}

}  // namespace bench
