// The life of a batch in the HBM tier, top to bottom:
//
//   StartOnStream, Restart   take a lane, fixed memory for one batch
//     Hash                     tokens to mixes, on the host
//     Plan                     a place for each group: a slot that is resident (pinned from
//                              here on), or a number in the staging; and slots to fill
//     Fetch                    a ticket of the store for what was missed, into the staging;
//                              its last row sets the flag
//     Upload                   copies of it into slots, where copy engines do that
//     Enqueue                  on the stream: wait for the flag, gather, record the event
//       ... the stream gets there; the gather reads header and places, writes rows ...
//   ReapAll                  (hbm_reap.cc) `done` was written: unpin, publish, give back
//
// In a captured graph, Enqueue ran once; each replay reads what Restart wrote.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "cuda/hbm_cache.h"

namespace tiercel {
namespace {

/// Groups of a layer up to which a batch is a decode step's: its time is launches and waits.
constexpr std::uint64_t kSmallGroupsMax = 64;

Status CopyOf(const Status& status) {
  return Status(status.code(), std::string(status.message()), status.os_error());
}

std::uint64_t TokensOf(std::span<const TokenRun> runs) noexcept {
  std::uint64_t count = 0;
  for (const TokenRun& run : runs) count += run.tokens.size();
  return count;
}

}  // namespace

Result<HbmTicket> HbmCache::StartOnStream(std::span<const TokenRun> runs,
                                          std::span<const HbmOutput> outputs, HbmStream stream) {
  MutexLock lock(mutex_);
  if (closed_) return Status(StatusCode::kCancelled, "the HBM tier was closed");
  ReapAll();
  const Result<std::uint32_t> index = FreeLaneIndex();
  if (!index.ok()) return CopyOf(index.status());
  Lane& lane = *lanes_[index.value()];
  if (Status status = CheckOutputs(lane, outputs); !status.ok()) return status;
  lane.state = Lane::State::kStarted;
  if (Status status = StartBatch(lane, runs); !status.ok()) {
    lane.dropped = true;  // Free at once, or when its uploads have ended.
    Reap(lane);
    return status;
  }
  if (Status status = Enqueue(lane, stream); !status.ok()) {
    // What is on the stream goes on; the rest is undone.
    for (const std::uint32_t layer : lane.active) {
      if (!lane.layers[layer]->enqueued) Undo(*lane.layers[layer]);
    }
    lane.dropped = true;
    ReapAll();
    return status;
  }
  return HbmTicket(shared_from_this(), index.value());
}

Result<HbmTicket> HbmCache::OpenLane(std::uint32_t token_capacity,
                                     std::span<const HbmOutput> outputs) {
  MutexLock lock(mutex_);
  if (closed_) return Status(StatusCode::kCancelled, "the HBM tier was closed");
  if (token_capacity == 0 || token_capacity > options_.tokens_max) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("a lane of {} tokens; 1 to {} (tokens_max) are possible",
                              token_capacity, options_.tokens_max));
  }
  ReapAll();
  std::size_t index = 0;  // One that was dropped is as good as new: frees would synchronize.
  while (index < lanes_.size() &&
         !(lanes_[index]->fixed && lanes_[index]->state == Lane::State::kFree &&
           lanes_[index]->token_capacity == token_capacity)) {
    ++index;
  }
  if (index == lanes_.size()) {
    Result<std::unique_ptr<Lane>> made = MakeLane(token_capacity, /*fixed=*/true);
    if (!made.ok()) return std::move(made).TakeStatus();
    lanes_.push_back(std::move(made).value());
  }
  Lane& lane = *lanes_[index];
  if (Status status = CheckOutputs(lane, outputs); !status.ok()) return status;
  lane.state = Lane::State::kIdle;
  for (auto& part : lane.layers) {
    Shared(part->flag).store(0, std::memory_order_release);
    part->recorded = false;
  }
  return HbmTicket(shared_from_this(), static_cast<std::uint32_t>(index));
}

Status HbmCache::EnqueueOnStream(const HbmTicket& ticket, HbmStream stream) {
  MutexLock lock(mutex_);
  const Result<Lane*> lane = LaneOf(ticket);
  if (!lane.ok()) return CopyOf(lane.status());
  if (!lane.value()->fixed) {
    return Status(StatusCode::kInvalidArgument,
                  "the ticket is of StartOnStream(), which put it on a stream; see OpenLane()");
  }
  return Enqueue(*lane.value(), stream);
}

