#ifndef TIERCEL_STORE_MAKE_CHECKPOINT_MODELS_H_
#define TIERCEL_STORE_MAKE_CHECKPOINT_MODELS_H_

#include <string>
#include <vector>

#include "store/make_checkpoint_plan.h"
#include "tiercel/recipe.h"
#include "tiercel/synthetic.h"

namespace tiercel {

/// The model's files with their tensors; order, headers and sizes are left to the caller.
[[nodiscard]] std::vector<PlannedFile> PlanModelFiles(const MakeCheckpointOptions& options,
                                                      const Recipe& recipe);

/// The model's config.json, the shrunk sizes in it.
[[nodiscard]] std::string ModelConfigText(const MakeCheckpointOptions& options,
                                          const Recipe& recipe);

}  // namespace tiercel

#endif  // TIERCEL_STORE_MAKE_CHECKPOINT_MODELS_H_
