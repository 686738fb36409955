#include "tiercel/synthetic.h"

namespace tiercel {

Result<VerifyReport> VerifySynthetic(const CheckpointInfo& /*checkpoint*/,
                                     const Progress& /*progress*/) {
  return Status(StatusCode::kUnavailable, "being written");
}

}  // namespace tiercel
