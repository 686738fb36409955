#include "cuda/hbm_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace tiercel {
namespace {

/// Each word that one side writes and the other reads has a line of its own.
constexpr std::uint64_t kLineBytes = GatherArguments::kHeaderStrideBytes;
constexpr std::uint32_t kTicketsEnd = 256;
constexpr std::uint32_t kTokensEnd = 65536;
/// Batches whose layers take staging at a time, beside the tickets': lanes of graphs.
constexpr std::size_t kStagingRangesMax = 4096;

constexpr std::uint64_t RoundUpTo(std::uint64_t value, std::uint64_t multiple) noexcept {
  return (value + multiple - 1) / multiple * multiple;
}

/// Headers of a lane's layer: with one for all, the blocks of a large gather would wait for
/// each other to read it. What is not a graph's has its header in the launch.
std::uint32_t HeaderCount(std::uint64_t group_count, bool fixed) noexcept {
  constexpr std::uint64_t kGroupsPerHeader = 16;
  constexpr std::uint64_t kHeadersMax = 32;
  if (!fixed) return 1;
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(group_count / kGroupsPerHeader, 1, kHeadersMax));
}

/// Mapped memory of one layer of a lane: headers, flag, done, groups.
std::uint64_t LaneLayerBytes(std::uint64_t group_count, bool fixed) noexcept {
  return (HeaderCount(group_count, fixed) + 2) * kLineBytes +
         RoundUpTo(group_count * sizeof(GroupSource), kLineBytes);
}

template <typename T>
Mapped<T> PartOf(const MappedMemory& memory, std::uint64_t offset_bytes) noexcept {
  return {reinterpret_cast<T*>(memory.host + offset_bytes),
          reinterpret_cast<T*>(memory.device + offset_bytes)};
}

Status Copied(const Status& status) {
  return Status(status.code(), std::string(status.message()), status.os_error());
}

Status CheckOptions(const HbmOptions& options) {
  if (options.tickets_max == 0 || options.tickets_max > kTicketsEnd) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("tickets_max is {}; 1 to {} are possible", options.tickets_max, kTicketsEnd));
  }
  if (options.tokens_max == 0 || options.tokens_max > kTokensEnd) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("tokens_max is {}; 1 to {} are possible", options.tokens_max, kTokensEnd));
  }
  return {};
}

}  // namespace

HbmCache::HbmCache(Store& store, std::unique_ptr<HbmDevice> device, const HbmOptions& options)
    : store_(store),
      device_(std::move(device)),
      options_(options),
      staging_(options.staging_bytes, kLineBytes, kStagingRangesMax) {}

HbmCache::~HbmCache() {
  Close();
}

Result<std::shared_ptr<HbmCache>> HbmCache::Create(Store& store, std::unique_ptr<HbmDevice> device,
                                                   const HbmOptions& options) {
  if (Status status = CheckOptions(options); !status.ok()) return status;
  std::shared_ptr<HbmCache> cache(new HbmCache(store, std::move(device), options));
  if (Status status = cache->Init(); !status.ok()) return status;
  // Before there is anything that an update could miss.
  if (Status status = store.AddUpdateObserver(*cache); !status.ok()) return status;
  return cache;
}

Status HbmCache::FindLayers() {
  const Recipe& recipe = store_.hasher().recipe();
  order_count_ = recipe.order_count();
  head_count_ = recipe.parameters.head_count;
  std::vector<std::uint32_t> wanted = options_.layer_ids;
  if (wanted.empty()) wanted = recipe.parameters.layer_ids;
  for (const std::uint32_t layer_id : wanted) {
    const Result<std::uint32_t> row_size = store_.OutputRowSizeBytes(layer_id, RowOutput::kStored);
    if (!row_size.ok()) {
      // Not named: whatever the store serves.
      if (options_.layer_ids.empty()) continue;
      return Copied(row_size.status());
    }
    const std::uint32_t index = *recipe.FindLayer(layer_id);
    const RowShape& shape = store_.checkpoint().layers[index].shape;
    if (options_.format == HbmFormat::kRowsAndScales && shape.format != RowFormat::kE4M3Block32) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("layer {} is stored as {}: rows and scales apart are for {} alone",
                                layer_id, Name(shape.format), Name(RowFormat::kE4M3Block32)));
    }
    layers_.push_back({.layer_id = layer_id,
                       .recipe_index = index,
                       .shape = shape,
                       .row_size_bytes = row_size.value(),
                       .group_size_bytes = row_size.value() * head_count_});
    slot_size_bytes_ = std::max<std::uint32_t>(
        slot_size_bytes_,
        static_cast<std::uint32_t>(RoundUpTo(layers_.back().group_size_bytes, 16)));
  }
  if (layers_.empty()) {
    return Status(StatusCode::kNotFound, "no layer to serve from HBM: the store serves none");
  }
  return {};
}

