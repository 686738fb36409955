// Lookups that do not see what was updated since: an ordinary lookup, in which the rows that
// may have been updated, few of them, are then put right.

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

#include "store/probe.h"
#include "store/store_impl.h"

namespace tiercel {

struct StoreSnapshot::Impl {
  Store::Impl* store = nullptr;
  Overlay::View view;  ///< No snapshot: nothing is ever updated.

  void PutRight(std::uint32_t layer_index, const LayerOutput& output, std::span<const RowId> rows,
                std::uint64_t first_index, RowOutput format);
  [[nodiscard]] Status Lookup(std::span<const TokenRun> runs, std::span<const LayerOutput> outputs,
                              RowOutput format);
};

namespace {

/// Tokens whose row ids are computed at a time.
constexpr std::size_t kTokensAtOnce = 256;

Status OutcomeOf(std::span<const LayerOutput> outputs) {
  std::uint64_t failed = 0;
  std::uint64_t total = 0;
  for (const LayerOutput& output : outputs) {
    total += output.row_status.size();
    failed += static_cast<std::uint64_t>(std::ranges::count_if(output.row_status, [](RowStatus s) {
      return s != RowStatus::kOk && s != RowStatus::kDead;
    }));
  }
  return Outcome(failed, total);
}

Status NoMemoryForSnapshot() {
  return Status(StatusCode::kResourceExhausted, "no memory for a snapshot of the store");
}

/// Whether the outputs were written.
bool Delivered(const Status& status) {
  return status.ok() || status.code() == StatusCode::kPartial;
}

}  // namespace

/// Gives rows of an output that were delivered as of now the bytes of the snapshot.
///   rows         ids of the output's rows from `first_index` on.
void StoreSnapshot::Impl::PutRight(std::uint32_t layer_index, const LayerOutput& output,
                                   std::span<const RowId> rows, std::uint64_t first_index,
                                   RowOutput format) {
  const ServedLayer& layer = store->layout.layers[layer_index];
  const std::uint32_t row_bytes = store->OutputRowSizeBytes(layer_index, format);
  const BatchLayer place = {.layer_index = layer_index,
                            .rows = output.rows.data(),
                            .row_status = output.row_status.data(),
                            .output_row_size_bytes = row_bytes,
                            .row_stride_bytes = row_bytes};
  std::vector<std::byte> stored(layer.row_size_bytes);
  std::vector<Store::Impl::BaseRow> base;
  const Lease<Batch> batch(store->batches);  // It knows how to write a row.
  batch->Reset(store->layout, format, store->waiters);
  batch->AddLayer(place);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::uint64_t row_index = first_index + i;
    // A row beyond the table, or of a dead token, has no bytes to be put right.
    if (Index(rows[i]) >= layer.row_count || output.row_status[row_index] == RowStatus::kDead ||
        !store->overlay->MayHave(layer_index, rows[i])) {
      continue;
    }
    const Result<bool> got =
        store->overlay->db().GetRow(*view.snapshot, layer.layer_id, rows[i], stored);
    if (!got.ok()) {
      batch->WriteFailed(0, row_index, 1,
                         got.status().code() == StatusCode::kCorruption ? RowStatus::kCorruption
                                                                        : RowStatus::kIoError);
    } else if (got.value()) {
      batch->Write(0, store->layout.spaces[layer.base_space], row_index, stored);
    } else {
      base.push_back({.row = rows[i], .row_index = row_index});
    }
  }
  store->LookupBase(base, place, format);
}

Status StoreSnapshot::Impl::Lookup(std::span<const TokenRun> runs,
                                   std::span<const LayerOutput> outputs, RowOutput format) {
  Status status = store->Lookup(runs, outputs, format);
  if (view.snapshot == nullptr || !Delivered(status)) return status;
  const std::uint32_t column_count = store->layout.column_count;
  std::vector<RowId> rows;
  std::vector<TokenRun> slices;
  for (const LayerOutput& output : outputs) {
    const std::uint32_t layer_index = store->FindLayer(output.layer_id).value();
    RunCursor cursor;
    std::uint64_t token = 0;
    while (token < output.row_status.size() / column_count) {
      FillWindow(runs, kTokensAtOnce, cursor, slices);
      for (const TokenRun& slice : slices) {
        rows.resize(slice.tokens.size() * column_count);
        status =
            store->hasher.RowIds(store->layout.layers[layer_index].recipe_index, slice, rows, {});
        if (!status.ok()) return status;
        PutRight(layer_index, output, rows, token * column_count, format);
        token += slice.tokens.size();
      }
    }
  }
  return OutcomeOf(outputs);
}

StoreSnapshot::StoreSnapshot(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
StoreSnapshot::StoreSnapshot(StoreSnapshot&&) noexcept = default;
StoreSnapshot& StoreSnapshot::operator=(StoreSnapshot&&) noexcept = default;
StoreSnapshot::~StoreSnapshot() = default;

std::uint64_t StoreSnapshot::sequence() const noexcept {
  return impl_->view.sequence;
}

Status StoreSnapshot::Lookup(std::span<const TokenRun> runs, std::span<const LayerOutput> outputs,
                             RowOutput format) {
  try {
    return impl_->Lookup(runs, outputs, format);
  } catch (const std::bad_alloc&) {
    return NoMemoryForSnapshot();
  }
}

Status StoreSnapshot::LookupRows(std::span<const RowId> rows, const LayerOutput& output,
                                 RowOutput format) {
  try {
    Status status = impl_->store->LookupRows(rows, output, format);
    if (impl_->view.snapshot == nullptr || !Delivered(status)) return status;
    const Result<std::uint32_t> layer_index = impl_->store->FindLayer(output.layer_id);
    impl_->PutRight(layer_index.value(), output, rows, 0, format);
    return OutcomeOf(std::span(&output, 1));
  } catch (const std::bad_alloc&) {
    return NoMemoryForSnapshot();
  }
}

Result<StoreSnapshot> Store::Snapshot() {
  try {
    auto snapshot = std::make_unique<StoreSnapshot::Impl>();
    snapshot->store = impl_.get();
    if (impl_->overlay != nullptr) snapshot->view = impl_->overlay->CurrentView();
    return StoreSnapshot(std::move(snapshot));
  } catch (const std::bad_alloc&) {
    return NoMemoryForSnapshot();
  }
}

}  // namespace tiercel
