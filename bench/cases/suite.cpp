// The fixed cases of the benchmark suite. Identifiers: operator/dtype/layout/size.
#include <sstream>

#include "bench/cases/case.h"

namespace bench {
namespace {

constexpr DType kAll[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64};

View scalar() { return {}; }

Case dense_case(const std::string& group, Op op, DType dtype, const std::string& layout_and_size, int64_t n,
                bool scalar_g) {
  const View all = dense({n});
  return make_case(group, op, dtype, layout_and_size, scalar_g ? scalar() : all, all, all, all);
}

void add_dense(std::vector<Case>* cases, bool quick) {
  // Working sets: bytes of all operands together for the caches, of each operand for memory.
  const struct {
    const char* name;
    int64_t total, each;
  } sizes[] = {{"L2", 1 << 20, 0}, {"L3", 32 << 20, 0}, {"mem", 0, quick ? 64 << 20 : 256 << 20}};
  for (const auto& size : sizes) {
    const bool memory = size.each != 0;
    for (const DType dtype : kAll) {
      const auto add = [&](Op op, const std::string& kind, int operands, bool scalar_g) -> Case& {
        const int64_t bytes = memory ? size.each : size.total / operands;
        const int64_t n = bytes / mseloss::size_of(dtype) / 1024 * 1024;
        cases->push_back(dense_case("dense", op, dtype, kind + "/" + size.name, n, scalar_g));
        cases->back().one_thread = true;
        cases->back().seconds = memory ? 1.2 : 0.4;
        return cases->back();
      };
      add(Op::kGrad, "dense", 4, false);
      add(Op::kGrad, "dense_scalar_grad", 3, true);
      add(Op::kLoss, "mean", 2, true).plain_sum = true;
      add(Op::kFused, "mean", 3, true);
      if (std::string(size.name) == "L2" || (quick && memory)) continue;
      add(Op::kLoss, "mean_exact", 2, true).options.exact = true;
    }
  }
}

void add_curve(std::vector<Case>* cases) {
  for (const DType dtype : kAll) {
    for (int64_t bytes = 256; bytes <= 256 << 20; bytes *= 4) {
      const int64_t n = bytes / mseloss::size_of(dtype);
      cases->push_back(dense_case("curve", Op::kGrad, dtype, "curve/" + std::to_string(n), n, false));
      cases->back().one_thread = true;
      cases->back().seconds = 0.2;
    }
  }
}

void add_broadcast(std::vector<Case>* cases, bool quick) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const int64_t n : {3, 33, 1024, 65536, 1 << 20}) {
      if (quick && (n != 1024 || dtype != DType::kFloat32)) continue;
      const int64_t m = (16 << 20) / n;
      const View all = dense({m, n}), row = dense({1, n}), column = dense({m, 1});
      const std::string size = "/" + std::to_string(m) + "x" + std::to_string(n);
      const auto add = [&](const char* kind, View g, View x, View y) {
        cases->push_back(make_case("broadcast", Op::kGrad, dtype, kind + size, std::move(g), std::move(x),
                                   std::move(y), all));
      };
      add("target_row", all, all, row);
      add("input_row", all, row, all);
      add("target_column", all, all, column);
      add("input_column", all, column, all);
      add("grad_row", row, all, all);
      add("grad_column", column, all, all);
      add("target_scalar", all, all, scalar());
    }
  }
}

void add_transposed(std::vector<Case>* cases, bool quick) {
  for (const DType dtype : kAll) {
    if (quick && dtype != DType::kFloat32 && dtype != DType::kFloat16) continue;
    const View all = dense({4096, 4096}), transposed = permuted({4096, 4096}, {1, 0});
    const auto add = [&](const char* kind, View g, View x, View y, View out) {
      cases->push_back(make_case("transposed", Op::kGrad, dtype, std::string(kind) + "/4096x4096",
                                 std::move(g), std::move(x), std::move(y), std::move(out)));
      cases->back().seconds = 0.8;
    };
    add("square", all, all, all, all);
    add("target_transposed", all, all, transposed, all);
    add("input_transposed", all, transposed, all, all);
    add("out_transposed", all, all, all, transposed);
    add("all_transposed", transposed, transposed, transposed, transposed);
    add("target_row", all, all, dense({1, 4096}), all);
    add("target_column", all, all, dense({4096, 1}), all);
  }
}

