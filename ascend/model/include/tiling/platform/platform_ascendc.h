// Replacement for CANN's platform query.
#pragma once

#include "model_gert.h"

namespace platform_ascendc {

enum class CoreMemType { L0_A = 0, L0_B = 1, L0_C = 2, L1 = 3, L2 = 4, UB = 5, HBM = 6 };

class PlatformAscendC {
 public:
  explicit PlatformAscendC(fe::PlatFormInfos* info) : info_(info) {}
  uint32_t GetCoreNumAiv() const { return info_->aiv_cores; }
  void GetCoreMemSize(const CoreMemType& type, uint64_t& size) const {
    size = type == CoreMemType::UB ? info_->ub_bytes : type == CoreMemType::L2 ? info_->l2_bytes : 0;
  }

 private:
  fe::PlatFormInfos* info_;
};

}  // namespace platform_ascendc
