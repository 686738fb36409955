#include "store/hot_set_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <new>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "base/errno_status.h"
#include "io/read_errors.h"
#include "store/hot_rows.h"
#include "store/hot_set_file.h"
#include "store/store_impl.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kNoSpace = ~std::uint32_t{0};

/// 8 MiB of the file in flight keep a disk busy while one thread checks and copies.
std::uint32_t DepthFor(std::uint32_t block_bytes) noexcept {
  return std::clamp<std::uint32_t>((8U << 20) / block_bytes, 8, 64);
}

/// For each space of the file, the store's; kNoSpace where its layer is not served.
std::vector<std::uint32_t> MatchSpaces(const HotSetHeader& header, const Layout& layout) {
  const std::vector<HotSetSpace> served = HotSetSpacesOf(layout);
  std::vector<std::uint32_t> matches;
  for (const HotSetSpace& space : header.spaces) {
    std::uint32_t match = kNoSpace;
    for (std::uint32_t i = 0; i < served.size(); ++i) {
      if (served[i].layer_id == space.layer_id && served[i].order == space.order &&
          served[i].group_size_bytes == space.group_size_bytes) {
        match = i;
      }
    }
    matches.push_back(match);
  }
  return matches;
}

/// Reads the blocks of a file in order, several at a time, and hands each to a function.
///
/// Threading: one thread at a time.
class BlockReader final : private ReadSink {
 public:
  using Take = std::function<void(std::uint64_t index, std::span<const std::byte> block)>;
  using Refuse = std::function<void(std::uint64_t index, int os_error)>;

  BlockReader(const HotSetHeader& header, std::uint32_t attempts_max, Take take, Refuse refuse)
      : header_(header),
        attempts_max_(attempts_max),
        take_(std::move(take)),
        refuse_(std::move(refuse)) {}

  /// Goes on until all is read or `stop`() says so.
  [[nodiscard]] Status Run(Device& device, const std::function<bool()>& stop) {
    Result<std::unique_ptr<ReadQueue>> queue = device.NewQueue();
    if (!queue.ok()) return std::move(queue).TakeStatus();
    ReadQueue& reads = *queue.value();
    attempts_.assign(header_.block_count, 0);
    retries_.reserve(reads.depth());
    reads_ = &reads;
    while (!stop() && (next_ < header_.block_count || !retries_.empty() || reads.in_flight() > 0)) {
      Refill();
      if (reads.in_flight() > 0) reads.Run(*this, std::chrono::seconds(1));
    }
    dropping_ = true;
    while (reads.in_flight() > 0) reads.Run(*this, std::chrono::seconds(1));
    return {};
  }

 private:
  /// Submits as many reads as the queue takes.
  void Refill() {
    while (!retries_.empty() && reads_->in_flight() < reads_->depth()) {
      Submit(retries_.back());
      retries_.pop_back();
    }
    while (next_ < header_.block_count && reads_->in_flight() < reads_->depth()) Submit(next_++);
  }

  void Submit(std::uint64_t index) {
    ++attempts_[index];
    reads_->Submit({.file_index = 0,
                    .size_bytes = header_.block_bytes,
                    .offset_bytes = header_.BlockOffset(index),
                    .tag = index});
  }

  void OnRead(const ReadCompletion& completion) noexcept override {
    const std::uint64_t index = completion.tag;
    if (dropping_) return;
    if (completion.os_error == 0) {
      Refill();  // The disk reads on while this block is taken.
      reads_->Flush();
      take_(index, completion.bytes);
    } else if (DescribeReadError(completion.os_error).kind == ReadErrorKind::kPassing &&
               attempts_[index] < attempts_max_) {
      retries_.push_back(index);
    } else {
      refuse_(index, completion.os_error);
    }
  }

  const HotSetHeader& header_;
  const std::uint32_t attempts_max_;
  const Take take_;
  const Refuse refuse_;
  ReadQueue* reads_ = nullptr;          ///< While Run() runs.
  std::uint64_t next_ = 0;              ///< First block that no read was made for.
  std::vector<std::uint8_t> attempts_;  ///< Of each block; at most 100.
  std::vector<std::uint64_t> retries_;
  bool dropping_ = false;
};

}  // namespace