void add_permuted(std::vector<Case>* cases, bool quick) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16}) {
    if (quick && dtype != DType::kFloat32) continue;
    const auto add = [&](const std::string& kind, const Shape& shape, const std::vector<int>& order) {
      const View all = dense(shape);
      cases->push_back(make_case("permuted", Op::kGrad, dtype, kind, all, all, permuted(shape, order), all));
    };
    add("target_nhwc/32x64x56x56", {32, 64, 56, 56}, {0, 2, 3, 1});
    add("target_nhwc/64x3x224x224", {64, 3, 224, 224}, {0, 2, 3, 1});
    add("batched_transpose/64x512x512", {64, 512, 512}, {0, 2, 1});
    add("batched_transpose/4096x64x64", {4096, 64, 64}, {0, 2, 1});
    add("batched_transpose/131072x8x16", {131072, 8, 16}, {0, 2, 1});
    const Shape five{16, 32, 8, 24, 40};
    add("5d_43210", five, {4, 3, 2, 1, 0});
    add("5d_02413", five, {0, 2, 4, 1, 3});
    add("5d_10324", five, {1, 0, 3, 2, 4});
    add("5d_30142", five, {3, 0, 1, 4, 2});
  }
}

void add_strided(std::vector<Case>* cases, bool quick) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16}) {
    if (quick && dtype != DType::kFloat32) continue;
    const auto add = [&](const std::string& kind, View g, View x, View y, View out) {
      cases->push_back(make_case("strided", Op::kGrad, dtype, kind, std::move(g), std::move(x), std::move(y),
                                 std::move(out)));
      cases->back().seconds = 0.4;
    };
    for (const int64_t n : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33}) {
      if (quick && n != 1 && n != 3 && n != 17) continue;
      const View all = pitched({(4 << 20) / n, n}, n + 3);
      add("inner/" + std::to_string(n), all, all, all, all);
    }
    const Shape shape{4096, 4096};
    const View all = dense(shape), second = strided(shape, 2);
    add("second_column/target", all, all, second, all);
    add("second_column/inputs", second, second, second, all);
    add("second_column/all", second, second, second, second);
    add("odd_pitch/4096x4001", pitched({4096, 4001}, 4099), pitched({4096, 4001}, 4003), dense({4096, 4001}),
        pitched({4096, 4001}, 4007));
  }
}

void add_misaligned(std::vector<Case>* cases) {
  for (const DType dtype : kAll) {
    const int64_t large = (64 << 20) / mseloss::size_of(dtype), small = (256 << 10) / mseloss::size_of(dtype);
    for (const int64_t n : {small, large}) {
      const std::string size = n == small ? "/L2" : "/64MiB";
      const auto add = [&](const char* kind, int64_t count, std::initializer_list<int> off) {
        cases->push_back(dense_case("misaligned", Op::kGrad, dtype, kind + size, count, false));
        for (const int o : off) cases->back().view[o].offset = 1;
        cases->back().seconds = 0.4;
      };
      add("aligned", n, {});
      add("input_off_by_one", n, {kX});
      add("out_off_by_one", n, {kOut});
      add("all_off_by_one", n, {kG, kX, kY, kOut});
      add("odd_size", n + 17, {});
    }
  }
}

void add_tiny(std::vector<Case>* cases) {
  for (const int64_t n : {1, 2, 4, 8, 16, 32, 64}) {
    const auto add = [&](Op op, DType dtype) {
      cases->push_back(dense_case("tiny", op, dtype, "tiny/" + std::to_string(n), n, op != Op::kGrad));
      cases->back().seconds = 0.1;
    };
    for (const DType dtype : kAll) add(Op::kGrad, dtype);
    add(Op::kLoss, DType::kFloat32);
    add(Op::kFused, DType::kFloat32);
  }
}

