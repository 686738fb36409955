#ifndef TIERCEL_CAPI_FACTS_H_
#define TIERCEL_CAPI_FACTS_H_

#include <string>

#include "tiercel/checkpoint.h"
#include "tiercel/recipe.h"
#include "tiercel/tiercel.h"

namespace tiercel::capi {

[[nodiscard]] tiercel_recipe_info ToInfo(const Recipe& recipe);
[[nodiscard]] tiercel_checkpoint_info ToInfo(const CheckpointInfo& checkpoint);
[[nodiscard]] tiercel_layer_info ToInfo(const LayerTable& layer, std::uint32_t column_count);
/// What tiercel_checkpoint_get_json() gives.
[[nodiscard]] std::string ToJson(const CheckpointInfo& checkpoint);

}  // namespace tiercel::capi

#endif  // TIERCEL_CAPI_FACTS_H_