Result<std::unique_ptr<HotSetLoader>> HotSetLoader::Start(const HotSetContext& context,
                                                          const std::string& path,
                                                          HotSetHeader header,
                                                          const HotSetLoadOptions& options) {
  Result<OpenedDevice> file = context.open(
      {path}, {.depth = DepthFor(header.block_bytes), .read_size_bytes_max = header.block_bytes});
  if (!file.ok()) return std::move(file).TakeStatus();
  return std::unique_ptr<HotSetLoader>(
      new HotSetLoader(context, path, std::move(header), options, std::move(file).value()));
}

HotSetLoader::HotSetLoader(const HotSetContext& context, std::string path, HotSetHeader header,
                           const HotSetLoadOptions& options, OpenedDevice file)
    : context_(context),
      path_(std::move(path)),
      header_(std::move(header)),
      use_bytes_(options.bytes && header_.has_bytes),
      file_(std::move(file)),
      space_of_(MatchSpaces(header_, context_.layout)),
      chains_(context_.layout.group_space_count),
      pins_left_(static_cast<std::uint64_t>(
          std::ceil(options.pin_share * static_cast<double>(header_.group_count)))),
      begun_ns_(MonotonicNs()) {
  groups_.reserve(header_.block_bytes / kHotSetEntryBytes);
  counts_.total_bytes.store(header_.file_bytes() +
                            (use_bytes_ ? 0 : context_.checkpoint.table_bytes));
  thread_ = std::thread([this] { Run(); });
}

HotSetLoader::~HotSetLoader() {
  Stop();
  thread_.join();
}

HotSetProgress HotSetLoader::Progress() const {
  const auto read = [](const std::atomic<std::uint64_t>& count) {
    return count.load(std::memory_order_relaxed);
  };
  HotSetProgress progress;
  progress.group_count = header_.group_count;
  progress.groups_loaded = read(counts_.loaded);
  progress.groups_present = read(counts_.present);
  progress.groups_left_out = read(counts_.left_out);
  progress.groups_damaged = read(counts_.damaged_groups);
  progress.blocks_damaged = read(counts_.damaged_blocks);
  progress.read_bytes = read(counts_.read_bytes);
  progress.total_bytes = read(counts_.total_bytes);
  for (std::uint32_t space = 0; space < context_.layout.group_space_count; ++space) {
    progress.groups_pinned += context_.cache.Stats(space).pinned_groups;
  }
  MutexLock lock(mutex_);
  progress.state = state_;
  progress.message = message_;
  progress.elapsed_ns = state_ == HotSetState::kLoading ? MonotonicNs() - begun_ns_ : elapsed_ns_;
  return progress;
}

Status HotSetLoader::Wait() {
  MutexLock lock(mutex_);
  while (state_ == HotSetState::kLoading) ended_.Wait(mutex_);
  if (state_ == HotSetState::kLoaded) return {};
  return Status(failure_, message_);
}

void HotSetLoader::Run() noexcept {
  Status status;
  try {
    status = Load();
  } catch (const std::bad_alloc&) {
    status = Status(StatusCode::kResourceExhausted, "no memory to load a hot set");
  } catch (const std::exception& error) {  // A thread of a pread pool, say.
    status = Status(StatusCode::kResourceExhausted, error.what());
  }
  // Whatever is still taken goes back, so that the cache has all of its slots.
  for (std::uint32_t space = 0; space < chains_.size(); ++space) GiveBack(space);
  context_.cache.ReserveHot({});
  if (!status.ok()) Refuse(std::move(status));
  MutexLock lock(mutex_);
  elapsed_ns_ = MonotonicNs() - begun_ns_;
  if (!message_.empty()) {
    state_ = HotSetState::kFailed;
  } else if (stop_.load(std::memory_order_relaxed)) {
    state_ = HotSetState::kCancelled;
    failure_ = StatusCode::kCancelled;
    message_ = fmt::format("loading {} was stopped", path_);
  } else {
    state_ = HotSetState::kLoaded;
  }
  ended_.NotifyAll();
}

void HotSetLoader::GiveBack(std::uint32_t space) noexcept {
  HotSlot& chain = chains_[space];
  while (!chain.bytes.empty()) {
    HotKeyNote note;
    std::memcpy(&note, chain.bytes.data(), sizeof(note));
    context_.cache.AbandonHot(chain, space);
    chain = note.next_slot == HotSlot{}.slot ? HotSlot{}
                                             : context_.cache.HotSlotAt(space, note.next_slot);
  }
}

