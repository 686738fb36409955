#ifndef TIERCEL_STORE_MAKE_CHECKPOINT_GGUF_H_
#define TIERCEL_STORE_MAKE_CHECKPOINT_GGUF_H_

#include "store/make_checkpoint_plan.h"
#include "tiercel/status.h"
#include "tiercel/synthetic.h"

namespace tiercel {

/// Lays out a GGUF model, in as many parts as `options` ask for. Errors: kInvalidArgument.
[[nodiscard]] Result<CheckpointPlan> PlanGguf(const MakeCheckpointOptions& options);

}  // namespace tiercel

#endif  // TIERCEL_STORE_MAKE_CHECKPOINT_GGUF_H_
