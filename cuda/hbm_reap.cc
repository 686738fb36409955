// The end of a batch in the HBM tier: what is taken back when the device has gathered it,
// and what its ticket tells.

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "cuda/hbm_cache.h"

namespace tiercel {

void HbmCache::ReapAll() {
  ReapMirror();
  for (auto& lane : lanes_) {
    if (lane->state != Lane::State::kFree) Reap(*lane);
  }
  ReapUploads();  // Those that the lanes have just let go of, too.
}

void HbmCache::Reap(Lane& lane) {
  for (auto& part : lane.layers) ReapLayer(*part);
  if (!lane.dropped || lane.InFlight()) return;
  lane.dropped = false;
  lane.state = Lane::State::kFree;
}

/// Publishes what copy engines have brought.
void HbmCache::ReapUploads() {
  for (std::size_t i = 0; i < uploads_.size();) {
    const Result<bool> ended = device_->QueryEvent(uploads_[i]->ended);
    if (!ended.ok() || !ended.value()) {  // Of a broken device nothing is taken back.
      ++i;
      continue;
    }
    PendingUpload& upload = *uploads_[i];
    for (const PendingUpload::Fill& fill : upload.fills) {
      if (fill.good) {
        (void)directory_->Publish(fill.slot, fill.space, fill.key);
      } else {
        directory_->Return(fill.slot);
      }
    }
    upload.fills.clear();
    staging_.Give(upload.staging);
    free_uploads_.push_back(std::move(uploads_[i]));
    if (i + 1 < uploads_.size()) uploads_[i] = std::move(uploads_.back());
    uploads_.pop_back();
  }
}

void HbmCache::ReapLayer(LaneLayer& part) {
  if (!part.in_flight) return;
  if ((part.enqueued && !part.Gathered()) || !part.Staged()) return;
  for (const std::uint32_t slot : part.pinned) directory_->Unpin(slot);
  part.pinned.clear();
  // Slots that were to be filled and are not on a stream are as they were.
  std::unique_ptr<PendingUpload> upload = std::move(part.upload);
  const bool filled = !part.cancelled && (upload != nullptr || part.enqueued);
  for (const LaneLayer::Fill& fill : part.fills) {
    const MissTable::Miss& miss = part.misses.misses()[fill.number];
    const auto rows =
        std::span(part.staged_status).subspan(std::size_t{fill.number} * head_count_, head_count_);
    const std::uint32_t space = SpaceOf(part.slot_of_layer, miss.order_index);
    const bool good = filled && !fill.stale && std::ranges::all_of(rows, [](RowStatus status) {
                        return status == RowStatus::kOk;
                      });
    if (upload != nullptr) {
      upload->fills.push_back({.slot = fill.slot, .space = space, .key = miss.key, .good = good});
    } else if (good) {
      (void)directory_->Publish(fill.slot, space, miss.key);
    } else {
      directory_->Return(fill.slot);
    }
  }
  part.fills.clear();
  part.ticket = Ticket();
  if (upload != nullptr) {
    upload->staging = part.staging;
    uploads_.push_back(std::move(upload));
  } else if (part.staging.size > 0) {
    staging_.Give(part.staging);
  }
  part.staging = {};
  part.in_flight = false;
}

/// Takes back a layer that is not on a stream.
void HbmCache::Undo(LaneLayer& part) {
  if (!part.in_flight) return;
  CancelLayer(part);
  part.cancelled = true;
  part.enqueued = false;
  ReapLayer(part);
}

/// Makes an end of the wait for rows: what is not in place yet will be zeros.
void HbmCache::CancelLayer(LaneLayer& part) {
  if (part.Staged()) return;
  if (part.ticket.valid()) {
    part.ticket.Cancel();
    const std::optional<Status> status = part.ticket.TryWait(layers_[part.slot_of_layer].layer_id);
    // In place after all: what it brought is good, and the flag is set or about to be.
    if (status && (status->ok() || status->code() == StatusCode::kPartial)) {
      Shared(part.flag).store(1, std::memory_order_release);
      return;
    }
  }
  part.cancelled = true;
  if (part.staging.size > 0) {
    std::memset(staging_memory_.host + part.staging.first, 0, part.staging.size);
  }
  std::ranges::fill(part.staged_status, RowStatus::kIoError);
  Shared(part.flag).store(1, std::memory_order_release);
}

Status HbmCache::Cancel(const HbmTicket& ticket) {
  MutexLock lock(mutex_);
  Result<Lane*> found = LaneOf(ticket);
  if (!found.ok()) return std::move(found).TakeStatus();
  Lane& lane = *found.value();
  for (const std::uint32_t index : lane.active) {
    LaneLayer& part = *lane.layers[index];
    if (!part.in_flight) continue;
    CancelLayer(part);
    if (lane.fixed && !part.Gathered()) {
      part.cancelled = true;
      part.enqueued = false;  // Its replay was not launched, or has ended.
    }
  }
  Reap(lane);
  return {};
}

void HbmCache::Drop(std::uint32_t lane) noexcept {
  MutexLock lock(mutex_);
  if (closed_) return;
  lanes_[lane]->dropped = true;
  Reap(*lanes_[lane]);
}

Status HbmCache::StatusOf(const LaneLayer& part) const {
  if (part.cancelled) {
    return Status(StatusCode::kCancelled, fmt::format("layer {} of the batch was cancelled",
                                                      layers_[part.slot_of_layer].layer_id));
  }
  const auto failed = std::ranges::count_if(
      part.staged_status, [](RowStatus status) { return status != RowStatus::kOk; });
  if (failed == 0) return {};
  return Status(
      StatusCode::kPartial,
      fmt::format("layer {}: {} of {} rows that were not in HBM could not be had; they "
                  "are zero",
                  layers_[part.slot_of_layer].layer_id, failed, part.staged_status.size()));
}

std::optional<Status> HbmCache::TryStatus(std::uint32_t lane_index, std::uint32_t layer_id) {
  MutexLock lock(mutex_);
  Result<Lane*> found = LaneAt(lane_index);
  if (!found.ok()) return std::move(found).TakeStatus();
  Lane& lane = *found.value();
  Result<LaneLayer*> part = FindLaneLayer(lane, layer_id);
  if (!part.ok()) return std::move(part).TakeStatus();
  if (lane.state != Lane::State::kStarted) {
    return Status(StatusCode::kInvalidArgument, "no batch was started in the lane");
  }
  Reap(lane);
  const LaneLayer& layer = *part.value();
  if (layer.in_flight) {
    if (Status health = device_->Health(); !health.ok()) return health;
    return std::nullopt;
  }
  return StatusOf(layer);
}

Status HbmCache::RowStatuses(std::uint32_t lane_index, std::uint32_t layer_id,
                             std::span<RowStatus> row_status) {
  std::optional<Status> status = TryStatus(lane_index, layer_id);
  if (!status) {
    return Status(StatusCode::kUnavailable, "the device has not gathered the layer yet");
  }
  const StatusCode code = status->code();
  const bool known =
      code == StatusCode::kOk || code == StatusCode::kPartial || code == StatusCode::kCancelled;
  if (!known) return std::move(*status);
  MutexLock lock(mutex_);
  Result<Lane*> found = LaneAt(lane_index);
  if (!found.ok()) return std::move(found).TakeStatus();
  Result<LaneLayer*> part = FindLaneLayer(*found.value(), layer_id);
  if (!part.ok()) return std::move(part).TakeStatus();
  const Lane& lane = *found.value();
  const std::vector<RowStatus>& staged = part.value()->staged_status;
  const std::size_t group_count = std::size_t{lane.token_count} * order_count_;
  const std::size_t row_count = lane.probed ? staged.size() : group_count * head_count_;
  if (row_status.size() != row_count) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("row_status has {} entries; {} are needed: {} tokens of {} columns, "
                    "or what a probe missed",
                    row_status.size(), row_count, lane.token_count, order_count_ * head_count_));
  }
  if (lane.probed) {
    std::ranges::copy(staged, row_status.begin());
    return {};
  }
  for (std::size_t i = 0; i < group_count; ++i) {
    const std::span<RowStatus> rows = row_status.subspan(i * head_count_, head_count_);
    const std::uint32_t source = part.value()->groups.host[i].source;
    if (source == GroupSource::kNone) {
      std::ranges::fill(rows, RowStatus::kDead);
    } else if ((source & GroupSource::kStaged) == 0) {
      std::ranges::fill(rows, RowStatus::kOk);
    } else {
      const std::size_t number = source & ~GroupSource::kStaged;
      std::ranges::copy(std::span(staged).subspan(number * head_count_, head_count_), rows.begin());
    }
  }
  return {};
}

