#ifndef TIERCEL_STORE_MAKE_CHECKPOINT_MODELS_H_
#define TIERCEL_STORE_MAKE_CHECKPOINT_MODELS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "store/make_checkpoint_plan.h"
#include "tiercel/recipe.h"
#include "tiercel/synthetic.h"

namespace tiercel {

/// The model's files with their tensors; order, headers and sizes are left to the caller.
[[nodiscard]] std::vector<PlannedFile> PlanModelFiles(const MakeCheckpointOptions& options,
                                                      const Recipe& recipe);

/// A tensor beside the table, of finite values: F8_E4M3, F8_E8M0, BF16 or F32.
[[nodiscard]] PlannedTensor FillerTensor(std::uint64_t seed, std::string name, TensorType type,
                                         std::vector<std::uint64_t> shape);

/// The model's config.json, the shrunk sizes in it.
[[nodiscard]] std::string ModelConfigText(const MakeCheckpointOptions& options,
                                          const Recipe& recipe);

}  // namespace tiercel

#endif  // TIERCEL_STORE_MAKE_CHECKPOINT_MODELS_H_
