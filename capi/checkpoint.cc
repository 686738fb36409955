// tiercel_inspect and tiercel_checkpoint_*: what a checkpoint's tables are.

#include "tiercel/checkpoint.h"

#include <fmt/format.h>

#include <utility>

#include "capi/convert.h"
#include "capi/errors.h"
#include "capi/facts.h"
#include "capi/handles.h"
#include "capi/structs.h"

using tiercel::CheckpointInfo;
using tiercel::Result;
using tiercel::Status;
namespace capi = tiercel::capi;

tiercel_code tiercel_inspect(const char* path, tiercel_checkpoint** checkpoint) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (checkpoint == nullptr) return capi::IsNull("checkpoint");
    *checkpoint = nullptr;
    if (path == nullptr) return capi::IsNull("path");
    Result<CheckpointInfo> info = tiercel::InspectCheckpoint(path);
    if (!info.ok()) return std::move(info).TakeStatus();
    auto handle = std::make_unique<tiercel_checkpoint>();
    handle->own = std::make_unique<const CheckpointInfo>(std::move(info).value());
    handle->info = handle->own.get();
    *checkpoint = handle.release();
    return {};
  });
}

tiercel_code tiercel_checkpoint_get_info(const tiercel_checkpoint* checkpoint,
                                         tiercel_checkpoint_info* info) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (checkpoint == nullptr) return capi::IsNull("checkpoint");
    return capi::WriteStruct(capi::ToInfo(*checkpoint->info), "info", info);
  });
}

tiercel_code tiercel_checkpoint_get_recipe(const tiercel_checkpoint* checkpoint,
                                           tiercel_recipe_info* recipe) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (checkpoint == nullptr) return capi::IsNull("checkpoint");
    return capi::WriteStruct(capi::ToInfo(checkpoint->info->recipe), "recipe", recipe);
  });
}

tiercel_code tiercel_checkpoint_get_layer(const tiercel_checkpoint* checkpoint,
                                          uint32_t layer_index,
                                          tiercel_layer_info* layer) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (checkpoint == nullptr) return capi::IsNull("checkpoint");
    const CheckpointInfo& info = *checkpoint->info;
    if (layer_index >= info.layers.size()) {
      return {tiercel::StatusCode::kNotFound,
              fmt::format("layer index {}; {} has {} layers", layer_index, info.path,
                          info.layers.size())};
    }
    return capi::WriteStruct(capi::ToInfo(info.layers[layer_index], info.recipe.column_count()),
                             "layer", layer);
  });
}

tiercel_code tiercel_checkpoint_get_json(const tiercel_checkpoint* checkpoint, char** json,
                                         size_t* length) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (json == nullptr) return capi::IsNull("json");
    *json = nullptr;
    if (checkpoint == nullptr) return capi::IsNull("checkpoint");
    return capi::GiveString(capi::ToJson(*checkpoint->info), json, length);
  });
}

void tiercel_checkpoint_close(tiercel_checkpoint* checkpoint) noexcept {
  delete checkpoint;
}