Status HbmCache::Init() {
  if (Status status = FindLayers(); !status.ok()) return status;
  const std::uint64_t slot_count = options_.hbm_budget_bytes / slot_size_bytes_;
  const auto space_count = static_cast<std::uint32_t>(layers_.size() * order_count_);
  Result<std::unique_ptr<HbmDirectory>> directory = HbmDirectory::Create(slot_count, space_count);
  if (!directory.ok()) return std::move(directory).TakeStatus();
  Result<std::byte*> slots = device_->AllocateDevice(slot_count * slot_size_bytes_);
  if (!slots.ok()) return std::move(slots).TakeStatus();
  slots_ = slots.value();
  Result<MappedMemory> staging = device_->AllocateMapped(options_.staging_bytes);
  if (!staging.ok()) return std::move(staging).TakeStatus();
  staging_memory_ = staging.value();
  if (options_.upload == HbmUpload::kCopyEngine) {
    Result<HbmStream> stream = device_->CreateStream();
    if (!stream.ok()) return std::move(stream).TakeStatus();
    upload_stream_ = stream.value();
  }
  MutexLock lock(mutex_);
  directory_ = std::move(directory).value();
  counts_.resize(space_count);
  if (options_.device_directory) {
    if (Status status = MakeMirror(); !status.ok()) return status;
  }
  // What the largest batch takes to be prepared: not while a model waits.
  const std::uint64_t group_count = std::uint64_t{options_.tokens_max} * order_count_;
  mixes_.reserve(group_count);
  dead_.reserve(options_.tokens_max);
  rows_.reserve(group_count * head_count_);
  for (std::uint32_t i = 0; i < options_.tickets_max; ++i) {
    Result<std::unique_ptr<Lane>> lane = MakeLane(options_.tokens_max, /*fixed=*/false);
    if (!lane.ok()) return std::move(lane).TakeStatus();
    lanes_.push_back(std::move(lane).value());
  }
  return {};
}

Result<std::unique_ptr<Lane>> HbmCache::MakeLane(std::uint32_t token_capacity, bool fixed) {
  const std::uint64_t group_count = std::uint64_t{token_capacity} * order_count_;
  auto lane = std::make_unique<Lane>();
  lane->token_capacity = token_capacity;
  lane->fixed = fixed;
  for (std::uint32_t i = 0; i < layers_.size(); ++i) {
    lane->layers.push_back(std::make_unique<LaneLayer>(i, group_count, head_count_));
  }
  lane->outputs.resize(layers_.size());
  lane->active.reserve(layers_.size());
  Status failure;
  Result<MappedMemory> memory =
      device_->AllocateMapped(layers_.size() * LaneLayerBytes(group_count, fixed));
  if (!memory.ok()) return std::move(memory).TakeStatus();
  lane->memory = memory.value();
  Result<std::byte*> counters = device_->AllocateDevice(layers_.size() * sizeof(std::uint32_t));
  if (!counters.ok()) {
    failure = std::move(counters).TakeStatus();
  } else {
    lane->counters = counters.value();
    MapLane(*lane);
  }
  for (auto& part : lane->layers) {
    if (!failure.ok()) break;
    Result<HbmEvent> made = device_->CreateEvent();
    if (made.ok()) {
      part->gathered = made.value();
    } else {
      failure = std::move(made).TakeStatus();
    }
  }
  if (failure.ok() && fixed) failure = MakeBranches(*lane);
  if (failure.ok()) return lane;
  FreeLane(*lane);
  return failure;
}

Status HbmCache::MakeBranches(Lane& lane) {
  Result<HbmEvent> forked = device_->CreateEvent();
  if (!forked.ok()) return std::move(forked).TakeStatus();
  lane.forked = forked.value();
  while (lane.branches.size() + 1 < layers_.size()) {
    Result<HbmStream> branch = device_->CreateStream();
    if (!branch.ok()) return std::move(branch).TakeStatus();
    lane.branches.push_back(branch.value());
  }
  return {};
}

void HbmCache::MapLane(Lane& lane) noexcept {
  const std::uint64_t group_count = std::uint64_t{lane.token_capacity} * order_count_;
  for (std::size_t i = 0; i < lane.layers.size(); ++i) {
    LaneLayer& part = *lane.layers[i];
    std::uint64_t offset_bytes = i * LaneLayerBytes(group_count, lane.fixed);
    part.header = PartOf<BatchHeader>(lane.memory, offset_bytes);
    part.header_count = HeaderCount(group_count, lane.fixed);
    offset_bytes += part.header_count * kLineBytes;
    part.flag = PartOf<std::uint32_t>(lane.memory, offset_bytes);
    part.done = PartOf<std::uint32_t>(lane.memory, offset_bytes + kLineBytes);
    part.groups = PartOf<GroupSource>(lane.memory, offset_bytes + 2 * kLineBytes);
    part.arrivals = reinterpret_cast<std::uint32_t*>(lane.counters) + i;
  }
}

