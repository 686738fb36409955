// tiercel_hasher_*: token runs to mixes and row ids.

#include "tiercel/hasher.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "capi/convert.h"
#include "capi/errors.h"
#include "capi/facts.h"
#include "capi/handles.h"
#include "capi/structs.h"

using tiercel::Hasher;
using tiercel::Result;
using tiercel::RowId;
using tiercel::Status;
using tiercel::TokenRun;
namespace capi = tiercel::capi;

namespace tiercel::capi {
namespace {

/// What mixes and row ids are made from, checked.
struct HashInput {
  std::uint32_t layer_index = 0;
  TokenRun run;
  std::span<std::uint8_t> dead;
};

Status ToHashInput(const tiercel_hasher* hasher, std::uint32_t layer_id,
                   const tiercel_token_run* run, std::uint8_t* dead, HashInput* input) {
  if (hasher == nullptr) return IsNull("hasher");
  if (run == nullptr) return IsNull("run");
  const std::optional<std::uint32_t> index = hasher->hasher->recipe().FindLayer(layer_id);
  if (!index) {
    return {StatusCode::kNotFound, fmt::format("the recipe has no table for layer {}", layer_id)};
  }
  input->layer_index = *index;
  if (dead != nullptr) input->dead = {dead, run->token_count};
  return ToRun(*run, &input->run);
}

}  // namespace
}  // namespace tiercel::capi

tiercel_code tiercel_hasher_open(const tiercel_checkpoint* checkpoint, const tiercel_token_map* map,
                                 tiercel_hasher** hasher) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (hasher == nullptr) return capi::IsNull("hasher");
    *hasher = nullptr;
    if (checkpoint == nullptr) return capi::IsNull("checkpoint");
    Result<Hasher> made = Hasher::Create(checkpoint->info->recipe,
                                         map == nullptr ? checkpoint->info->token_map : map->map);
    if (!made.ok()) return std::move(made).TakeStatus();
    auto handle = std::make_unique<tiercel_hasher>();
    handle->own = std::make_unique<const Hasher>(std::move(made).value());
    handle->hasher = handle->own.get();
    *hasher = handle.release();
    return {};
  });
}

tiercel_code tiercel_hasher_get_recipe(const tiercel_hasher* hasher,
                                       tiercel_recipe_info* recipe) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (hasher == nullptr) return capi::IsNull("hasher");
    return capi::WriteStruct(capi::ToInfo(hasher->hasher->recipe()), "recipe", recipe);
  });
}

tiercel_code tiercel_hasher_mixes(const tiercel_hasher* hasher, uint32_t layer_id,
                                  const tiercel_token_run* run, uint64_t* mixes, size_t mix_count,
                                  uint8_t* dead) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    capi::HashInput input;
    Status status = capi::ToHashInput(hasher, layer_id, run, dead, &input);
    if (status.ok()) status = capi::CheckArray(mixes, mix_count, "mixes");
    if (!status.ok()) return status;
    return hasher->hasher->Mixes(input.layer_index, input.run, {mixes, mix_count}, input.dead);
  });
}

tiercel_code tiercel_hasher_row_ids(const tiercel_hasher* hasher, uint32_t layer_id,
                                    const tiercel_token_run* run, uint64_t* rows, size_t row_count,
                                    uint8_t* dead) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    capi::HashInput input;
    Status status = capi::ToHashInput(hasher, layer_id, run, dead, &input);
    if (status.ok()) status = capi::CheckArray(rows, row_count, "rows");
    if (!status.ok()) return status;
    return hasher->hasher->RowIds(input.layer_index, input.run,
                                  {reinterpret_cast<RowId*>(rows), row_count}, input.dead);
  });
}

void tiercel_hasher_close(tiercel_hasher* hasher) noexcept {
  delete hasher;
}