Status HbmCache::Restart(const HbmTicket& ticket, std::span<const TokenRun> runs) {
  MutexLock lock(mutex_);
  const Result<Lane*> found = LaneOf(ticket);
  if (!found.ok()) return CopyOf(found.status());
  Lane& lane = *found.value();
  if (!lane.fixed) {
    return Status(StatusCode::kInvalidArgument,
                  "the ticket is of StartOnStream(); a lane of OpenLane() can be restarted");
  }
  ReapAll();
  if (lane.InFlight()) {
    if (Status status = device_->Health(); !status.ok()) return status;
    return Status(StatusCode::kUnavailable,
                  "the last batch of the lane has not ended on the device: wait for its replay, "
                  "cancel it if it was not launched, or take turns with two lanes");
  }
  lane.state = Lane::State::kIdle;
  if (Status status = StartBatch(lane, runs); !status.ok()) return status;
  lane.state = Lane::State::kStarted;
  return {};
}

Status HbmCache::WaitOnStream(const HbmTicket& ticket, std::uint32_t layer_id, HbmStream stream) {
  MutexLock lock(mutex_);
  const Result<Lane*> lane = LaneOf(ticket);
  if (!lane.ok()) return CopyOf(lane.status());
  const Result<LaneLayer*> part = FindLaneLayer(*lane.value(), layer_id);
  if (!part.ok()) return CopyOf(part.status());
  if (!part.value()->recorded) {
    return Status(StatusCode::kInvalidArgument,
                  "the lane's work is on no stream, so that there is nothing to wait for: "
                  "EnqueueOnStream() first");
  }
  return device_->WaitEvent(part.value()->gathered, stream);
}

/// A lane of StartOnStream() that nothing uses.
Result<std::uint32_t> HbmCache::FreeLaneIndex() {
  for (std::uint32_t i = 0; i < options_.tickets_max; ++i) {
    if (lanes_[i]->state == Lane::State::kFree) return i;
  }
  if (Status status = device_->Health(); !status.ok()) return status;
  return Status(StatusCode::kResourceExhausted,
                fmt::format("{} tickets (tickets_max) are not dropped or not ended on the device",
                            options_.tickets_max));
}

Status HbmCache::CheckOutputs(Lane& lane, std::span<const HbmOutput> outputs) {
  lane.active.clear();
  for (const HbmOutput& output : outputs) {
    const auto found = std::ranges::find(layers_, output.layer_id, &Layer::layer_id);
    if (found == layers_.end()) {
      return Status(StatusCode::kNotFound,
                    fmt::format("layer {} is not served from HBM", output.layer_id));
    }
    const auto index = static_cast<std::uint32_t>(found - layers_.begin());
    if (std::ranges::find(lane.active, index) != lane.active.end()) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("layer {} is named twice", output.layer_id));
    }
    if (output.rows == nullptr ||
        (options_.format == HbmFormat::kRowsAndScales) != (output.scales != nullptr)) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("layer {}: rows must not be null, and scales must be just where "
                                "the format is kRowsAndScales",
                                output.layer_id));
    }
    if (options_.format == HbmFormat::kBf16 &&
        reinterpret_cast<std::uintptr_t>(output.rows) % sizeof(std::uint16_t) != 0) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("layer {}: rows of bf16 must be at an even address", output.layer_id));
    }
    lane.active.push_back(index);
    lane.outputs[index] = output;
  }
  if (lane.active.empty()) {
    return Status(StatusCode::kInvalidArgument, "a batch needs a layer at least");
  }
  return {};
}

/// All that the host does for a batch but to put it on a stream. Undoes itself on failure.
Status HbmCache::StartBatch(Lane& lane, std::span<const TokenRun> runs) {
  const std::uint64_t token_count = TokensOf(runs);
  if (token_count > lane.token_capacity) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("a batch of {} tokens; there is room for {}: split it, or raise "
                              "tokens_max",
                              token_count, lane.token_capacity));
  }
  lane.probed = false;
  lane.token_count = static_cast<std::uint32_t>(token_count);
  if (++lane.sequence == 0) lane.sequence = 1;  // 0 is what `done` is at first.
  Status failure;
  for (const std::uint32_t index : lane.active) {
    LaneLayer& part = *lane.layers[index];
    failure = Hash(layers_[index], runs);
    if (!failure.ok()) break;
    Plan(lane, part);
    failure = Fetch(lane, part, lane.outputs[index]);
    if (failure.ok() && options_.upload == HbmUpload::kCopyEngine) {
      failure = Upload(part, upload_stream_);
    }
    if (!failure.ok()) break;
  }
  if (failure.ok()) return {};
  for (const std::uint32_t index : lane.active) Undo(*lane.layers[index]);
  return failure;
}

