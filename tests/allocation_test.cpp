// Makes each allocation of a call fail in turn. The call returns an error code, throws nothing and, under
// AddressSanitizer, leaks nothing; grad() also leaves the output unwritten.
#include <cstdlib>
#include <new>
#include <thread>

#include "tests/support/sums.h"

namespace {
thread_local int64_t allocations_left = -1;  // per thread, until one fails; negative: none fails
thread_local bool failed = false;

void* allocate(size_t size, size_t alignment) {
  if (allocations_left == 0) {
    failed = true;
    return nullptr;
  }
  if (allocations_left > 0) --allocations_left;
  return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}
void* allocate_or_throw(size_t size, size_t alignment) {
  void* memory = allocate(size ? size : 1, alignment);
  if (!memory) throw std::bad_alloc();
  return memory;
}
constexpr size_t kPlain = __STDCPP_DEFAULT_NEW_ALIGNMENT__;
}  // namespace

void* operator new(size_t n) { return allocate_or_throw(n, kPlain); }
void* operator new[](size_t n) { return allocate_or_throw(n, kPlain); }
void* operator new(size_t n, std::align_val_t a) { return allocate_or_throw(n, static_cast<size_t>(a)); }
void* operator new[](size_t n, std::align_val_t a) { return allocate_or_throw(n, static_cast<size_t>(a)); }
void* operator new(size_t n, const std::nothrow_t&) noexcept { return allocate(n ? n : 1, kPlain); }
void* operator new[](size_t n, const std::nothrow_t&) noexcept { return allocate(n ? n : 1, kPlain); }
void* operator new(size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n ? n : 1, static_cast<size_t>(a));
}
void* operator new[](size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n ? n : 1, static_cast<size_t>(a));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { std::free(p); }

namespace {

using namespace cases;
using mseloss::Code;

// Runs call() once for each allocation that it makes, with that allocation failing, and passes every outcome
// to check(status, hit). Each run has a new thread, so no thread-local memory is reused. Returns the number
// of failures.
template <class Call, class Check>
int fail_each_allocation(Call call, Check check) {
  for (int64_t k = 0;; ++k) {
    Status status;
    bool thrown = false, hit = false;
    std::thread([&] {
      failed = false;
      allocations_left = k;
      try {
        status = call();
      } catch (...) {
        thrown = true;
      }
      allocations_left = -1;
      hit = failed;
    }).join();
    EXPECT_FALSE(thrown) << "allocation " << k;
    if (!thrown) check(status, hit);
    if (!hit || testing::Test::HasFailure()) return static_cast<int>(k);
  }
}

class AllocationFailure : public testing::TestWithParam<int> {
 protected:
  Options options() const { return {GetParam()}; }
  Random random_{61};
  const Shape shape_{130, 120};
  Operand g_{random_, DType::kFloat32, {}, Layout::kDense};
  Operand x_{random_, DType::kFloat32, shape_, Layout::kDense};
  Operand y_{random_, DType::kFloat32, shape_, Layout::kTransposed};
  Operand out_{random_, DType::kFloat16, shape_, Layout::kDense, true};
  Operand loss_{random_, DType::kFloat32, {}, Layout::kDense, true};

  void SetUp() override {
    for (Operand* operand : {&g_, &x_, &y_}) operand->fill(random_, Values::kUnit);
  }
};
INSTANTIATE_TEST_SUITE_P(Threads, AllocationFailure, testing::Values(1, 4));

TEST_P(AllocationFailure, Gradient_IsRefusedUnwrittenOrRight) {
  const auto expected = oracle::grad(g_.view(), x_.view(), y_.view(), Reduction::kMean, out_.dtype());
  const Bytes before = out_.storage();
  const int failures = fail_each_allocation(
      [&] {
        return mseloss::grad(g_.view(), x_.view(), y_.view(), Reduction::kMean, out_.tensor(), options());
      },
      [&](const Status& status, bool hit) {
        if (status.ok()) {
          EXPECT_TRUE(holds(out_, expected, before));
        } else {
          EXPECT_TRUE(hit);
          EXPECT_EQ(status.code(), Code::kOutOfMemory) << status.message();
          EXPECT_NE(std::string(status.message()).find("expected"), std::string::npos) << status.message();
          EXPECT_TRUE(before == out_.storage()) << "memory changed";
        }
        out_.storage() = before;
      });
  EXPECT_GE(failures, 1);  // the transposed operand is packed, which allocates
}

TEST_P(AllocationFailure, LossAndGradient_AreRefusedOrRight) {
  const auto grads = oracle::grad(g_.view(), x_.view(), y_.view(), Reduction::kMean, out_.dtype());
  const oracle::Bits losses{exact::loss(x_.view(), y_.view(), Reduction::kMean, loss_.dtype())};
  const Bytes before = out_.storage(), loss_before = loss_.storage();
  fail_each_allocation(
      [&] {
        return mseloss::loss_and_grad(x_.view(), y_.view(), Reduction::kMean, g_.view(), loss_.tensor(),
                                      out_.tensor(), options());
      },
      [&](const Status& status, bool hit) {
        if (status.ok()) {
          EXPECT_TRUE(holds(out_, grads, before));
          EXPECT_TRUE(holds(loss_, losses, loss_before));
        } else {
          EXPECT_TRUE(hit);
          EXPECT_EQ(status.code(), Code::kOutOfMemory) << status.message();
        }
        out_.storage() = before;
        loss_.storage() = loss_before;
      });
}

TEST_P(AllocationFailure, PieceOfAPartialSum_IsAddedOrNot) {
  for (const auto mode : {PartialSum::Mode::kFast, PartialSum::Mode::kExact}) {
    PartialSum sum;
    fail_each_allocation([&] { return sum = {}, sum.add(x_.view(), y_.view(), mode, options()); },
                         [&](const Status& status, bool) {
                           EXPECT_EQ(sum.count(), status.ok() ? uint64_t{130 * 120} : 0);
                           EXPECT_TRUE(status.ok() || status.code() == Code::kOutOfMemory)
                               << status.message();
                         });
  }
}

}  // namespace
