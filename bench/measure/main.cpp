// mseloss_bench [--quick] [--random N] [--filter TEXT] [--out FILE]: checks and times all cases, writes JSON.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "bench/contenders/aclnn_call.h"
#include "bench/contenders/ceiling.h"
#include "bench/contenders/openmp_loop.h"
#include "bench/measure/check.h"
#include "bench/measure/memory.h"
#include "bench/measure/record.h"
#include "bench/measure/timing.h"

namespace bench {
namespace {

volatile double g_sink;  // keeps results alive

// A case and the addresses of its operands.
struct BoundCase {
  const Case& c;
  Pointers at;

  mseloss::ConstTensor in(int o) const {
    return {at.in[o], c.dtype_of(o), c.view[o].shape, c.view[o].strides};
  }
  mseloss::Tensor out() const { return {at.out, c.dtype, c.view[kOut].shape, c.view[kOut].strides}; }

  mseloss::Status call(const mseloss::Options& options) const {
    const mseloss::Tensor loss(at.loss, c.dtype, c.view[kLoss].shape, c.view[kLoss].strides);
    if (c.weighted) return call_weighted(loss, options);
    switch (c.op) {
      case Op::kGrad:
        return mseloss::grad(in(kG), in(kX), in(kY), c.reduction, out(), options);
      case Op::kLoss:
        return mseloss::loss(in(kX), in(kY), c.reduction, c.present(kOut) ? out() : loss, options);
      default:
        return mseloss::loss_and_grad(in(kX), in(kY), c.reduction, in(kG), loss, out(), options);
    }
  }
  mseloss::Status call_weighted(const mseloss::Tensor& loss, const mseloss::Options& options) const {
    switch (c.op) {
      case Op::kGrad:
        return mseloss::grad(in(kG), in(kX), in(kY), in(kW), c.reduction, out(), options);
      case Op::kLoss:
        return mseloss::loss(in(kX), in(kY), in(kW), c.reduction, c.present(kOut) ? out() : loss, options);
      default:
        return mseloss::loss_and_grad(in(kX), in(kY), in(kW), c.reduction, in(kG), loss, out(), options);
    }
  }
  std::string explain() const {
    if (c.op != Op::kGrad || c.weighted) return {};
    return mseloss::explain(in(kG), in(kX), in(kY), c.reduction, out(), c.options);
  }
};

std::string threads_text(int threads) {
  return std::to_string(threads) + (threads == 1 ? " thread" : " threads");
}

class CaseRunner {
 public:
  CaseRunner(size_t arena_bytes, bool quick) : quick_(quick) {
    for (auto& arena : arenas_) arena = std::make_unique<Arena>(arena_bytes);
  }

  // Checks and times one case; false if the result is wrong.
  bool run(const Case& c, Record* record) {
    fill_inputs(c);
    const mseloss::Status selected = mseloss::set_target(c.target.empty() ? nullptr : c.target.c_str());
    BoundCase bound{c, {}};
    const int64_t size = mseloss::size_of(c.dtype);
    for (int o = 0; o < kInputs; ++o) {
      bound.at.in[o] = arenas_[o]->data() + c.view[o].offset * mseloss::size_of(c.dtype_of(o));
    }
    bound.at.out = arenas_[kOut]->data() + c.view[kOut].offset * size;
    bound.at.loss = arenas_[kLoss]->data();
    if (c.present(kOut)) {
      std::memset(arenas_[kOut]->data(), 0x5a, static_cast<size_t>(required_bytes(c.view[kOut], c.dtype)));
    }
    const mseloss::Status status = selected.ok() ? bound.call(c.options) : selected;
    const std::string error = status.ok() ? check(c, bound.at) : status.message();
    if (!error.empty()) {
      std::fprintf(stderr, "%s: %s\n  %s\n", c.id.c_str(), error.c_str(), bound.explain().c_str());
      record->fail(c, error);
      return false;
    }
    const Traffic moved = traffic(c);
    record->add(c, moved, measure(contenders(bound, moved), c.seconds), bound.explain());
    (void)mseloss::set_target(nullptr);  // null is always accepted
    return true;
  }

 private:
  void fill_inputs(const Case& c) {
    if (!filled_ || c.dtype != dtype_) {
      for (const int o : {kG, kX, kY}) fill(*arenas_[o], c.dtype, 7919u * static_cast<unsigned>(o + 1));
      filled_ = true;
      dtype_ = c.dtype;
    }
    if (c.weighted) fill_weights(*arenas_[kW], c.weight_dtype, 104729u);
  }

  std::vector<Contender> contenders(const BoundCase& bound, const Traffic& moved) {
    const Case& c = bound.c;
    std::vector<Contender> list;
    list.push_back({"mseloss", [bound, &c] { (void)bound.call(c.options); }});
    if (c.group == "tiny") return list;
    if (c.one_thread) {
      mseloss::Options options = c.options;
      options.threads = 1;
      list.push_back({"mseloss, 1 thread", [bound, options] { (void)bound.call(options); }});
    }
    if (c.group == "store") {
      const CeilingLoops& loops = ceiling_loops(mseloss::target());
      char* out = bound.at.out;
      const size_t bytes = static_cast<size_t>(c.numel()) * 4;
      list.push_back({"mseloss, then read",
                      [bound, &c, &loops, out, bytes] {
                        (void)bound.call(c.options);
                        stream(loops, 1, &out, nullptr, bytes, false, mseloss::max_threads());
                      },
                      true});
    }
    add_ceilings(bound, moved, &list);
    const bool compare = c.target.empty() && c.group != "store" && !c.options.exact;
    if (compare && (!quick_ || c.group == "dense") && has_openmp_loop(c)) {
      list.push_back({"OpenMP loop", [bound, &c] { run_openmp_loop(c, bound.at); }, true});
    }
    return list;
  }

