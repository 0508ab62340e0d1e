// mseloss_bench [--quick] [--sweep N] [--filter TEXT] [--out FILE]: checks, measures, writes JSON.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
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

volatile double g_sink;  // for results that nothing else needs

mseloss::ConstTensor in_tensor(const Case& c, const char* data, int o) {
  return {data, c.dtype, c.view[o].shape, c.view[o].strides};
}

struct Prepared {
  const Case& c;
  Pointers at;

  mseloss::Tensor out() const { return {at.out, c.dtype, c.view[kOut].shape, c.view[kOut].strides}; }
  mseloss::ConstTensor in(int o) const { return in_tensor(c, at.in[o], o); }

  mseloss::Status call(const mseloss::Options& options) const {
    const mseloss::Tensor loss(at.loss, c.dtype);
    switch (c.op) {
      case Op::kGrad:
        return mseloss::grad(in(kG), in(kX), in(kY), c.reduction, out(), options);
      case Op::kLoss:
        return mseloss::loss(in(kX), in(kY), c.reduction, c.present(kOut) ? out() : loss, options);
      default:
        return mseloss::loss_and_grad(in(kX), in(kY), c.reduction, in(kG), loss, out(), options);
    }
  }
  std::string explain() const {
    if (c.op != Op::kGrad) return {};
    return mseloss::explain(in(kG), in(kX), in(kY), c.reduction, out(), c.options);
  }
};

class Lab {
 public:
  Lab(size_t arena_bytes, bool quick) : quick_(quick) {
    for (auto& arena : arenas_) arena = std::make_unique<Arena>(arena_bytes);
  }

  // False when the case is not right.
  bool run(const Case& c, Record* record) {
    prepare(c.dtype);
    mseloss::set_target(c.target);
    Prepared p{c, {}};
    const int64_t size = mseloss::size_of(c.dtype);
    for (int o = 0; o < 3; ++o) p.at.in[o] = arenas_[o]->data() + c.view[o].offset * size;
    p.at.out = arenas_[kOut]->data() + c.view[kOut].offset * size;
    p.at.loss = loss_;
    if (c.present(kOut)) {
      std::memset(arenas_[kOut]->data(), 0x5a, static_cast<size_t>(reach(c.view[kOut], c.dtype)));
    }
    const mseloss::Status status = p.call(c.options);
    const std::string error = status.ok() ? difference(c, p.at) : status.message();
    if (!error.empty()) {
      std::fprintf(stderr, "%s: %s\n  %s\n", c.id.c_str(), error.c_str(), p.explain().c_str());
      record->fail(c, error);
      return false;
    }
    const Traffic moved = traffic(c);
    record->add(c, moved, measure(contenders(p, moved), c.seconds), p.explain());
    mseloss::set_target(nullptr);
    return true;
  }

 private:
  void prepare(DType dtype) {
    if (filled_ && dtype == dtype_) return;
    for (int o = 0; o < 3; ++o) fill(*arenas_[o], dtype, 7919u * static_cast<unsigned>(o + 1));
    filled_ = true;
    dtype_ = dtype;
  }

  std::vector<Contender> contenders(const Prepared& p, const Traffic& moved) {
    const Case& c = p.c;
    std::vector<Contender> list;
    list.push_back({"mseloss", [p, &c] { (void)p.call(c.options); }});
    if (c.group == "tiny") return list;
    if (c.one_thread) {
      mseloss::Options options = c.options;
      options.threads = 1;
      list.push_back({"mseloss, 1 thread", [p, options] { (void)p.call(options); }});
    }
    if (c.group == "store") {
      const Loops& loops = loops_for(mseloss::target());
      char* out = p.at.out;
      const size_t bytes = static_cast<size_t>(c.numel()) * 4;
      list.push_back({"mseloss, then read",
                      [p, &c, &loops, out, bytes] {
                        (void)p.call(c.options);
                        stream(loops, 1, &out, nullptr, bytes, false, mseloss::max_threads());
                      },
                      true});
    }
    add_ceilings(p, moved, &list);
    const bool timed = c.target == nullptr && c.group != "store" && !c.options.exact;
    if (timed && (!quick_ || c.group == "dense") && has_baseline(c)) {
      list.push_back({"OpenMP loop", [p, &c] { baseline(c, p.at); }, true});
    }
    return list;
  }

