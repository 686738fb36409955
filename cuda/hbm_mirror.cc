// The mirror of the directory in device memory, which kernels probe.
//
// Its updates come through one stream, where all probes are too. A slot that was given up
// stays pinned until the update that tells so has run: by then every probe that could find it
// has run, and so has, on the same stream, the gather of what it found.

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "cuda/hbm_cache.h"

namespace tiercel {
namespace {

/// Four of the sixteen entries that a group may lie in are in use when all slots are.
constexpr std::uint64_t kSlotsPerBucket = 4;

Status MirrorIsLost(const Status& failure) {
  return Status(failure.code(),
                fmt::format("an update of the directory's mirror failed, so that probes may find "
                            "what is there no more: open the HBM tier anew: {}",
                            failure.message()),
                failure.os_error());
}

}  // namespace

Status HbmCache::MakeMirror() {
  const std::uint64_t bucket_count = directory_->slot_count() / kSlotsPerBucket + 1;
  Result<std::byte*> buckets = device_->AllocateDevice(bucket_count * MirrorTable::kBucketBytes);
  if (!buckets.ok()) return std::move(buckets).TakeStatus();
  mirror_ = {.buckets = buckets.value(), .bucket_count = static_cast<std::uint32_t>(bucket_count)};
  const std::uint64_t update_bytes = kMirrorChangesMax * sizeof(DeviceChange);
  Result<MappedMemory> memory = device_->AllocateMapped(mirror_updates_.size() * update_bytes);
  if (!memory.ok()) return std::move(memory).TakeStatus();
  mirror_memory_ = memory.value();
  for (std::size_t i = 0; i < mirror_updates_.size(); ++i) {
    Result<HbmEvent> event = device_->CreateEvent();
    if (!event.ok()) return std::move(event).TakeStatus();
    mirror_updates_[i].applied = event.value();
    mirror_updates_[i].changes = {
        reinterpret_cast<DeviceChange*>(mirror_memory_.host + i * update_bytes),
        reinterpret_cast<DeviceChange*>(mirror_memory_.device + i * update_bytes)};
  }
  directory_->LogChanges();
  return {};
}

void HbmCache::ReapMirror() {
  for (MirrorUpdate& update : mirror_updates_) {
    if (!update.under_way || update.failed) continue;
    const Result<bool> applied = device_->QueryEvent(update.applied);
    if (!applied.ok() || !applied.value()) continue;
    for (const std::uint32_t slot : update.left) directory_->Unpin(slot);
    update.left.clear();
    update.under_way = false;
  }
}

/// Writes the oldest changes into `update`, of each group the outcome alone: what came and
/// went again in between nobody need hear of. Returns how many there are to apply.
std::uint32_t HbmCache::WriteChanges(MirrorUpdate& update) {
  struct Outcome {
    bool left = false;  ///< It may be in the mirror.
    std::optional<std::uint32_t> slot;
  };
  std::map<std::pair<std::uint8_t, std::uint64_t>, Outcome> outcomes;
  // At most two changes to apply for each that is noted.
  const std::size_t count = std::min(changes_.size(), kMirrorChangesMax / 2);
  for (std::size_t i = 0; i < count; ++i) {
    const HbmChange& change = changes_[i];
    Outcome& outcome = outcomes[{change.space, change.key}];
    if (change.added) {
      outcome.slot = change.slot;
    } else {
      outcome.left = true;
      outcome.slot.reset();
      update.left.push_back(change.slot);
    }
  }
  changes_.erase(changes_.begin(), changes_.begin() + static_cast<std::ptrdiff_t>(count));
  untold_ -= std::min(untold_, count);
  std::uint32_t written = 0;
  for (const auto& [group, outcome] : outcomes) {
    const DeviceChange change = {
        .key = group.second, .slot = outcome.slot.value_or(0), .space = group.first, .added = 0};
    if (outcome.left) update.changes.host[written++] = change;
    if (!outcome.slot) continue;
    update.changes.host[written] = change;
    update.changes.host[written++].added = 1;
  }
  return written;
}

Status HbmCache::SyncDirectoryOnStream(HbmStream stream) {
  MutexLock lock(mutex_);
  if (closed_) return Status(StatusCode::kCancelled, "the HBM tier was closed");
  if (!options_.device_directory) {
    return Status(StatusCode::kInvalidArgument,
                  "the HBM tier has no directory on the device: set device_directory");
  }
  ReapAll();
  if (!mirror_failure_.ok()) return MirrorIsLost(mirror_failure_);
  for (const HbmChange& change : directory_->TakeChanges()) changes_.push_back(change);
  bool first = true;
  for (MirrorUpdate& update : mirror_updates_) {
    // The second one is for what must not be found any more.
    if (update.under_way || changes_.empty() || (!first && untold_ == 0)) continue;
    first = false;
    const std::uint32_t count = WriteChanges(update);
    update.under_way = true;
    Status status = device_->ApplyChanges(mirror_, update.changes.device, count, stream);
    if (status.ok()) status = device_->RecordEvent(update.applied, stream);
    if (status.ok()) continue;
    // Nobody can say what the mirror has, nor when: what left stays pinned for good, and no
    // later update may tell of it. The event says nothing, since it was not recorded.
    update.failed = true;
    mirror_failure_ = std::move(status);
    return MirrorIsLost(mirror_failure_);
  }
  if (untold_ == 0) return {};
  return Status(StatusCode::kUnavailable,
                fmt::format("rows were updated, and the mirror may still have groups with the old "
                            "ones: {} changes before that do not fit into what is under way; call "
                            "again when the stream has come further",
                            untold_));
}

Result<std::uint32_t> HbmCache::FirstSpaceOf(std::uint32_t layer_id) const {
  const auto found = std::ranges::find(layers_, layer_id, &Layer::layer_id);
  if (found != layers_.end()) {
    return SpaceOf(static_cast<std::uint32_t>(found - layers_.begin()), 0);
  }
  return Status(StatusCode::kNotFound, fmt::format("layer {} is not served from HBM", layer_id));
}

}  // namespace tiercel