void add_store(std::vector<Case>* cases) {
  using Store = mseloss::Options::Store;
  for (int64_t mib = 1; mib <= 256; mib *= 2) {
    for (const bool non_temporal : {false, true}) {
      const std::string rest =
          std::string("store_") + (non_temporal ? "non_temporal/" : "cached/") + std::to_string(mib) + "MiB";
      cases->push_back(dense_case("store", Op::kGrad, DType::kFloat32, rest, mib << 18, true));
      cases->back().options.store = non_temporal ? Store::kNonTemporal : Store::kCached;
      cases->back().seconds = 0.5;
    }
  }
}

// Weights, masks and axes. Every operand that is read or written once counts; a weighted mean with its
// gradient reads the weight twice, because the gradient needs the sum of all weights.
void add_weighted(std::vector<Case>* cases, bool quick) {
  const int64_t mib = quick ? 16 : 64;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const int64_t n = (mib << 20) / mseloss::size_of(dtype) / 1024;
    const View all = dense({n, 1024}), sample = dense({n, 1});
    const auto add = [&](Op op, Reduction reduction, const char* kind, const View& weight, DType type) {
      Case c = make_case("weighted", op, dtype, kind, scalar(), all, all, all);
      c.reduction = reduction;
      cases->push_back(with_weight(std::move(c), weight, type));
    };
    for (const Op op : {Op::kLoss, Op::kFused}) {
      add(op, Reduction::kMean, "mean_weight/full", all, dtype);
      add(op, Reduction::kSum, "sum_weight/full", all, dtype);
      add(op, Reduction::kMean, "mean_weight/sample", sample, dtype);
      add(op, Reduction::kMean, "mean_weight/mask", all, DType::kBool);
    }
  }
}

void add_axis(std::vector<Case>* cases, bool quick) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const int64_t total = (quick ? 16 << 20 : 64 << 20) / mseloss::size_of(dtype);
    const auto add = [&](Op op, const char* kind, int64_t m, int64_t n, bool rows) {
      const View all = dense({m, n}), loss = rows ? dense({m, 1}) : dense({1, n});
      const std::string size = "/" + std::to_string(m) + "x" + std::to_string(n);
      cases->push_back(with_axis(make_case("axis", op, dtype, kind + size, scalar(), all, all, all), loss));
    };
    for (const Op op : {Op::kLoss, Op::kFused}) {
      for (const int64_t n : {8, 32, 256, 1024, 65536}) add(op, "mean_last", total / n, n, true);
      for (const int64_t n : {16, 1024}) add(op, "mean_first", total / n, n, false);
    }
  }
}

void add_targets(std::vector<Case>* cases) {
  std::istringstream targets(mseloss::supported_targets());
  for (std::string target; targets >> target;) {
    const auto add = [&](Case c) {
      c.id += "/" + target;
      c.group = "targets";
      c.target = target;
      c.seconds = 0.25;
      cases->push_back(std::move(c));
    };
    for (const DType dtype : kAll) {
      const int64_t size = mseloss::size_of(dtype);
      add(dense_case("", Op::kGrad, dtype, "dense/L2", (256 << 10) / size, false));
      add(dense_case("", Op::kGrad, dtype, "dense/64MiB", (64 << 20) / size, false));
      add(dense_case("", Op::kLoss, dtype, "mean/64MiB", (64 << 20) / size, true));
      add(dense_case("", Op::kFused, dtype, "mean/64MiB", (64 << 20) / size, true));
      const View all = dense({2048, 2048});
      add(make_case("", Op::kGrad, dtype, "target_transposed/2048x2048", all, all,
                    permuted({2048, 2048}, {1, 0}), all));
    }
  }
}

}  // namespace

std::vector<Case> fixed_cases(bool quick) {
  std::vector<Case> cases;
  add_dense(&cases, quick);
  add_transposed(&cases, quick);
  add_tiny(&cases);
  add_broadcast(&cases, quick);
  add_permuted(&cases, quick);
  add_strided(&cases, quick);
  add_weighted(&cases, quick);
  add_axis(&cases, quick);
  if (!quick) {
    add_curve(&cases);
    add_misaligned(&cases);
    add_store(&cases);
    add_targets(&cases);
  }
  if (quick) {
    for (Case& c : cases) c.seconds = 0.02;
  }
  return cases;
}

}  // namespace bench
