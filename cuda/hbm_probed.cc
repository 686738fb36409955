// What a kernel has looked up in the mirror of the directory, and missed.
//
// The places that a probe writes are those that the gather reads: a slot, or the number of a
// miss, which is the group's number in the staging if all misses are staged in their order.
// So one gather takes both, out of the probe's own memory. The host does not see it: what was
// found is held by the order on the stream (hbm_mirror.cc), not by pins.
//
// The gather cannot fill slots on its way, since places do not say which: copy engines do, on
// the same stream before it, or on the tier's own (HbmUpload::kCopyEngine).

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "cuda/hbm_cache.h"

namespace tiercel {

static_assert(sizeof(GroupSource) == 2 * sizeof(std::uint32_t));

Result<HbmTicket> HbmCache::FetchMissesOnStream(const ProbedTokens& probed, const HbmOutput& output,
                                                HbmStream stream) {
  MutexLock lock(mutex_);
  if (closed_) return Status(StatusCode::kCancelled, "the HBM tier was closed");
  if (!options_.device_directory) {
    return Status(StatusCode::kInvalidArgument,
                  "the HBM tier has no directory on the device: set device_directory");
  }
  ReapAll();
  Result<std::uint32_t> index = FreeLaneIndex();
  if (!index.ok()) return std::move(index).TakeStatus();
  Lane& lane = *lanes_[index.value()];
  if (Status status = CheckOutputs(lane, {&output, 1}); !status.ok()) return status;
  LaneLayer& part = *lane.layers[lane.active[0]];
  if (Status status = CheckProbed(lane, layers_[lane.active[0]], probed); !status.ok()) {
    return status;
  }
  lane.state = Lane::State::kStarted;
  if (Status status = StartProbed(lane, part, probed, stream); !status.ok()) {
    if (!part.enqueued) Undo(part);
    lane.dropped = true;
    ReapAll();
    return status;
  }
  return HbmTicket(shared_from_this(), index.value());
}

Status HbmCache::CheckProbed(const Lane& lane, const Layer& layer, const ProbedTokens& probed) {
  if (probed.places == nullptr || reinterpret_cast<std::uintptr_t>(probed.places) % 8 != 0) {
    return Status(StatusCode::kInvalidArgument, "places must not be null, and at a multiple of 8");
  }
  if (probed.token_count > lane.token_capacity) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("a probe of {} tokens; there is room for {}: raise tokens_max",
                              probed.token_count, lane.token_capacity));
  }
  const std::uint64_t group_count = std::uint64_t{probed.token_count} * order_count_;
  if (probed.misses.size() > group_count) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} misses of {} tokens, which have {} groups", probed.misses.size(),
                              probed.token_count, group_count));
  }
  for (std::size_t i = 0; i < probed.misses.size(); ++i) {
    const DeviceMiss& miss = probed.misses[i];
    // A wrong key would have others find this group in the place of theirs.
    if (miss.order_index < order_count_ &&
        store_.hasher().GroupKey(layer.recipe_index, miss.order_index, miss.mix) == miss.key) {
      continue;
    }
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("miss {} is none of layer {}: order index {}, mix {:#x}, key {:#x}",
                              i, layer.layer_id, miss.order_index, miss.mix, miss.key));
  }
  return {};
}

Status HbmCache::StartProbed(Lane& lane, LaneLayer& part, const ProbedTokens& probed,
                             HbmStream stream) {
  lane.probed = true;
  lane.token_count = probed.token_count;
  if (++lane.sequence == 0) lane.sequence = 1;  // 0 is what `done` is at first.
  BeginPlan(lane, part);
  for (const DeviceMiss& miss : probed.misses) {
    const std::uint32_t space = SpaceOf(part.slot_of_layer, miss.order_index);
    const MissTable::Noted noted =
        part.misses.NoteAnyhow({.order_index = miss.order_index, .key = miss.key, .mix = miss.mix});
    ++counts_[space].groups;
    if (!noted.is_new) continue;
    ++counts_[space].staged;
    // It may have come meanwhile, and the mirror does not know yet.
    if (directory_->Find(space, miss.key) == HbmDirectory::kNoSlot) TakeSlot(part, noted.number);
  }
  Status status = Fetch(lane, part, lane.outputs[part.slot_of_layer]);
  if (status.ok()) {
    const bool own = options_.upload == HbmUpload::kCopyEngine;
    status = Upload(part, own ? upload_stream_ : stream);
  }
  if (!status.ok()) return status;
  return EnqueueGather(lane, part, reinterpret_cast<const GroupSource*>(probed.places), stream);
}

}  // namespace tiercel