Status HotSetLoader::Load() {
  std::vector<std::uint64_t> group_counts(context_.layout.group_space_count);
  for (std::size_t i = 0; i < header_.spaces.size(); ++i) {
    if (space_of_[i] != kNoSpace) group_counts[space_of_[i]] += header_.spaces[i].group_count;
  }
  context_.cache.ReserveHot(group_counts);
  BlockReader reader(
      header_, context_.read_attempts_max,
      [this](std::uint64_t index, std::span<const std::byte> block) { TakeBlock(index, block); },
      [this](std::uint64_t index, int os_error) {
        counts_.damaged_blocks.fetch_add(1, std::memory_order_relaxed);
        Refuse(Status(StatusCode::kIoError,
                      fmt::format("{}: block {} of {}, {} B at {}, cannot be read: {}: {}; save "
                                  "the hot set again",
                                  path_, index, header_.block_count, header_.block_bytes,
                                  header_.BlockOffset(index), ErrnoName(os_error),
                                  DescribeReadError(os_error).sentence)));
      });
  Status status = reader.Run(*file_.device, [this] {
    return stop_.load(std::memory_order_relaxed) || (full_ && pins_left_ == 0);
  });
  if (!status.ok()) return status;
  if (counts_.damaged_blocks.load() > 0) {
    counts_.damaged_groups.store(header_.group_count - groups_seen_);
  } else if (!stop_.load(std::memory_order_relaxed)) {
    counts_.left_out.fetch_add(header_.group_count - groups_seen_);  // Not looked at: full.
  }
  if (use_bytes_) return {};
  HotRows rows(context_, counts_, stop_);
  status = rows.Open();
  if (!status.ok()) return status;
  for (std::uint32_t space = 0; space < chains_.size(); ++space) rows.Load(space, chains_[space]);
  return rows.TakeFailure();
}

/// One block of the file, on the loader's thread: checked as a whole, then taken group by
/// group.
void HotSetLoader::TakeBlock(std::uint64_t index, std::span<const std::byte> block) {
  counts_.read_bytes.fetch_add(block.size(), std::memory_order_relaxed);
  Status status = DecodeHotSetBlock(header_, index, block, path_, groups_);
  if (!status.ok()) {
    counts_.damaged_blocks.fetch_add(1, std::memory_order_relaxed);
    Refuse(std::move(status));
    return;
  }
  bool found_room = false;
  for (const HotGroup& group : groups_) {
    ++groups_seen_;
    const std::uint32_t space = space_of_[group.id.space];
    const bool pin = pins_left_ > 0;
    if (pin) --pins_left_;
    HotOutcome outcome = HotOutcome::kNoRoom;
    if (space != kNoSpace) {
      const HotGroupId id = {.key = group.id.key, .space = space, .uses = group.id.uses};
      outcome = use_bytes_ ? TakeImage(id, group.bytes, pin) : TakeKey(id, pin);
    } else {
      counts_.left_out.fetch_add(1, std::memory_order_relaxed);
    }
    found_room = found_room || outcome != HotOutcome::kNoRoom;
  }
  full_ = !found_room;
}

HotOutcome HotSetLoader::TakeImage(const HotGroupId& id, std::span<const std::byte> bytes,
                                   bool pin) {
  const HotSlot slot = context_.cache.StartHot(id.space);
  HotOutcome outcome = HotOutcome::kNoRoom;
  if (!slot.bytes.empty()) {
    std::memcpy(slot.bytes.data(), bytes.data(), bytes.size());
    Overlay::Delivery delivery(context_.overlay);
    if (delivery.MergeGroup(id.space, id.key, slot.bytes)) {
      outcome = context_.cache.FinishHot(slot, id, pin);
    } else {
      context_.cache.AbandonHot(slot, id.space);
    }
  }
  std::atomic<std::uint64_t>& count = outcome == HotOutcome::kLoaded    ? counts_.loaded
                                      : outcome == HotOutcome::kPresent ? counts_.present
                                                                        : counts_.left_out;
  count.fetch_add(1, std::memory_order_relaxed);
  return outcome;
}

