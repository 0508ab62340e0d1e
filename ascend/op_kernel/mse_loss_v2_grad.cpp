// The kernel's entry for the operator package. DTYPE_PREDICT is the dtype of the binary being compiled.
#include "mse_loss_v2_grad.h"

extern "C" __global__ __aicore__ void mse_loss_v2_grad(GM_ADDR predict, GM_ADDR label, GM_ADDR dout,
                                                       GM_ADDR y, GM_ADDR workspace, GM_ADDR tiling) {
  KERNEL_TASK_TYPE_DEFAULT(MSE_KERNEL_TYPE);
  REGISTER_TILING_DEFAULT(MseLossV2GradTilingData);
  GET_TILING_DATA_WITH_STRUCT(MseLossV2GradTilingData, tiling_data, tiling);
  (void)workspace;
  AscendC::TPipe pipe;  // outside the class, so that the class members can be kept in registers
  mse_loss_v2_grad_op::MseLossV2Grad<DTYPE_PREDICT> kernel;
  kernel.Init(predict, label, dout, y, &tiling_data, &pipe);
  kernel.Process();
}