Status HbmCache::Hash(const Layer& layer, std::span<const TokenRun> runs) {
  const std::uint64_t token_count = TokensOf(runs);
  mixes_.resize(token_count * order_count_);
  dead_.resize(token_count);
  std::size_t first = 0;
  for (const TokenRun& run : runs) {
    const std::size_t count = run.tokens.size();
    Status status =
        store_.hasher().Mixes(layer.recipe_index, run,
                              std::span(mixes_).subspan(first * order_count_, count * order_count_),
                              std::span(dead_).subspan(first, count));
    if (!status.ok()) return status;
    first += count;
  }
  return {};
}

/// A batch of no groups yet.
void HbmCache::BeginPlan(Lane& lane, LaneLayer& part) {
  part.misses.Clear();
  part.pinned.clear();
  part.fills.clear();
  part.staged_status.clear();
  part.staging = {};
  part.enqueued = lane.fixed;
  part.cancelled = false;
  part.in_flight = true;
  Shared(part.flag).store(0, std::memory_order_release);
}

void HbmCache::Plan(Lane& lane, LaneLayer& part) {
  BeginPlan(lane, part);
  const Layer& layer = layers_[part.slot_of_layer];
  const bool fill_in_gather = options_.upload == HbmUpload::kWithGather;
  for (std::uint32_t token = 0; token < lane.token_count; ++token) {
    for (std::uint32_t order = 0; order < order_count_; ++order) {
      const std::size_t at = std::size_t{token} * order_count_ + order;
      GroupSource& place = part.groups.host[at];
      place = {};
      if (dead_[token] != 0) continue;
      const std::uint32_t space = SpaceOf(part.slot_of_layer, order);
      const std::uint64_t key = store_.hasher().GroupKey(layer.recipe_index, order, mixes_[at]);
      ++counts_[space].groups;
      if (const std::uint32_t slot = directory_->Use(space, key); slot != HbmDirectory::kNoSlot) {
        ++counts_[space].hits;
        directory_->Pin(slot);
        part.pinned.push_back(slot);
        place.source = slot;
        continue;
      }
      const MissTable::Noted noted =
          part.misses.Note({.order_index = order, .key = key, .mix = mixes_[at]});
      place.source = GroupSource::kStaged | noted.number;
      if (!noted.is_new) continue;
      ++counts_[space].staged;
      const std::size_t fill_count = part.fills.size();
      TakeSlot(part, noted.number);
      if (fill_in_gather && part.fills.size() > fill_count) {
        place.fill_slot = part.fills.back().slot;
      }
    }
  }
}

/// A slot for a group that was missed, if it may have one.
void HbmCache::TakeSlot(LaneLayer& part, std::uint32_t number) {
  const MissTable::Miss& miss = part.misses.misses()[number];
  const std::uint32_t space = SpaceOf(part.slot_of_layer, miss.order_index);
  if (changing_ != nullptr &&
      changing_->HasRowOf(layers_[part.slot_of_layer].layer_id, miss.order_index, miss.key)) {
    ++counts_[space].refusals;  // What comes may be the old row still.
    return;
  }
  const std::uint32_t slot = directory_->Take(space);
  if (slot != HbmDirectory::kNoSlot) part.fills.push_back({.slot = slot, .number = number});
}

