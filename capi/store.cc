// tiercel_store_*: open, close and blocking lookups.

#include "tiercel/store.h"

#include <utility>

#include "capi/convert.h"
#include "capi/errors.h"
#include "capi/handles.h"
#include "capi/store_options.h"
#include "capi/structs.h"

using tiercel::Result;
using tiercel::RowOutput;
using tiercel::Status;
using tiercel::Store;
namespace capi = tiercel::capi;

tiercel_code tiercel_store_open(const char* path, const tiercel_store_options* options,
                                tiercel_store** store) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (store == nullptr) return capi::IsNull("store");
    *store = nullptr;
    if (path == nullptr) return capi::IsNull("path");
    tiercel::StoreOptions store_options;
    Status status = capi::ToStoreOptions(options, &store_options);
    if (!status.ok()) return status;
    auto handle = std::make_unique<tiercel_store>();
    Result<std::unique_ptr<Store>> opened = Store::Open(path, store_options);
    if (!opened.ok()) return std::move(opened).TakeStatus();
    handle->store = std::move(opened).value();
    handle->checkpoint.info = &handle->store->checkpoint();
    handle->hasher.hasher = &handle->store->hasher();
    *store = handle.release();
    return {};
  });
}

void tiercel_store_close(tiercel_store* store) noexcept {
  delete store;
}

const tiercel_checkpoint* tiercel_store_checkpoint(const tiercel_store* store) noexcept {
  return store == nullptr ? nullptr : &store->checkpoint;
}

const tiercel_hasher* tiercel_store_hasher(const tiercel_store* store) noexcept {
  return store == nullptr ? nullptr : &store->hasher;
}

tiercel_code tiercel_store_get_row_size(const tiercel_store* store, uint32_t layer_id,
                                        uint32_t output, uint32_t* row_size_bytes) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (store == nullptr) return capi::IsNull("store");
    if (row_size_bytes == nullptr) return capi::IsNull("row_size_bytes");
    RowOutput format{};
    Status status = capi::ToRowOutput(output, &format);
    if (!status.ok()) return status;
    Result<std::uint32_t> size = store->store->OutputRowSizeBytes(layer_id, format);
    if (!size.ok()) return std::move(size).TakeStatus();
    *row_size_bytes = size.value();
    return {};
  });
}

tiercel_code tiercel_store_lookup(tiercel_store* store, const tiercel_token_run* runs,
                                  size_t run_count, const tiercel_layer_output* outputs,
                                  size_t output_count, uint32_t output) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (store == nullptr) return capi::IsNull("store");
    RowOutput format{};
    Status status = capi::ToRowOutput(output, &format);
    capi::Runs token_runs(run_count);
    if (status.ok()) status = capi::ToRuns(runs, run_count, &token_runs);
    if (status.ok()) status = capi::CheckArray(outputs, output_count, "outputs");
    capi::SmallArray<tiercel::LayerOutput, 8> layers(output_count);
    for (size_t i = 0; status.ok() && i < output_count; ++i) {
      status = capi::ToOutput(outputs[i], &layers[i]);
    }
    if (!status.ok()) return status;
    return store->store->Lookup(token_runs.span(), layers.span(), format);
  });
}

tiercel_code tiercel_store_lookup_rows(tiercel_store* store, const uint64_t* rows, size_t row_count,
                                       const tiercel_layer_output* layer,
                                       uint32_t output) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (store == nullptr) return capi::IsNull("store");
    if (layer == nullptr) return capi::IsNull("layer");
    RowOutput format{};
    tiercel::LayerOutput layer_output;
    Status status = capi::ToRowOutput(output, &format);
    if (status.ok()) status = capi::CheckArray(rows, row_count, "rows");
    if (status.ok()) status = capi::ToOutput(*layer, &layer_output);
    if (!status.ok()) return status;
    return store->store->LookupRows(capi::ToRowIds(rows, row_count), layer_output, format);
  });
}

tiercel_code tiercel_store_update(tiercel_store* store, const tiercel_row_update* rows,
                                  size_t row_count) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (store == nullptr) return capi::IsNull("store");
    Status status = capi::CheckArray(rows, row_count, "rows");
    capi::SmallArray<tiercel::RowUpdate, 8> updates(row_count);
    for (size_t i = 0; status.ok() && i < row_count; ++i) {
      status = capi::ToRowUpdate(rows[i], &updates[i]);
    }
    if (!status.ok()) return status;
    return store->store->Update(updates.span());
  });
}
