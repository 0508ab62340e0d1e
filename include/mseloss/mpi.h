// The loss of data that is distributed over the ranks of an MPI communicator, and its gradient: the same bits
// on every rank, for any number of ranks and any distribution. Link mseloss::mpi.
//
//   #include <mseloss/mpi.h>
//   float loss;  // of the data of all ranks together; `x` and `y` are those of this rank
//   mseloss::Status status = mseloss::mpi::loss(x, y, mseloss::Reduction::kMean, &loss, MPI_COMM_WORLD);
//
// All functions are collective: every rank of the communicator calls them, with the same reduction, dtypes
// and options, and either all with a weight or none. Ranks may hold any shapes, also without elements. A call
// exchanges 468 bytes, for float64 2288, with MPI_SUM, whatever the number of ranks (up to
// PartialSum::kMaxArrays); in about one case in a million twice, after an exact sweep.
//
// On an error on any rank all ranks return one: the rank itself its own, the others kCommunication. Then the
// outputs are unspecified. Two errors are not shared:
// - Dtypes that promote to float64 on some ranks only: the ranks send messages of different lengths, for
//   which MPI defines no result. This includes a dtype that is not supported on one rank only.
// - With grad_input in place of an operand, the gradient is computed after the last exchange. A null
//   grad_output, or a grad_input with wrong shape or strides, is an error on that rank alone.
#ifndef MSELOSS_MPI_H_
#define MSELOSS_MPI_H_

#include <mpi.h>

#include <array>

#include "mseloss/mseloss.h"