// ---- HbmTicket ------------------------------------------------------------------

HbmTicket::HbmTicket(std::shared_ptr<HbmCache> cache, std::uint32_t lane) noexcept
    : cache_(std::move(cache)), lane_(lane) {}

HbmTicket::HbmTicket(HbmTicket&& other) noexcept
    : cache_(std::move(other.cache_)), lane_(other.lane_) {}

HbmTicket& HbmTicket::operator=(HbmTicket&& other) noexcept {
  if (this == &other) return *this;
  Drop();
  cache_ = std::move(other.cache_);
  lane_ = other.lane_;
  return *this;
}

HbmTicket::~HbmTicket() {
  Drop();
}

void HbmTicket::Drop() noexcept {
  if (cache_ != nullptr) cache_->Drop(lane_);
  cache_.reset();
}

std::optional<Status> HbmTicket::TryStatus(std::uint32_t layer_id) const {
  if (!valid()) return Status(StatusCode::kInvalidArgument, "the ticket is of no batch");
  return cache_->TryStatus(lane_, layer_id);
}

Status HbmTicket::RowStatuses(std::uint32_t layer_id, std::span<RowStatus> row_status) const {
  if (!valid()) return Status(StatusCode::kInvalidArgument, "the ticket is of no batch");
  return cache_->RowStatuses(lane_, layer_id, row_status);
}

}  // namespace tiercel