  void add_ceilings(const BoundCase& bound, const Traffic& moved, std::vector<Contender>* list) {
    const Case& c = bound.c;
    const CeilingLoops& loops = ceiling_loops(mseloss::target());
    const int most = mseloss::max_threads(), reads = moved.reads;
    const auto bytes = static_cast<size_t>(moved.bytes / std::max(moved.streams(), 1));
    int next = 0;
    for (const int o : {kX, kY, kW, kG}) {
      if (next < 3 && (o != kW || c.weighted)) from_[next++] = arenas_[o]->data();
    }
    char* const* from = from_;
    char* out = moved.writes != 0 ? arenas_[kOut]->data() : nullptr;
    std::vector<int> thread_counts{most};
    // One thread may be faster for small tensors.
    if (most > 1 && (bytes <= (4 << 20) || c.one_thread)) thread_counts.insert(thread_counts.begin(), 1);
    for (const int threads : thread_counts) {
      for (const bool non_temporal : {false, true}) {
        if (non_temporal && (out == nullptr || bytes < (1 << 20))) continue;
        list->push_back({std::string("ceiling, ") + (non_temporal ? "non-temporal, " : "cached, ") +
                             threads_text(threads),
                         [&loops, reads, from, out, bytes, non_temporal, threads] {
                           stream(loops, reads, from, out, bytes, non_temporal, threads);
                         },
                         threads > 1});
      }
      if (!c.plain_sum || loops.squares[static_cast<int>(c.dtype)] == nullptr) continue;
      list->push_back({"plain sum, " + threads_text(threads),
                       [&loops, bound, threads] {
                         g_sink = sum_of_squares(loops, bound.c.dtype, bound.at.in[kX], bound.at.in[kY],
                                                 static_cast<size_t>(bound.c.numel()), threads);
                       },
                       threads > 1});
    }
  }

  std::unique_ptr<Arena> arenas_[kOperands];
  char* from_[3];
  bool quick_, filled_ = false;
  DType dtype_ = DType::kFloat32;
};

struct Arguments {
  bool quick = false;
  int random = -1;
  std::string filter, out;

  bool selects(const Case& c) const { return (c.group + ":" + c.id).find(filter) != std::string::npos; }
};

Arguments parse(int argc, char** argv) {
  Arguments a;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const bool more = i + 1 < argc;
    if (arg == "--quick") {
      a.quick = true;
    } else if (arg == "--random" && more) {
      a.random = std::atoi(argv[++i]);
    } else if (arg == "--filter" && more) {
      a.filter = argv[++i];
    } else if (arg == "--out" && more) {
      a.out = argv[++i];
    } else {
      std::fprintf(stderr, "usage: %s [--quick] [--random N] [--filter TEXT] [--out FILE]\n", argv[0]);
      std::exit(2);
    }
  }
  if (a.random < 0) a.random = a.quick ? 30 : 500;
  return a;
}

void measure_aclnn(const Arguments& arguments, Record* record) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    Case c;
    c.id = std::string("aclnn/") + short_name(dtype) + "/tiny/16";
    c.group = "tiny";
    c.dtype = dtype;
    for (View& view : c.view) view = dense({16});
    if (!arguments.selects(c)) continue;
    if (const auto call = aclnn_call(dtype)) {
      record->add(c, traffic(c), measure({{"mseloss", call}}, 0.1), "");
    }
  }
}

int run(const Arguments& arguments) {
  std::vector<Case> cases = fixed_cases(arguments.quick);
  for (Case& c : random_cases(arguments.random, 20240607)) {
    if (arguments.quick) c.seconds = 0.01;
    cases.push_back(std::move(c));
  }
  std::erase_if(cases, [&](const Case& c) { return !arguments.selects(c); });
  // By dtype, so that the arenas are filled once for each.
  std::ranges::stable_sort(cases, {}, &Case::dtype);
  int64_t most = 1 << 20;
  for (const Case& c : cases) {
    for (const View& view : c.view) most = std::max(most, required_bytes(view, c.dtype));
    most = std::max(most, traffic(c).bytes / std::max(1, traffic(c).streams()));
  }
  CaseRunner runner(static_cast<size_t>(most) + 4096, arguments.quick);
  Record record(arguments.quick ? "quick" : "full");
  int wrong = 0;
  for (const Case& c : cases) wrong += !runner.run(c, &record);
  measure_aclnn(arguments, &record);
  record.print_worst("random", 10);
  if (!arguments.out.empty()) record.write(arguments.out);
  if (wrong != 0) std::fprintf(stderr, "%d of %zu cases are wrong and were not timed\n", wrong, cases.size());
  return wrong != 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  // By default idle OpenMP threads spin for 10 ms or more on a processor that the next contender needs.
  // libgomp reads this variable before main, so the program restarts itself.
  if (std::getenv("GOMP_SPINCOUNT") == nullptr) {
    setenv("GOMP_SPINCOUNT", "10000", 1);
    execv("/proc/self/exe", argv);
  }
  return bench::run(bench::parse(argc, argv));
}