namespace mseloss::mpi {

// Replaces the sum by that of all ranks. `dtype` is the promoted dtype of the inputs. `local` is an earlier
// error of this rank, which is returned; the other ranks return kCommunication.
inline Status all_reduce(PartialSum* sum, DType dtype, MPI_Comm comm, Status local = {}) {
  std::array<int32_t, PartialSum::digit_count(DType::kFloat64)> words{};  // zeros if this rank has failed
  const std::span<int32_t> digits(words.data(), static_cast<size_t>(PartialSum::digit_count(dtype)));
  if (local.ok()) local = sum->encode(dtype, digits);
  int ranks = 0, code = MPI_Comm_size(comm, &ranks);
  if (code == MPI_SUCCESS) {
    code = MPI_Allreduce(MPI_IN_PLACE, digits.data(), static_cast<int>(digits.size()), MPI_INT32_T, MPI_SUM,
                         comm);
  }
  if (!local.ok()) return local;
  if (code != MPI_SUCCESS) {
    return Status::error(Code::kCommunication,
                         "comm: expected MPI to add the sums of the ranks, got error %d", code);
  }
  // The first word counts the arrays that were added.
  if (digits[0] != ranks && ranks <= PartialSum::kMaxArrays) {
    return Status::error(Code::kCommunication, "comm: expected all %d ranks to succeed, got an error on %d",
                         ranks, ranks - digits[0]);
  }
  return sum->decode(digits);
}

namespace internal {

inline DType promoted(const ConstTensor& a, const ConstTensor& b) {  // as far as PartialSum distinguishes
  return a.dtype == DType::kFloat64 || b.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
}

inline Status check(Reduction reduction, const Tensor& loss, const char* name) {
  if (reduction != Reduction::kMean && reduction != Reduction::kSum) {
    return Status::error(Code::kReduction, "reduction: expected mean or sum, got %s", name_of(reduction));
  }
  if (loss.dtype > DType::kFloat64) {
    return Status::error(Code::kDType, "%s: expected float32, float16, bfloat16 or float64, got %s", name,
                         name_of(loss.dtype));
  }
  if (!loss.shape.empty()) {
    return Status::error(Code::kShape, "%s: expected a 0-dimensional tensor, got %d dimensions", name,
                         static_cast<int>(loss.shape.size()));
  }
  if (loss.data == nullptr)
    return Status::error(Code::kNullPointer, "%s: expected an address, got null", name);
  return {};
}

// Calls add(sum, mode) on every rank and finish(the sum of all ranks), with fast sums and, if finish()
// returns false, on all ranks alike, with exact ones.
template <class Add, class Finish>
Status sum_until_decided(const Status& checked, DType dtype, const Options& options, MPI_Comm comm, Add add,
                         Finish finish) {
  for (const auto mode : {PartialSum::Mode::kFast, PartialSum::Mode::kExact}) {
    if (options.exact && mode == PartialSum::Mode::kFast) continue;
    PartialSum sum;
    if (Status status = all_reduce(&sum, dtype, comm, checked.ok() ? add(&sum, mode) : checked);
        !status.ok()) {
      return status;
    }
    if (finish(sum)) break;
  }
  return {};
}

inline Status add(PartialSum* sum, const ConstTensor& input, const ConstTensor& target,
                  const ConstTensor* weight, PartialSum::Mode mode, const Options& options) {
  return weight == nullptr ? sum->add(input, target, mode, options)
                           : sum->add(input, target, *weight, mode, options);
}

inline Status loss(const ConstTensor& input, const ConstTensor& target, const ConstTensor* weight,
                   Reduction reduction, const Tensor& out, MPI_Comm comm, const Options& options) {
  return sum_until_decided(
      check(reduction, out, "out"), promoted(input, target), options, comm,
      [&](PartialSum* sum, PartialSum::Mode mode) { return add(sum, input, target, weight, mode, options); },
      [&](const PartialSum& sum) { return sum.finish(reduction, out.dtype, out.data); });
}

// The errors of the gradient's dtypes and of the shape of grad_output, from a call without elements.
inline Status check_grad(ConstTensor input, ConstTensor target, const ConstTensor* weight,
                         const ConstTensor& grad_output, Tensor grad_input, const Options& options) {
  static constexpr int64_t kEmpty[] = {0};
  ConstTensor weights = weight == nullptr ? ConstTensor{} : *weight;
  const auto make_empty = [](auto&... tensors) { ((tensors.shape = kEmpty, tensors.strides = {}), ...); };
  make_empty(input, target, weights, grad_input);
  PartialSum unused;
  return unused.add_with_grad(input, target, weight == nullptr ? nullptr : &weights, 2, grad_output,
                              grad_input, options);
}

inline Status loss_and_grad(const ConstTensor& input, const ConstTensor& target, const ConstTensor* weight,
                            Reduction reduction, const ConstTensor& grad_output, const Tensor& loss,
                            const Tensor& grad_input, MPI_Comm comm, const Options& options) {
  const DType dtype = promoted(input, target);
  Status status = check(reduction, loss, "loss");
  double scale = 2;
  if (reduction != Reduction::kSum) {
    status = sum_until_decided(
        status, dtype, options, comm,
        [&](PartialSum* sum, PartialSum::Mode mode) {
          return sum->add_divisor(input, target, weight, mode, options);
        },
        [&](const PartialSum& sum) { return sum.scale(reduction, dtype, &scale); });
    if (!status.ok()) return status;
  }
  const auto add_with_grad = [&](PartialSum* sum) {
    return sum->add_with_grad(input, target, weight, scale, grad_output, grad_input, options);
  };
  // An exact sweep needs unmodified inputs, so a gradient in place comes last.
  const void* const out = grad_input.data;
  const bool in_place = out == input.data || out == target.data || (weight != nullptr && out == weight->data);
  if (in_place && status.ok()) status = check_grad(input, target, weight, grad_output, grad_input, options);
  PartialSum unused;
  status = sum_until_decided(
      status, dtype, options, comm,
      [&](PartialSum* sum, PartialSum::Mode mode) {
        if (!in_place && mode == PartialSum::Mode::kFast) return add_with_grad(sum);
        if (!in_place && options.exact) {
          if (Status written = add_with_grad(&unused); !written.ok()) return written;
        }
        return add(sum, input, target, weight, mode, options);
      },
      [&](const PartialSum& sum) { return sum.finish(reduction, loss.dtype, loss.data); });
  return status.ok() && in_place ? add_with_grad(&unused) : status;
}

}  // namespace internal

// As mseloss::loss() of the concatenation of all ranks' data, with kMean or kSum and a 0-dimensional `out`.
// Every rank gets the loss. The mean of no data is NaN.
inline Status loss(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                   const Tensor& out, MPI_Comm comm, const Options& options = {}) {
  return internal::loss(input, target, nullptr, reduction, out, comm, options);
}
inline Status loss(const ConstTensor& input, const ConstTensor& target, const ConstTensor& weight,
                   Reduction reduction, const Tensor& out, MPI_Comm comm, const Options& options = {}) {
  return internal::loss(input, target, &weight, reduction, out, comm, options);
}

// As mseloss::loss_and_grad() of all ranks' data; each rank gets the loss, and the gradient of its own part:
// the derivative of the loss of all data, not to be averaged over the ranks. kMean exchanges its divisor
// first.
inline Status loss_and_grad(const ConstTensor& input, const ConstTensor& target, Reduction reduction,
                            const ConstTensor& grad_output, const Tensor& loss, const Tensor& grad_input,
                            MPI_Comm comm, const Options& options = {}) {
  return internal::loss_and_grad(input, target, nullptr, reduction, grad_output, loss, grad_input, comm,
                                 options);
}
inline Status loss_and_grad(const ConstTensor& input, const ConstTensor& target, const ConstTensor& weight,
                            Reduction reduction, const ConstTensor& grad_output, const Tensor& loss,
                            const Tensor& grad_input, MPI_Comm comm, const Options& options = {}) {
  return internal::loss_and_grad(input, target, &weight, reduction, grad_output, loss, grad_input, comm,
                                 options);
}

}  // namespace mseloss::mpi

#endif  // MSELOSS_MPI_H_