/// Notes the key in a slot of its own, for HotRows to fill.
HotOutcome HotSetLoader::TakeKey(const HotGroupId& id, bool pin) {
  const HotSlot slot = context_.cache.StartHot(id.space);
  if (slot.bytes.size() < sizeof(HotKeyNote)) {
    // Groups of less than 16 B have no room for a note; no model has such.
    if (!slot.bytes.empty()) context_.cache.AbandonHot(slot, id.space);
    counts_.left_out.fetch_add(1, std::memory_order_relaxed);
    return HotOutcome::kNoRoom;
  }
  const HotKeyNote note = {.key = id.key,
                           .next_slot = chains_[id.space].slot,
                           .uses = id.uses,
                           .pin = static_cast<std::uint8_t>(pin ? 1 : 0),
                           .spare = {}};
  std::memcpy(slot.bytes.data(), &note, sizeof(note));
  chains_[id.space] = slot;
  return HotOutcome::kLoaded;
}

/// Keeps the first reason.
void HotSetLoader::Refuse(Status status) {
  MutexLock lock(mutex_);
  if (!message_.empty()) return;
  failure_ = status.code();
  message_ = status.message();
}

// ---- Store's half -----------------------------------------------------------------

namespace {

Status StartLoad(Store::Impl& store, const std::string& path, const HotSetLoadOptions& options) {
  if (!(options.pin_share >= 0.0 && options.pin_share <= 1.0)) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("HotSetLoadOptions::pin_share is {}, but must be in [0, 1]",
                              options.pin_share));
  }
  Result<HotSetHeader> header = ReadHotSetHeader(path);
  if (!header.ok()) return std::move(header).TakeStatus();
  Result<TableIdentity> identity = IdentityOf(store.checkpoint);
  if (!identity.ok()) return std::move(identity).TakeStatus();
  Status status =
      CheckHotSetIdentity(header.value(), identity.value(),
                          options.bytes && header.value().has_bytes, path, store.checkpoint);
  if (!status.ok()) return status;
  const HotSetContext context = {.checkpoint = store.checkpoint,
                                 .layout = store.layout,
                                 .hasher = store.hasher,
                                 .locator = store.locator,
                                 .cache = *store.cache,
                                 .overlay = store.overlay.get(),
                                 .open = store.open_device,
                                 .read_attempts_max = store.read_attempts_max};
  MutexLock lock(store.hot_set_mutex);
  if (store.hot_set != nullptr && store.hot_set->Progress().state == HotSetState::kLoading) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("{} cannot be loaded now: another hot set is being loaded; wait for "
                              "it or cancel it",
                              path));
  }
  Result<std::unique_ptr<HotSetLoader>> loader =
      HotSetLoader::Start(context, path, std::move(header).value(), options);
  if (!loader.ok()) return std::move(loader).TakeStatus();
  store.hot_set = std::move(loader).value();
  return {};
}

std::shared_ptr<HotSetLoader> LoaderOf(Store::Impl& store) {
  MutexLock lock(store.hot_set_mutex);
  return store.hot_set;
}

}  // namespace

Status Store::LoadHotSet(const std::string& path, const HotSetLoadOptions& options) {
  try {
    return StartLoad(*impl_, path, options);
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kResourceExhausted, "no memory to load a hot set");
  } catch (const std::system_error& error) {  // A thread that cannot be started.
    return Status(
        StatusCode::kResourceExhausted,
        fmt::format("cannot start a thread to load {}: {}; check 'ulimit -u'", path, error.what()),
        error.code().value());
  }
}

HotSetProgress Store::HotSet() const {
  const std::shared_ptr<HotSetLoader> loader = LoaderOf(*impl_);
  return loader == nullptr ? HotSetProgress{} : loader->Progress();
}

Status Store::WaitForHotSet() {
  const std::shared_ptr<HotSetLoader> loader = LoaderOf(*impl_);
  return loader == nullptr ? Status() : loader->Wait();
}

void Store::CancelHotSet() {
  const std::shared_ptr<HotSetLoader> loader = LoaderOf(*impl_);
  if (loader == nullptr) return;
  loader->Stop();
  (void)loader->Wait();
}

}  // namespace tiercel