void HbmCache::FreeLane(Lane& lane) noexcept {
  for (auto& part : lane.layers) {
    if (part->gathered.handle != nullptr) device_->DestroyEvent(part->gathered);
  }
  for (const HbmStream branch : lane.branches) device_->DestroyStream(branch);
  if (lane.forked.handle != nullptr) device_->DestroyEvent(lane.forked);
  if (lane.counters != nullptr) device_->FreeDevice(lane.counters);
  if (lane.memory.host != nullptr) device_->FreeMapped(lane.memory);
}

void HbmCache::Close() noexcept {
  {
    MutexLock lock(mutex_);
    if (closed_) return;  // The store may be gone.
  }
  store_.RemoveUpdateObserver(*this);  // Waits for those who wait for mutex_.
  MutexLock lock(mutex_);
  if (closed_) return;
  closed_ = true;
  for (auto& lane : lanes_) {
    for (auto& part : lane->layers) {
      if (part->in_flight) CancelLayer(*part);
    }
  }
  // Whatever it says: what runs no more reads nothing more.
  (void)device_->Synchronize();
  for (auto& lane : lanes_) {
    for (auto& part : lane->layers) {
      part->ticket = Ticket();
      if (part->upload != nullptr) device_->DestroyEvent(part->upload->ended);
    }
    FreeLane(*lane);
  }
  for (const auto* list : {&uploads_, &free_uploads_}) {
    for (const auto& upload : *list) device_->DestroyEvent(upload->ended);
  }
  lanes_.clear();
  for (const MirrorUpdate& update : mirror_updates_) {
    if (update.applied.handle != nullptr) device_->DestroyEvent(update.applied);
  }
  if (mirror_memory_.host != nullptr) device_->FreeMapped(mirror_memory_);
  if (mirror_.buckets != nullptr) device_->FreeDevice(mirror_.buckets);
  if (upload_stream_.handle != nullptr) device_->DestroyStream(upload_stream_);
  if (staging_memory_.host != nullptr) device_->FreeMapped(staging_memory_);
  if (slots_ != nullptr) device_->FreeDevice(slots_);
}

Result<Lane*> HbmCache::LaneAt(std::uint32_t lane) {
  if (closed_) return Status(StatusCode::kCancelled, "the HBM tier of the ticket was closed");
  TIERCEL_CHECK(lane < lanes_.size());
  return lanes_[lane].get();
}

Result<Lane*> HbmCache::LaneOf(const HbmTicket& ticket) {
  if (!ticket.valid()) {
    return Status(StatusCode::kInvalidArgument, "the ticket is of no batch");
  }
  if (ticket.cache_.get() != this) {
    return Status(StatusCode::kInvalidArgument, "the ticket is of another HBM tier");
  }
  return LaneAt(ticket.lane_);
}

Result<LaneLayer*> HbmCache::FindLaneLayer(Lane& lane, std::uint32_t layer_id) {
  for (const std::uint32_t index : lane.active) {
    if (layers_[index].layer_id == layer_id) return lane.layers[index].get();
  }
  return Status(StatusCode::kNotFound, fmt::format("layer {} is not one of the ticket", layer_id));
}

HbmStats HbmCache::Stats() {
  MutexLock lock(mutex_);
  HbmStats stats;
  if (closed_) return stats;
  ReapAll();
  for (std::uint32_t layer = 0; layer < layers_.size(); ++layer) {
    for (std::uint32_t order = 0; order < order_count_; ++order) {
      const std::uint32_t space = SpaceOf(layer, order);
      const HbmSpaceStats& spaces = directory_->stats(space);
      stats.orders.push_back(
          {.layer_id = layers_[layer].layer_id,
           .order = order + 2,
           .groups = counts_[space].groups,
           .hits = counts_[space].hits,
           .staged = counts_[space].staged,
           .insertions = spaces.insertions,
           .rejections = spaces.rejections,
           .evictions = spaces.evictions,
           .removals = spaces.removals,
           .refusals = counts_[space].refusals,
           .resident_groups = spaces.insertions - spaces.evictions - spaces.removals});
    }
  }
  stats.slot_count = directory_->slot_count();
  stats.slot_size_bytes = slot_size_bytes_;
  stats.hbm_bytes =
      stats.slot_count * slot_size_bytes_ + mirror_.bucket_count * MirrorTable::kBucketBytes;
  stats.host_bytes =
      staging_memory_.size_bytes + mirror_memory_.size_bytes + directory_->memory_bytes();
  for (const auto& lane : lanes_) {
    stats.hbm_bytes += lane->layers.size() * sizeof(std::uint32_t);
    stats.host_bytes += lane->memory.size_bytes;
    if (lane->state != Lane::State::kFree) ++stats.tickets;
  }
  stats.staging_used_bytes = staging_.used();
  stats.slots_in_flight = directory_->in_flight_count();
  stats.mirror_lag = changes_.size() + directory_->change_count();
  stats.description = fmt::format("{} slots of {} B on {}", stats.slot_count, slot_size_bytes_,
                                  device_->description());
  return stats;
}

}  // namespace tiercel
