// tiercel_store_*_hot_set: a warm start.

#include "capi/hot_set.h"

#include <utility>

#include "capi/convert.h"
#include "capi/errors.h"
#include "capi/handles.h"
#include "capi/structs.h"
#include "tiercel/hot_set.h"
#include "tiercel/store.h"

using tiercel::Result;
using tiercel::Status;
namespace capi = tiercel::capi;

namespace tiercel::capi {
namespace {

static_assert(sizeof(tiercel_hot_set_save_options) == 2 * 8 + 2 * 4);
static_assert(sizeof(tiercel_hot_set_load_options) == 2 * 8 + 2 * 4);
static_assert(sizeof(tiercel_hot_set_progress) == 8 + 2 * 4 + 10 * 8);
static_assert(TIERCEL_HOT_SET_NONE == static_cast<int>(HotSetState::kNone));
static_assert(TIERCEL_HOT_SET_LOADING == static_cast<int>(HotSetState::kLoading));
static_assert(TIERCEL_HOT_SET_LOADED == static_cast<int>(HotSetState::kLoaded));
static_assert(TIERCEL_HOT_SET_FAILED == static_cast<int>(HotSetState::kFailed));
static_assert(TIERCEL_HOT_SET_CANCELLED == static_cast<int>(HotSetState::kCancelled));

Status ToSaveOptions(const tiercel_hot_set_save_options* given, HotSetSaveOptions* options) {
  tiercel_hot_set_save_options from = DefaultSaveOptions();
  Status status = ReadStruct(given, "options", &from);
  if (status.ok()) status = ToFlag(from.bytes, "bytes", &options->bytes);
  options->group_count_max = from.group_count_max;
  options->block_bytes = from.block_bytes;
  return status;
}

Status ToLoadOptions(const tiercel_hot_set_load_options* given, HotSetLoadOptions* options) {
  tiercel_hot_set_load_options from = DefaultLoadOptions();
  Status status = ReadStruct(given, "options", &from);
  if (status.ok()) status = CheckReserved(from.reserved, "tiercel_hot_set_load_options");
  if (status.ok()) status = ToFlag(from.bytes, "bytes", &options->bytes);
  options->pin_share = from.pin_share;
  return status;
}

tiercel_hot_set_progress ToProgress(const HotSetProgress& from) {
  return {.struct_size = sizeof(tiercel_hot_set_progress),
          .state = static_cast<std::uint32_t>(from.state),
          .reserved = 0,
          .group_count = from.group_count,
          .groups_loaded = from.groups_loaded,
          .groups_present = from.groups_present,
          .groups_left_out = from.groups_left_out,
          .groups_damaged = from.groups_damaged,
          .blocks_damaged = from.blocks_damaged,
          .groups_pinned = from.groups_pinned,
          .read_bytes = from.read_bytes,
          .total_bytes = from.total_bytes,
          .elapsed_ns = from.elapsed_ns};
}

}  // namespace

tiercel_hot_set_save_options DefaultSaveOptions() {
  const HotSetSaveOptions from;
  return {.struct_size = sizeof(tiercel_hot_set_save_options),
          .group_count_max = from.group_count_max,
          .bytes = from.bytes ? 1U : 0U,
          .block_bytes = from.block_bytes};
}

tiercel_hot_set_load_options DefaultLoadOptions() {
  const HotSetLoadOptions from;
  return {.struct_size = sizeof(tiercel_hot_set_load_options),
          .pin_share = from.pin_share,
          .bytes = from.bytes ? 1U : 0U,
          .reserved = 0};
}

}  // namespace tiercel::capi

tiercel_code tiercel_store_save_hot_set(const tiercel_store* store, const char* path,
                                        const tiercel_hot_set_save_options* options,
                                        tiercel_hot_set_saved* saved) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (store == nullptr) return capi::IsNull("store");
    if (path == nullptr) return capi::IsNull("path");
    tiercel::HotSetSaveOptions save;
    Status status = capi::ToSaveOptions(options, &save);
    // Before the work, not after it.
    if (status.ok() && saved != nullptr) {
      status = capi::CheckStructSize(saved->struct_size, "saved");
    }
    if (!status.ok()) return status;
    Result<tiercel::HotSetSaved> made = store->store->SaveHotSet(path, save);
    if (!made.ok()) return std::move(made).TakeStatus();
    if (saved == nullptr) return {};
    const tiercel_hot_set_saved value = {.struct_size = sizeof(value),
                                         .group_count = made.value().group_count,
                                         .file_bytes = made.value().file_bytes,
                                         .elapsed_ns = made.value().elapsed_ns};
    return capi::WriteStruct(value, "saved", saved);
  });
}

tiercel_code tiercel_store_load_hot_set(tiercel_store* store, const char* path,
                                        const tiercel_hot_set_load_options* options) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (store == nullptr) return capi::IsNull("store");
    if (path == nullptr) return capi::IsNull("path");
    tiercel::HotSetLoadOptions load;
    Status status = capi::ToLoadOptions(options, &load);
    if (!status.ok()) return status;
    return store->store->LoadHotSet(path, load);
  });
}

tiercel_code tiercel_store_get_hot_set(const tiercel_store* store,
                                       tiercel_hot_set_progress* progress) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (store == nullptr) return capi::IsNull("store");
    return capi::WriteStruct(capi::ToProgress(store->store->HotSet()), "progress", progress);
  });
}

tiercel_code tiercel_store_wait_hot_set(tiercel_store* store) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (store == nullptr) return capi::IsNull("store");
    return store->store->WaitForHotSet();
  });
}

tiercel_code tiercel_store_cancel_hot_set(tiercel_store* store) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (store == nullptr) return capi::IsNull("store");
    store->store->CancelHotSet();
    return {};
  });
}
