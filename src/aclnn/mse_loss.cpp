// The exported functions of the operators.
#include "aclnnop/aclnn_mse_loss.h"

#include "aclnn/executor.h"
#include "aclnnop/aclnn_mse_loss_backward.h"
#include "aclnnop/aclnn_mse_loss_out.h"

namespace mseloss::aclnn {
namespace {

const OperatorInfo kMseLossBackward{
    .name = "aclnnMseLossBackward",
    .op = Op::kGrad,
    .reduces_first_dimension = false,
    .inputs = 3,
    .operands = 4,
    .positions = {kGradOutput, kInput, kTarget, kOut},
    .names = {{"gradOutput", "self", "target", nullptr, "out", nullptr}},
};

constexpr OperatorInfo loss_info(const char* name, bool reduces_first_dimension) {
  return {
      .name = name,
      .op = Op::kLoss,
      .reduces_first_dimension = reduces_first_dimension,
      .inputs = 2,
      .operands = 3,
      .positions = {kInput, kTarget, kOut},
      .names = {{nullptr, "self", "target", nullptr, "out", "out"}},
  };
}
const OperatorInfo kMseLoss = loss_info("aclnnMseLoss", false);
const OperatorInfo kMseLossOut = loss_info("aclnnMseLossOut", true);

}  // namespace
}  // namespace mseloss::aclnn

using namespace mseloss::aclnn;

aclnnStatus aclnnMseLossBackwardGetWorkspaceSize(const aclTensor* gradOutput, const aclTensor* self,
                                                 const aclTensor* target, int64_t reduction, aclTensor* out,
                                                 uint64_t* workspaceSize, aclOpExecutor** executor) {
  const aclTensor* const operands[] = {gradOutput, self, target, out};
  return prepare(kMseLossBackward, operands, reduction, workspaceSize, executor);
}

aclnnStatus aclnnMseLossBackward(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor,
                                 aclrtStream stream) {
  return launch(kMseLossBackward, {workspace, workspaceSize}, executor, stream);
}

aclnnStatus aclnnMseLossGetWorkspaceSize(const aclTensor* self, const aclTensor* target, int64_t reduction,
                                         aclTensor* out, uint64_t* workspaceSize, aclOpExecutor** executor) {
  const aclTensor* const operands[] = {self, target, out};
  return prepare(kMseLoss, operands, reduction, workspaceSize, executor);
}

aclnnStatus aclnnMseLoss(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor,
                         aclrtStream stream) {
  return launch(kMseLoss, {workspace, workspaceSize}, executor, stream);
}

aclnnStatus aclnnMseLossOutGetWorkspaceSize(const aclTensor* self, const aclTensor* target, int64_t reduction,
                                            aclTensor* out, uint64_t* workspaceSize,
                                            aclOpExecutor** executor) {
  const aclTensor* const operands[] = {self, target, out};
  return prepare(kMseLossOut, operands, reduction, workspaceSize, executor);
}

aclnnStatus aclnnMseLossOut(void* workspace, uint64_t workspaceSize, aclOpExecutor* executor,
                            aclrtStream stream) {
  return launch(kMseLossOut, {workspace, workspaceSize}, executor, stream);
}