/// Writes the header and has the store bring what was missed.
Status HbmCache::Fetch(Lane& lane, LaneLayer& part, const HbmOutput& output) {
  const Layer& layer = layers_[part.slot_of_layer];
  const std::size_t miss_count = part.misses.misses().size();
  const std::uint64_t bytes = miss_count * layer.group_size_bytes;
  const std::optional<Range> range = staging_.Take(bytes);
  const BatchHeader header = {.sequence = lane.sequence,
                              .token_count = lane.token_count,
                              .staging_offset_bytes = range ? range->first : 0,
                              .rows = output.rows,
                              .scales = output.scales};
  auto* const headers = reinterpret_cast<std::byte*>(part.header.host);
  for (std::uint32_t i = 0; i < part.header_count; ++i) {
    std::memcpy(headers + i * GatherArguments::kHeaderStrideBytes, &header, sizeof(header));
  }
  if (!range) {
    return Status(
        StatusCode::kResourceExhausted,
        fmt::format("{} groups of layer {} were missed, {} B; of {} B of staging {} B "
                    "are in use: split the batch, or raise staging_bytes",
                    miss_count, layer.layer_id, bytes, staging_.capacity(), staging_.used()));
  }
  part.staging = *range;
  if (miss_count == 0) {
    Shared(part.flag).store(1, std::memory_order_release);
    return {};
  }
  rows_.resize(miss_count * head_count_);
  part.staged_status.resize(miss_count * head_count_);
  for (std::size_t i = 0; i < miss_count; ++i) {
    const MissTable::Miss& miss = part.misses.misses()[i];
    store_.hasher().RowsOfMix(layer.recipe_index, miss.order_index, miss.mix,
                              std::span(rows_).subspan(i * head_count_, head_count_));
  }
  const PrefetchLayer wanted = {.layer_id = layer.layer_id,
                                .needed_after = output.needed_after,
                                .rows = {staging_memory_.host + range->first, bytes},
                                .row_status = part.staged_status};
  PrefetchOptions options;
  if (options_.residency == HbmResidency::kExclusive) options.cache = CacheUse::kKeepOut;
  options.on_layer = [&part](std::uint32_t, StatusCode) {
    Shared(part.flag).store(1, std::memory_order_release);
  };
  Result<Ticket> ticket = store_.StartRows(rows_, wanted, options);
  if (!ticket.ok()) return std::move(ticket).TakeStatus();
  part.ticket = std::move(ticket).value();
  return {};
}

Result<std::unique_ptr<PendingUpload>> HbmCache::TakeUpload() {
  if (!free_uploads_.empty()) {
    std::unique_ptr<PendingUpload> upload = std::move(free_uploads_.back());
    free_uploads_.pop_back();
    return upload;
  }
  Result<HbmEvent> event = device_->CreateEvent();
  if (!event.ok()) return std::move(event).TakeStatus();
  auto upload = std::make_unique<PendingUpload>();
  upload->ended = event.value();
  return upload;
}

/// Copies what is to be filled into its slots, by copy engine.
Status HbmCache::Upload(LaneLayer& part, HbmStream stream) {
  if (part.fills.empty()) return {};
  const Layer& layer = layers_[part.slot_of_layer];
  copies_.clear();
  for (const LaneLayer::Fill& fill : part.fills) {
    copies_.push_back({.source = staging_memory_.host + part.staging.first +
                                 std::uint64_t{fill.number} * layer.group_size_bytes,
                       .target = slots_ + std::uint64_t{fill.slot} * slot_size_bytes_});
  }
  Result<std::unique_ptr<PendingUpload>> upload = TakeUpload();
  if (!upload.ok()) return std::move(upload).TakeStatus();
  Status status = device_->WaitFlag(part.flag, stream);
  if (!status.ok()) {
    free_uploads_.push_back(std::move(upload).value());
    return status;  // Nothing is on its way: the slots are returned.
  }
  status = device_->Copy(copies_, layer.group_size_bytes, stream);
  if (!status.ok()) part.cancelled = true;  // Some copies may be on their way, none counts.
  Status recorded = device_->RecordEvent(upload.value()->ended, stream);
  if (recorded.ok()) {
    part.upload = std::move(upload).value();
  } else {
    // Nobody can say when the copies end: their slots are lost.
    part.fills.clear();
    free_uploads_.push_back(std::move(upload).value());
  }
  return status.ok() ? std::move(recorded) : std::move(status);
}

Status HbmCache::Enqueue(Lane& lane, HbmStream stream) {
  if (lane.active.size() > 1) {
    if (FitsOneLaunch(lane)) return EnqueueTogether(lane, stream);
    if (lane.fixed) return EnqueueBranches(lane, stream);
  }
  for (const std::uint32_t index : lane.active) {
    LaneLayer& part = *lane.layers[index];
    Status status = EnqueueGather(lane, part, part.groups.device, stream);
    if (!status.ok()) return status;
  }
  return {};
}

