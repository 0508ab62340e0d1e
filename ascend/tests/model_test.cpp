// Tests of the model: a small correct kernel passes, and for each rule a kernel that differs in one thing
// breaks it.
#include <gtest/gtest.h>

#include <functional>

#include "kernel_operator.h"
#include "tests/support/oracle.h"

namespace ascend_tests {
namespace {

using namespace AscendC;
using ascend_model::Core;
using ascend_model::Violation;

constexpr int32_t kCount = 64;

struct Machine {
  std::vector<float> in = std::vector<float>(kCount, 1.5f);
  std::vector<float> out = std::vector<float>(kCount, 0);

  // The rule that the kernel breaks; 0 if none.
  int Run(const std::function<void(Machine&)>& kernel, int64_t blocks = 1) {
    ascend_model::GlobalMemory memory;
    memory.regions.push_back({"in", reinterpret_cast<uintptr_t>(in.data()), in.size() * 4, false, {}});
    memory.regions.push_back({"out", reinterpret_cast<uintptr_t>(out.data()), out.size() * 4, true, {}});
    if (in_place) {
      memory.regions.push_back({"old", reinterpret_cast<uintptr_t>(out.data()), out.size() * 4, false, {}});
    }
    ascend_model::Counters counters;
    try {
      for (int64_t block = 0; block < blocks; ++block) {
        ascend_model::CoreOptions options;
        options.architecture = architecture;
        options.block = block;
        options.blocks = blocks;
        Core core(options, &memory, &counters);
        Core::SetCurrent(&core);
        kernel(*this);
        core.Finish();
      }
      memory.CheckWritten({{0, out.size() * 4}});
    } catch (const Violation& violation) {
      message = violation.what();
      Core::SetCurrent(nullptr);
      return violation.rule;
    }
    Core::SetCurrent(nullptr);
    return 0;
  }
  std::string message;
  int architecture = 2201;
  bool in_place = false;  // `out` may be read

  GlobalTensor<float> In() { return Global(in); }
  GlobalTensor<float> Out() { return Global(out); }

