// How updates of the store's rows come into HBM.
//
// An update is told of twice (UpdateObserver), both times without a lock of the store's that
// a batch could wait for. From the first call to the second the rows in question are
// `changing_`. Three things hold then:
//
//  - Groups with such a row leave the directory, some slots at a time, so that no batch waits
//    for long. Batches in flight that found them go on; their slots are written again only
//    when these have ended. The new rows are seen by nobody before this is through.
//  - What is on its way into a slot, asked for before, is not published when it comes: it may
//    be the old row, merged before the update showed. It is marked here, once.
//  - What is asked for meanwhile gets no slot: see HbmCache::Plan().
//
// What is asked for after the second call is the new row. The mirror of the directory is told
// with the next SyncDirectoryOnStream(), of all that left before.

#include <algorithm>

#include "cuda/hbm_cache.h"

namespace tiercel {
namespace {

/// Slots that are looked at under one lock: 60 us at 30 ns each, as in the sweep of DRAM.
constexpr std::uint32_t kSlotsSweptAtOnce = 2048;

}  // namespace

void HbmCache::OnUpdateBegins(const ChangingRows& rows) noexcept {
  const std::uint32_t slot_count = BeginChange(rows);
  for (std::uint32_t first = 0; first < slot_count; first += kSlotsSweptAtOnce) {
    MutexLock lock(mutex_);
    if (closed_) return;
    directory_->RemoveIf(first, kSlotsSweptAtOnce, [&](std::uint32_t space, std::uint64_t key) {
      return rows.HasRowOf(layers_[space / order_count_].layer_id, space % order_count_, key);
    });
  }
}

void HbmCache::OnUpdateEnds() noexcept {
  MutexLock lock(mutex_);
  if (closed_) return;
  changing_ = nullptr;
  // The mirror may have what the directory gave up before, too.
  untold_ = changes_.size() + directory_->change_count();
}

/// Marks what is on its way. Returns how many slots there are to sweep.
std::uint32_t HbmCache::BeginChange(const ChangingRows& rows) noexcept {
  MutexLock lock(mutex_);
  if (closed_) return 0;
  changing_ = &rows;
  for (const auto& lane : lanes_) {
    for (const auto& part : lane->layers) {
      for (LaneLayer::Fill& fill : part->fills) {
        const MissTable::Miss& miss = part->misses.misses()[fill.number];
        if (fill.stale ||
            !rows.HasRowOf(layers_[part->slot_of_layer].layer_id, miss.order_index, miss.key)) {
          continue;
        }
        fill.stale = true;
        ++counts_[SpaceOf(part->slot_of_layer, miss.order_index)].refusals;
      }
    }
  }
  for (const auto& upload : uploads_) {
    for (PendingUpload::Fill& fill : upload->fills) {
      if (!fill.good || !rows.HasRowOf(layers_[fill.space / order_count_].layer_id,
                                       fill.space % order_count_, fill.key)) {
        continue;
      }
      fill.good = false;
      ++counts_[fill.space].refusals;
    }
  }
  return directory_->slot_count();
}

}  // namespace tiercel