  void add_ceilings(const Prepared& p, const Traffic& moved, std::vector<Contender>* list) {
    const Loops& loops = loops_for(mseloss::target());
    const int streams = moved.reads + moved.writes, most = mseloss::max_threads();
    const auto bytes = static_cast<size_t>(moved.bytes / std::max(streams, 1));
    for (int i = 0; i < 3; ++i) from_[i] = arenas_[p.c.op == Op::kLoss ? (i + 1) % 3 : i]->data();
    if (p.c.op == Op::kFused) from_[0] = arenas_[kY]->data();
    char* out = moved.writes != 0 ? arenas_[kOut]->data() : nullptr;
    // Where a second thread may not pay, or is asked about.
    const int single = bytes <= (4 << 20) || p.c.one_thread ? 1 : most;
    for (int threads = single; threads <= most; threads = threads == most ? most + 1 : most) {
      for (const bool past : {false, true}) {
        if (past && (out == nullptr || bytes < (1 << 20))) continue;
        const std::string name = std::string("ceiling, ") + (past ? "streaming" : "ordinary") + ", " +
                                 std::to_string(threads) + (threads == 1 ? " thread" : " threads");
        const int reads = moved.reads;
        char* const* from = from_;
        list->push_back({name,
                         [&loops, reads, from, out, bytes, past, threads] {
                           stream(loops, reads, from, out, bytes, past, threads);
                         },
                         threads > 1});
      }
      if (!p.c.plain_sum || loops.squares[static_cast<int>(p.c.dtype)] == nullptr) continue;
      list->push_back({"plain sum, " + std::to_string(threads) + (threads == 1 ? " thread" : " threads"),
                       [&loops, p, threads] {
                         g_sink = sum_of_squares(loops, p.c.dtype, p.at.in[kX], p.at.in[kY],
                                                 static_cast<size_t>(p.c.numel()), threads);
                       },
                       threads > 1});
    }
  }

  std::unique_ptr<Arena> arenas_[kOperands];
  char* from_[3];
  alignas(64) char loss_[8];
  bool quick_, filled_ = false;
  DType dtype_ = DType::kFloat32;
};

struct Arguments {
  bool quick = false;
  int sweep = -1;
  std::string filter, out;
};

Arguments parse(int argc, char** argv) {
  Arguments a;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const bool more = i + 1 < argc;
    if (arg == "--quick") {
      a.quick = true;
    } else if (arg == "--sweep" && more) {
      a.sweep = std::atoi(argv[++i]);
    } else if (arg == "--filter" && more) {
      a.filter = argv[++i];
    } else if (arg == "--out" && more) {
      a.out = argv[++i];
    } else {
      std::fprintf(stderr, "usage: %s [--quick] [--sweep N] [--filter TEXT] [--out FILE]\n", argv[0]);
      std::exit(2);
    }
  }
  if (a.sweep < 0) a.sweep = a.quick ? 30 : 500;
  return a;
}

void measure_aclnn(const std::string& filter, Record* record) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    Case c;
    c.id = std::string("aclnn/") + short_name(dtype) + "/tiny/16";
    c.group = "tiny";
    c.dtype = dtype;
    for (View& view : c.view) view = dense({16});
    if ((c.group + ":" + c.id).find(filter) == std::string::npos) continue;
    if (const auto call = aclnn_call(dtype)) {
      record->add(c, traffic(c), measure({{"mseloss", call}}, 0.1), "");
    }
  }
}

int main_of(int argc, char** argv) {
  const Arguments arguments = parse(argc, argv);
  std::vector<Case> cases = all_cases(arguments.quick);
  for (Case& c : random_layouts(arguments.sweep, 20240607)) {
    if (arguments.quick) c.seconds = 0.01;
    cases.push_back(std::move(c));
  }
  if (!arguments.filter.empty()) {
    std::erase_if(cases, [&](const Case& c) {
      return (c.group + ":" + c.id).find(arguments.filter) == std::string::npos;
    });
  }
  // Memory is filled once for each dtype.
  std::stable_sort(cases.begin(), cases.end(),
                   [](const Case& a, const Case& b) { return a.dtype < b.dtype; });
  int64_t most = 1 << 20;
  for (const Case& c : cases) {
    for (const View& view : c.view) most = std::max(most, reach(view, c.dtype));
    most = std::max(most, traffic(c).bytes / std::max(1, traffic(c).reads + traffic(c).writes));
  }
  Lab lab(static_cast<size_t>(most) + 4096, arguments.quick);
  Record record(arguments.quick ? "quick" : "full");
  int wrong = 0;
  for (const Case& c : cases) wrong += !lab.run(c, &record);
  measure_aclnn(arguments.filter, &record);
  record.print_worst("sweep", 10);
  if (!arguments.out.empty()) record.write(arguments.out);
  if (wrong != 0) std::fprintf(stderr, "%d of %zu cases are wrong and were not timed\n", wrong, cases.size());
  return wrong != 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  // Idle OpenMP threads spin for 10 ms and more by default, on the processor that the next contender needs.
  // The variable is read before main, hence the second start.
  if (std::getenv("GOMP_SPINCOUNT") == nullptr) {
    setenv("GOMP_SPINCOUNT", "10000", 1);
    execv("/proc/self/exe", argv);
  }
  return bench::main_of(argc, argv);
}
