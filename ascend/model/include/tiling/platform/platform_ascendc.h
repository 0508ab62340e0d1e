// Replacement for CANN's platform query.
#pragma once

#include "model_gert.h"

namespace platform_ascendc {

enum class CoreMemType { L0_A = 0, L0_B = 1, L0_C = 2, L1 = 3, L2 = 4, UB = 5, HBM = 6 };

enum class SocVersion { ASCEND910 = 0, ASCEND910B = 1, ASCEND310P = 2, ASCEND310B = 3, ASCEND950 = 4 };

class PlatformAscendC {
 public:
  explicit PlatformAscendC(fe::PlatFormInfos* info) : info_(info) {}
  SocVersion GetSocVersion() const { return static_cast<SocVersion>(info_->soc_version); }
  uint32_t GetCoreNumAiv() const { return info_->aiv_cores; }
  void GetCoreMemSize(const CoreMemType& type, uint64_t& size) const {
    size = type == CoreMemType::UB ? info_->ub_bytes : type == CoreMemType::L2 ? info_->l2_bytes : 0;
  }

 private:
  fe::PlatFormInfos* info_;
};

// The chip of a direct launch: an Atlas A2.
class PlatformAscendCManager {
 public:
  static PlatformAscendC* GetInstance() {
    static fe::PlatFormInfos info;
    static PlatformAscendC platform(&info);
    return &platform;
  }
};

}  // namespace platform_ascendc