/// Whether the gather of the lane's layers waits for their flags itself.
bool HbmCache::WaitsInGather(const Lane& lane) const {
  return lane.fixed && options_.flag_wait == FlagWait::kInGather &&
         std::uint64_t{lane.token_capacity} * order_count_ <= kSmallGroupsMax;
}

/// Whether one launch is to gather all layers: there are few groups, and no layer's rows would
/// wait for another's, unless that was asked for.
bool HbmCache::FitsOneLaunch(const Lane& lane) const {
  const RowFormat format = layers_[lane.active[0]].shape.format;
  const bool alike = std::ranges::all_of(lane.active, [&](std::uint32_t index) {
    return layers_[index].shape.format == format &&
           layers_[index].row_size_bytes == layers_[lane.active[0]].row_size_bytes;
  });
  if (!alike || lane.active.size() > kGatherLayersMax) return false;
  if (lane.fixed) return WaitsInGather(lane);
  return std::uint64_t{lane.token_count} * order_count_ <= kSmallGroupsMax &&
         std::ranges::all_of(lane.active, [&](std::uint32_t index) {
           return lane.layers[index]->misses.misses().empty();
         });
}

Status HbmCache::EnqueueTogether(Lane& lane, HbmStream stream) {
  std::array<GatherArguments, kGatherLayersMax> arguments;
  for (std::size_t i = 0; i < lane.active.size(); ++i) {
    LaneLayer& part = *lane.layers[lane.active[i]];
    arguments[i] = ArgumentsOf(lane, part, part.groups.device);
  }
  Status status = device_->Gather(std::span(arguments).first(lane.active.size()), stream);
  if (!status.ok()) return status;
  for (const std::uint32_t index : lane.active) lane.layers[index]->enqueued = true;
  for (const std::uint32_t index : lane.active) {
    status = device_->RecordEvent(lane.layers[index]->gathered, stream);
    if (!status.ok()) return status;
    lane.layers[index]->recorded = true;
  }
  return {};
}

/// Each layer in a branch of its own, so that none waits for another's rows or kernels.
Status HbmCache::EnqueueBranches(Lane& lane, HbmStream stream) {
  Status status = device_->RecordEvent(lane.forked, stream);
  for (std::size_t i = 0; status.ok() && i < lane.active.size(); ++i) {
    LaneLayer& part = *lane.layers[lane.active[i]];
    const HbmStream branch = i == 0 ? stream : lane.branches[i - 1];
    if (i > 0) status = device_->WaitEvent(lane.forked, branch);
    if (status.ok()) status = EnqueueGather(lane, part, part.groups.device, branch);
  }
  for (std::size_t i = 1; status.ok() && i < lane.active.size(); ++i) {
    status = device_->WaitEvent(lane.layers[lane.active[i]]->gathered, stream);
  }
  return status;
}

GatherArguments HbmCache::ArgumentsOf(const Lane& lane, const LaneLayer& part,
                                      const GroupSource* groups) const {
  return {.headers = lane.fixed ? reinterpret_cast<const std::byte*>(part.header.device) : nullptr,
          .batch = *part.header.host,
          .groups = groups,
          .flag = WaitsInGather(lane) ? part.flag.device : nullptr,
          .slots = slots_,
          .staging = staging_memory_.device,
          .done = part.done.device,
          .arrivals = part.arrivals,
          .shape = layers_[part.slot_of_layer].shape,
          .format = options_.format,
          .order_count = order_count_,
          .rows_per_group = head_count_,
          .slot_size_bytes = slot_size_bytes_,
          .token_capacity = lane.fixed ? lane.token_capacity : lane.token_count,
          .multiprocessors_max = options_.gather_multiprocessors_max,
          .header_count = part.header_count};
}

/// The wait for the staging, the gather of `groups`, and the event behind it.
Status HbmCache::EnqueueGather(Lane& lane, LaneLayer& part, const GroupSource* groups,
                               HbmStream stream) {
  const GatherArguments arguments = ArgumentsOf(lane, part, groups);
  if (arguments.flag == nullptr && (lane.fixed || !part.Staged())) {
    if (Status status = device_->WaitFlag(part.flag, stream); !status.ok()) return status;
  }
  if (Status status = device_->Gather({&arguments, 1}, stream); !status.ok()) return status;
  part.enqueued = true;
  if (Status status = device_->RecordEvent(part.gathered, stream); !status.ok()) return status;
  part.recorded = true;
  return {};
}

}  // namespace tiercel
