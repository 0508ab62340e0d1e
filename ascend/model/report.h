// Put before the tiling source when the model compiles it: a refusal becomes the caller's message.
#pragma once

#include "model/run.h"

#define MSE_LOSS_V2_GRAD_REPORT(reason) ascend_model::ReportRefusal(reason)