 private:
  static GlobalTensor<float> Global(std::vector<float>& data) {
    GlobalTensor<float> tensor;
    tensor.SetGlobalBuffer(data.data(), data.size());
    return tensor;
  }
};

// The parts of a minimal kernel, each replaceable.
struct Parts {
  std::function<void(LocalTensor<float>, LocalTensor<float>)> compute = [](auto out, auto in) {
    Muls(out, in, 2.0f, kCount);
  };
  DataCopyExtParams in{1, kCount * 4, 0, 0, 0};
  DataCopyExtParams out{1, kCount * 4, 0, 0, 0};
  DataCopyPadExtParams<float> pad{};
  uint32_t bytes = kCount * 4;
};

void Minimal(Machine& m, const Parts& parts) {
  TPipe pipe;
  TQue<TPosition::VECIN, 1> in;
  TQue<TPosition::VECOUT, 1> out;
  pipe.InitBuffer(in, 1, parts.bytes);
  pipe.InitBuffer(out, 1, parts.bytes);
  auto a = in.AllocTensor<float>();
  DataCopyPad(a, m.In(), parts.in, parts.pad);
  in.EnQue(a);
  a = in.DeQue<float>();
  auto b = out.AllocTensor<float>();
  parts.compute(b, a);
  out.EnQue(b);
  in.FreeTensor(a);
  b = out.DeQue<float>();
  DataCopyPad(m.Out(), b, parts.out);
  out.FreeTensor(b);
}

int RuleOf(const Parts& parts) {
  Machine m;
  return m.Run([&](Machine& machine) { Minimal(machine, parts); });
}

int RuleOf(std::function<void(LocalTensor<float>, LocalTensor<float>)> compute) {
  Parts parts;
  parts.compute = std::move(compute);
  return RuleOf(parts);
}

TEST(ModelTest, ACorrectKernel_BreaksNoRuleAndComputes) {
  Machine m;
  EXPECT_EQ(m.Run([](Machine& machine) { Minimal(machine, Parts()); }), 0) << m.message;
  EXPECT_EQ(m.out, std::vector<float>(kCount, 3.0f));
}

TEST(ModelTest, Rule1_TooMuchUb) {
  Parts parts;
  parts.bytes = 100000;
  EXPECT_EQ(RuleOf(parts), 1);
}

TEST(ModelTest, Rule2_UnalignedOperand) {
  EXPECT_EQ(RuleOf([](auto out, auto in) { Muls(out, in[1], 2.0f, kCount - 8); }), 2);
}

TEST(ModelTest, Rule3_OutsideTheBuffer) {
  EXPECT_EQ(RuleOf([](auto out, auto in) { Muls(out, in, 2.0f, kCount + 8); }), 3);
  EXPECT_EQ(RuleOf([](auto out, auto in) { Muls(out, in[kCount + 8], 2.0f, 8); }), 3);
}

TEST(ModelTest, Rule4_QueueStates) {
  Machine m;
  const auto before_dequeue = [](Machine& machine) {
    TPipe pipe;
    TQue<TPosition::VECIN, 1> in;
    pipe.InitBuffer(in, 1, 256);
    auto a = in.AllocTensor<float>();
    DataCopyPad(a, machine.In(), Parts().in, Parts().pad);
    Muls(a, a, 2.0f, kCount);
  };
  EXPECT_EQ(m.Run(before_dequeue), 4);
  const auto freed_twice = [](Machine&) {
    TPipe pipe;
    TQue<TPosition::VECIN, 1> in;
    pipe.InitBuffer(in, 1, 256);
    auto a = in.AllocTensor<float>();
    in.FreeTensor(a);
    in.FreeTensor(a);
  };
  EXPECT_EQ(m.Run(freed_twice), 4);
  const auto leaked = [](Machine&) {
    TPipe pipe;
    TQue<TPosition::VECIN, 1> in;
    pipe.InitBuffer(in, 1, 256);
    in.AllocTensor<float>();
  };
  EXPECT_EQ(m.Run(leaked), 4);
}

TEST(ModelTest, Rule5_DeadlockAndDepth) {
  Machine m;
  const auto deadlock = [](Machine&) {
    TPipe pipe;
    TQue<TPosition::VECIN, 1> in;
    pipe.InitBuffer(in, 1, 256);
    in.AllocTensor<float>();
    in.AllocTensor<float>();
  };
  EXPECT_EQ(m.Run(deadlock), 5);
  const auto depth = [](Machine&) {
    TPipe pipe;
    TQue<TPosition::VECIN, 1> in;
    pipe.InitBuffer(in, 2, 256);
    in.EnQue(in.AllocTensor<float>());
    in.EnQue(in.AllocTensor<float>());
  };
  EXPECT_EQ(m.Run(depth), 5);
}

TEST(ModelTest, Rule6_OnePipeAndEightBuffers) {
  Machine m;
  EXPECT_EQ(m.Run([](Machine&) {
    TPipe first;
    TPipe second;
  }),
            6);
  EXPECT_EQ(m.Run([](Machine&) {
    TPipe pipe;
    TQue<TPosition::VECIN, 1> in;
    pipe.InitBuffer(in, 9, 32);
  }),
            6);
}

TEST(ModelTest, Rule7_QueueConfigDisagrees) {
  static constexpr TQueConfig kConfig{1, 0};
  Machine m;
  EXPECT_EQ(m.Run([](Machine&) {
    TPipe pipe;
    TQue<TPosition::VECIN, 1, &kConfig> in;
    pipe.InitBuffer(in, 2, 256);
  }),
            7);
}

TEST(ModelTest, Rule8_UnwrittenUb) {
  EXPECT_EQ(RuleOf([](auto out, auto in) { Muls(out, in, 2.0f, kCount - 8); }),
            8);  // the copy out reads unwritten elements
  Parts parts;
  parts.in.blockLen = 13 * 4;  // the padding of the last 32 bytes is random
  EXPECT_EQ(RuleOf(parts), 8);
}

TEST(ModelTest, Rule9_OutsideGlobalMemory) {
  Parts parts;
  parts.in = {2, kCount * 2, 4, 0, 0};
  EXPECT_EQ(RuleOf(parts), 9);
  parts = Parts();
  parts.out = {2, kCount * 2, 0, 4, 0};
  EXPECT_EQ(RuleOf(parts), 9);
}

TEST(ModelTest, Rule10_TwoBlocksOrNobody) {
  Machine m;
  EXPECT_EQ(m.Run([](Machine& machine) { Minimal(machine, Parts()); }, 2), 10);
  Parts parts;
  parts.out.blockLen = 32;
  EXPECT_EQ(RuleOf(parts), 10);
}

TEST(ModelTest, Rule11_DataCopyOfPartOfABlock) {
  Machine m;
  EXPECT_EQ(m.Run([](Machine& machine) {
    TPipe pipe;
    TQue<TPosition::VECIN, 1> in;
    pipe.InitBuffer(in, 1, 256);
    DataCopy(in.AllocTensor<float>(), machine.In(), 13);
  }),
            11);
}

TEST(ModelTest, Rule12_CopyRangesAndPlaces) {
  Parts parts;
  parts.in.blockLen = 2097152;
  EXPECT_EQ(RuleOf(parts), 12);
  parts = Parts();
  parts.in.blockCount = 4096;
  EXPECT_EQ(RuleOf(parts), 12);
  parts = Parts();
  parts.in.blockLen = 3;
  EXPECT_EQ(RuleOf(parts), 12);
  Machine m;
  EXPECT_EQ(m.Run([](Machine& machine) {
    TPipe pipe;
    TBuf<TPosition::VECCALC> buffer;
    pipe.InitBuffer(buffer, 256);
    DataCopyPad(buffer.Get<float>(), machine.In(), Parts().in, Parts().pad);
  }),
            12);
}

TEST(ModelTest, Rule13_NegativeCount) {
  const int64_t count = (int64_t{1} << 32) - 8;
  EXPECT_EQ(RuleOf([=](auto out, auto in) { Muls(out, in, 2.0f, static_cast<int32_t>(count)); }), 13);
}

TEST(ModelTest, Rule14_NoArithmeticOnBfloat16) {
  EXPECT_EQ(RuleOf([](auto out, auto in) {
              Mul(out.template ReinterpretCast<bfloat16_t>(), in.template ReinterpretCast<bfloat16_t>(),
                  in.template ReinterpretCast<bfloat16_t>(), kCount);
            }),
            14);
}

TEST(ModelTest, Rule15_CastsThatAreNotEmitted) {
  EXPECT_EQ(RuleOf([](auto out, auto in) {
              Cast(out.template ReinterpretCast<bfloat16_t>(), in, RoundMode::CAST_NONE, kCount);
            }),
            15);
  EXPECT_EQ(RuleOf([](auto out, auto in) {
              Cast(out.template ReinterpretCast<bfloat16_t>(), in.template ReinterpretCast<half>(),
                   RoundMode::CAST_RINT, kCount);
            }),
            15);
}

TEST(ModelTest, Rule15_CastsOfThe310P) {
  const auto rule = [](RoundMode mode, int architecture) {
    Machine m;
    m.architecture = architecture;
    Parts parts;
    parts.compute = [mode](auto out, auto in) {
      Cast(out.template ReinterpretCast<half>(), in, mode, kCount);
      PipeBarrier<PIPE_V>();
      Muls(out, in, 2.0f, kCount);
    };
    return m.Run([&](Machine& machine) { Minimal(machine, parts); });
  };
  EXPECT_EQ(rule(RoundMode::CAST_RINT, 2201), 0);
  EXPECT_EQ(rule(RoundMode::CAST_RINT, 2002), 15);
  EXPECT_EQ(rule(RoundMode::CAST_NONE, 2002), 0);
}

TEST(ModelTest, Rule16_PartialOverlap) {
  EXPECT_EQ(RuleOf([](auto out, auto in) {
              Muls(out, in, 2.0f, kCount);
              PipeBarrier<PIPE_V>();
              Muls(out[8], out, 2.0f, kCount - 8);
            }),
            16);
}

TEST(ModelTest, Rule19_MissingBarrierOrEvent) {
  EXPECT_EQ(RuleOf([](auto out, auto in) {
              Muls(out, in, 2.0f, kCount);
              Muls(out, out, 2.0f, kCount);
            }),
            19);
  EXPECT_EQ(RuleOf([](auto out, auto in) {
              Muls(out, in, 2.0f, kCount);
              out.GetValue(0);
            }),
            19);
  EXPECT_EQ(RuleOf([](auto out, auto in) {
              Muls(out, in, 2.0f, kCount);
              SetFlag<HardEvent::V_S>(0);
              WaitFlag<HardEvent::V_S>(0);
              out.GetValue(0);
            }),
            0);
  EXPECT_EQ(RuleOf([](auto out, auto in) {
              Muls(out, in, 2.0f, kCount);
              SetFlag<HardEvent::V_S>(0);
              SetFlag<HardEvent::V_S>(0);
            }),
            19);
}

// Copies the first elements of an in-place call out and writes the last ones with the scalar unit.
struct ScalarTail {
  bool wait = true;     // for the copy, which writes to the same cache line
  bool discard = true;  // the line, which was cached before the copy
  bool clean = true;
  bool copy_last = false;
  bool two_blocks = false;
};

int RuleOf(const ScalarTail& steps) {
  Machine m;
  m.in_place = true;
  // The first element that the scalar unit writes, not at the start of a cache line.
  const int32_t first = reinterpret_cast<uintptr_t>(&m.out[60]) % 64 != 0 ? 60 : 58;
  const auto kernel = [&](Machine& machine) {
    GlobalTensor<float> global = machine.Out();
    const auto clean = [&] {
      for (int32_t i = first; i < kCount; ++i) {
        DataCacheCleanAndInvalid<float, CacheLine::SINGLE_CACHE_LINE>(global[i]);
      }
    };
    TPipe pipe;
    TQue<TPosition::VECOUT, 1> queue;
    pipe.InitBuffer(queue, 1, kCount * 4);
    auto local = queue.AllocTensor<float>();
    Duplicate(local, 1.0f, kCount);
    queue.EnQue(local);
    local = queue.DeQue<float>();
    const auto copy = [&] {
      DataCopyPad(global, local, DataCopyExtParams(1, static_cast<uint32_t>(first * 4), 0, 0, 0));
    };
    global.GetValue(first);
    if (!steps.copy_last && (!steps.two_blocks || GetBlockIdx() == 0)) {
      copy();
    }
    if (steps.wait) {
      SetFlag<HardEvent::MTE3_S>(0);
      WaitFlag<HardEvent::MTE3_S>(0);
    }
    if (steps.discard) {
      clean();
    }
    for (int32_t i = first; i < kCount && (!steps.two_blocks || GetBlockIdx() == 1); ++i) {
      global.SetValue(i, 1.0f);
    }
    if (steps.copy_last) {
      copy();
    }
    if (steps.clean) {
      clean();
    }
    queue.FreeTensor(local);
  };
  const int rule = m.Run(kernel, steps.two_blocks ? 2 : 1);
  EXPECT_TRUE(rule != 0 || m.out == std::vector<float>(kCount, 1.0f));
  return rule;
}

TEST(ModelTest, Rule21_CacheOfTheScalarUnit) {
  ScalarTail steps;
  EXPECT_EQ(RuleOf(steps), 0);
  steps = {};
  steps.wait = false;
  EXPECT_EQ(RuleOf(steps), 21);
  steps = {};
  steps.discard = false;
  EXPECT_EQ(RuleOf(steps), 21);
  steps = {};
  steps.clean = false;
  EXPECT_EQ(RuleOf(steps), 21);
  steps = {};
  steps.copy_last = true;
  EXPECT_EQ(RuleOf(steps), 21);
  steps = {};
  steps.two_blocks = true;
  EXPECT_EQ(RuleOf(steps), 21);

  Machine m;
  m.in_place = true;
  EXPECT_EQ(m.Run([](Machine& machine) {
    GlobalTensor<float> global = machine.Out();
    global.GetValue(1);
    Minimal(machine, Parts());
    global.GetValue(1);  // the copy has changed it
  }),
            21);
}

TEST(ModelTest, HalfConversions_AgreeWithTheOracle) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half_bits = static_cast<uint16_t>(bits);
    const float from_half = ascend_model::HalfToFloat(half_bits);
    const float from_bfloat = ascend_model::BfloatToFloat(half_bits);
    const double half_value = oracle::decode(mseloss::DType::kFloat16, bits);
    const double bfloat_value = oracle::decode(mseloss::DType::kBFloat16, bits);
    ASSERT_TRUE(from_half == half_value || (std::isnan(from_half) && std::isnan(half_value))) << bits;
    ASSERT_TRUE(from_bfloat == bfloat_value || (std::isnan(from_bfloat) && std::isnan(bfloat_value))) << bits;
  }
  uint32_t bits = 12345;
  for (int i = 0; i < 300000; ++i) {
    bits = bits * 1664525 + 1013904223;
    const float value =
        std::bit_cast<float>(i % 2 != 0 ? bits : 0x32000000 + bits % 0x16000000);  // near the range of half
    for (const auto dtype : {mseloss::DType::kFloat16, mseloss::DType::kBFloat16}) {
      const uint16_t actual = dtype == mseloss::DType::kFloat16
                                  ? ascend_model::FloatToHalf(value, ascend_model::Rounding::kRint, false)
                                  : ascend_model::FloatToBfloat(value, ascend_model::Rounding::kRint, false);
      ASSERT_TRUE(oracle::same(dtype, actual, oracle::encode(dtype, value))) << value;
    }
  }
}

TEST(ModelTest, RoundModes_RoundAsNamed) {
  using ascend_model::Rounding;
  const auto half = [](float value, Rounding mode) {
    return oracle::decode(mseloss::DType::kFloat16, ascend_model::FloatToHalf(value, mode, false));
  };
  const float tie = 2049;  // between 2048 and 2050
  EXPECT_EQ(half(tie, Rounding::kRint), 2048);
  EXPECT_EQ(half(tie, Rounding::kNone), 2048);
  EXPECT_EQ(half(tie, Rounding::kRound), 2050);
  EXPECT_EQ(half(tie, Rounding::kFloor), 2048);
  EXPECT_EQ(half(tie, Rounding::kCeil), 2050);
  EXPECT_EQ(half(-tie, Rounding::kFloor), -2050);
  EXPECT_EQ(half(-tie, Rounding::kCeil), -2048);
  EXPECT_EQ(half(-tie, Rounding::kTrunc), -2048);
  EXPECT_EQ(half(2048.5f, Rounding::kOdd), 2050);
}

}  // namespace
}  // namespace ascend_tests
