// Included before the tiling source in builds for the model: the reason of a failed tiling becomes the
// caller's error message.
#pragma once

#include "model/run.h"

#define MSE_LOSS_V2_GRAD_REPORT(reason) ascend_model::ReportRefusal(reason)
