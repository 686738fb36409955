#include "tiercel/store.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <new>
#include <set>
#include <system_error>
#include <utility>

#include "base/spin.h"
#include "store/generation_lock.h"
#include "store/share_cache.h"
#include "store/store_impl.h"

namespace tiercel {
namespace {

constexpr std::uint64_t kBudgetBytesMin = std::uint64_t{16} << 20;

Status CheckOptions(const StoreOptions& options) {
  const auto refuse = [](std::string_view name, std::uint64_t value, std::string_view range) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("StoreOptions::{} is {}, but must be {}", name, value, range));
  };
  if (options.dram_budget_bytes < kBudgetBytesMin) {
    return refuse("dram_budget_bytes", options.dram_budget_bytes, "at least 16 MiB");
  }
  if (options.io_thread_count > 64) {
    return refuse("io_thread_count", options.io_thread_count, "in [0, 64]");
  }
  if (options.queue_depth > 4096) {
    return refuse("queue_depth", options.queue_depth, "in [1, 4096], or 0");
  }
  if (options.read_block_bytes > 65536 ||
      (options.read_block_bytes != 0 && !std::has_single_bit(options.read_block_bytes))) {
    return refuse("read_block_bytes", options.read_block_bytes, "a power of two up to 65536, or 0");
  }
  const PrefetchLimits& limits = options.prefetch;
  if (limits.tickets_max < 1 || limits.tickets_max > 4096) {
    return refuse("prefetch.tickets_max", limits.tickets_max, "in [1, 4096]");
  }
  if (limits.tokens_max < 16 || limits.tokens_max > std::uint64_t{1} << 28) {
    return refuse("prefetch.tokens_max", limits.tokens_max, "in [16, 2^28]");
  }
  if (limits.start_groups_max < 1 || limits.start_groups_max > 4096) {
    return refuse("prefetch.start_groups_max", limits.start_groups_max, "in [1, 4096]");
  }
  if (limits.background_depth > 4096) {
    return refuse("prefetch.background_depth", limits.background_depth, "in [1, 4096], or 0");
  }
  if (options.compressed_tokens && options.token_map != nullptr) {
    return Status(StatusCode::kInvalidArgument,
                  "StoreOptions::compressed_tokens and token_map exclude each other");
  }
  if (options.read_attempts_max < 1 || options.read_attempts_max > 100) {
    return refuse("read_attempts_max", options.read_attempts_max, "in [1, 100]");
  }
  return {};
}

Status NotAShard(const std::string& path, const Status& why) {
  return Status(why.code(), fmt::format("StoreOptions::shard: {}: {}", path, why.message()));
}

Result<Layout> MakeLayout(const CheckpointInfo& checkpoint,
                          const std::vector<std::uint32_t>& layer_ids) {
  const Recipe& recipe = checkpoint.recipe;
  Layout layout;
  layout.order_count = recipe.order_count();
  layout.head_count = recipe.parameters.head_count;
  layout.column_count = recipe.column_count();
  const std::set<std::uint32_t> wanted(layer_ids.begin(), layer_ids.end());
  for (const std::uint32_t layer_id : wanted) {
    if (!recipe.FindLayer(layer_id).has_value()) {
      return Status(StatusCode::kNotFound,
                    fmt::format("{}: layer {} has no Engram table", checkpoint.path, layer_id));
    }
  }
  for (std::uint32_t i = 0; i < checkpoint.layers.size(); ++i) {
    const LayerTable& table = checkpoint.layers[i];
    if (!wanted.empty() && !wanted.contains(table.layer_id)) continue;
    layout.layers.push_back(ServedLayer{.layer_id = table.layer_id,
                                        .recipe_index = i,
                                        .shape = table.shape,
                                        .row_size_bytes = table.shape.row_size_bytes(),
                                        .row_count = table.row_count});
  }
  const auto add_space = [&layout](std::uint32_t layer_index, std::uint32_t order_index,
                                   std::uint32_t row_count) {
    const std::uint32_t size_bytes = row_count * layout.layers[layer_index].row_size_bytes;
    layout.spaces.push_back({.layer_index = layer_index,
                             .order_index = order_index,
                             .row_count = row_count,
                             .size_bytes = size_bytes});
    layout.space_size_bytes_max = std::max(layout.space_size_bytes_max, size_bytes);
    return static_cast<std::uint32_t>(layout.spaces.size() - 1);
  };
  for (std::uint32_t i = 0; i < layout.layers.size(); ++i) {
    layout.layers[i].first_space = static_cast<std::uint32_t>(layout.spaces.size());
    for (std::uint32_t order = 0; order < layout.order_count; ++order) {
      add_space(i, order, layout.head_count);
    }
  }
  layout.group_space_count = static_cast<std::uint32_t>(layout.spaces.size());
  for (std::uint32_t i = 0; i < layout.layers.size(); ++i) {
    layout.layers[i].single_space = add_space(i, Space::kSingleRows, 1);
    layout.layers[i].base_space = add_space(i, Space::kSingleRows, 1);
    layout.spaces.back().base_rows = true;
  }
  return layout;
}

/// Serialises a caller's log function; stderr where there is none.
std::function<void(std::string_view)> MakeLog(std::function<void(std::string_view)> log) {
  auto mutex = std::make_shared<Mutex>();
  return [mutex, log = std::move(log)](std::string_view line) {
    MutexLock lock(*mutex);
    if (log) {
      log(line);
    } else {
      std::fprintf(stderr, "tiercel: %.*s\n", static_cast<int>(line.size()), line.data());
    }
  };
}

/// Disks that hold the files: at least 1, and at most as many as may have a thread.
std::uint32_t DiskCount(const std::vector<TableFile>& files) {
  std::set<dev_t> disks;
  for (const TableFile& file : files) {
    struct stat info {};
    // A file that is not there is the device's to report.
    if (stat(file.path.c_str(), &info) == 0) disks.insert(info.st_dev);
  }
  return static_cast<std::uint32_t>(std::clamp<std::size_t>(disks.size(), 1, 64));
}

/// Whether the rows that are to be served are there: a packed shard has a rank's alone.
Status CheckShard(const CheckpointInfo& checkpoint, HeadShard shard) {
  if (!checkpoint.packed || checkpoint.packed->shard.count == 1 ||
      checkpoint.packed->shard == shard) {
    return {};
  }
  return Status(
      StatusCode::kInvalidArgument,
      fmt::format("{} holds head shard {}/{} alone: open it with that shard "
                  "(StoreOptions::shard, --shard {}/{})",
                  checkpoint.path, checkpoint.packed->shard.rank, checkpoint.packed->shard.count,
                  checkpoint.packed->shard.rank, checkpoint.packed->shard.count));
}

std::vector<std::string> PathsOf(const CheckpointInfo& checkpoint) {
  std::vector<std::string> paths;
  for (const TableFile& file : checkpoint.files) paths.push_back(file.path);
  return paths;
}

/// Depth and block for the files of a checkpoint, read by the engine of choice.
Result<ReadSettings> SettingsFor(const CheckpointInfo& checkpoint, const StoreOptions& options,
                                 EngineChoice choice) {
  const std::vector<std::string> paths = PathsOf(checkpoint);
  // Which engine kAuto is going to be is known when it has been opened, no sooner.
  const auto engine_name = [&]() -> Result<std::string> {
    Result<OpenedDevice> probe = OpenDevice(choice, paths, {.depth = 1});
    if (!probe.ok()) return std::move(probe).TakeStatus();
    return std::string(Name(probe.value().device->engine()));
  };
  return ResolveReadSettings(options, paths, engine_name, MakeLog(options.log));
}

}  // namespace

namespace {

Result<std::unique_ptr<Store>> OpenInspected(CheckpointInfo checkpoint,
                                             const StoreOptions& options) {
  const EngineChoice choice = ChoiceOf(options.engine);
  Result<ReadSettings> settings = SettingsFor(checkpoint, options, choice);
  if (!settings.ok()) return std::move(settings).TakeStatus();
  StoreOptions settled = options;
  settled.queue_depth = settings.value().queue_depth;
  settled.read_block_bytes = settings.value().block_bytes;
  return OpenStoreOn(
      std::move(checkpoint), settled,
      [choice](const std::vector<std::string>& paths, const DeviceOptions& device) {
        return OpenDevice(choice, paths, device);
      },
      std::move(settings.value().profile_paths));
}

}  // namespace

Result<std::unique_ptr<Store>> Store::Open(const std::string& path, const StoreOptions& options) {
  try {
    std::uint64_t generation = 0;
    while (true) {
      Result<CheckpointInfo> checkpoint = InspectCheckpoint(path);
      if (!checkpoint.ok()) return std::move(checkpoint).TakeStatus();
      const std::uint64_t inspected =
          checkpoint.value().packed ? checkpoint.value().packed->generation : 0;
      Result<std::unique_ptr<Store>> store = OpenInspected(std::move(checkpoint).value(), options);
      if (store.ok() || inspected <= generation) return store;
      // The files may have been those of a generation that a compaction replaced meanwhile:
      // the error is worth something if there is no newer one.
      generation = inspected;
    }
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kResourceExhausted, fmt::format("no memory to open {}", path));
  } catch (const std::system_error& error) {  // A thread that cannot be started.
    return Status(
        StatusCode::kResourceExhausted,
        fmt::format("cannot start a thread to open {}: {}; check 'ulimit -u'", path, error.what()),
        error.code().value());
  }
}

namespace {

/// Takes a layer's scales into DRAM, as the plan says.
Status LoadScales(Store::Impl& impl, const std::function<void(std::string_view)>& log) {
  for (std::uint32_t i = 0; i < impl.layout.layers.size(); ++i) {
    const std::uint32_t index = impl.layout.layers[i].recipe_index;
    const LayerTable& table = impl.checkpoint.layers[index];
    const std::vector<RowRange> rows = RowsInReach(impl.checkpoint.recipe, index);
    for (std::uint32_t part = 1; part < table.parts.size(); ++part) {
      Result<std::unique_ptr<ResidentPart>> resident =
          ResidentPart::Load(impl.checkpoint.files, table.parts[part], rows,
                             impl.checksums ? &*impl.checksums : nullptr, log);
      if (!resident.ok()) return std::move(resident).TakeStatus();
      impl.locator.SetResident(i, part, std::move(resident).value());
    }
  }
  return {};
}

/// Reads of the background at a time while others are about: few enough to be out of the
/// way of what is urgent, enough to have most of what a disk can do.
std::uint32_t BackgroundDepth(const StoreOptions& options) {
  if (options.prefetch.background_depth > 0) return options.prefetch.background_depth;
  return std::max(options.queue_depth / 4, std::uint32_t{1});
}

Status StartIoThreads(Store::Impl& impl, const StoreOptions& options,
                      const std::function<void(std::string_view)>& log) {
  impl.io_context.emplace(IoContext{.layout = impl.layout,
                                    .hasher = impl.hasher,
                                    .locator = impl.locator,
                                    .device = *impl.opened.device,
                                    .files = impl.checkpoint.files,
                                    .fetches = *impl.fetches,
                                    .cache = *impl.cache,
                                    .counters = impl.counters,
                                    .overlay = impl.overlay.get(),
                                    .read_attempts_max = options.read_attempts_max,
                                    .background_depth = BackgroundDepth(options),
                                    .may_spin = SpinningCores() > 0,
                                    .memory = options.memory,
                                    .log = log});
  for (std::uint32_t i = 0; i < options.io_thread_count; ++i) {
    Result<std::unique_ptr<ReadQueue>> queue = impl.opened.device->NewQueue();
    if (!queue.ok()) return std::move(queue).TakeStatus();
    impl.io_threads.push_back(
        std::make_unique<IoThread>(*impl.io_context, std::move(queue).value()));
  }
  return {};
}

}  // namespace

namespace {

/// A store of the checkpoint's tables that has read headers and taken no memory yet.
/// `options` gets what the checkpoint says. `catalogue`: of the whole tables.
Result<std::unique_ptr<Store::Impl>> MakeImpl(CheckpointInfo checkpoint, StoreOptions& options,
                                              StateCatalogue& catalogue) {
  if (Status status = CheckShard(checkpoint, options.shard); !status.ok()) return status;
  Result<FileDescriptor> generation_lock = HoldGeneration(checkpoint);
  if (!generation_lock.ok()) return std::move(generation_lock).TakeStatus();
  Result<std::optional<ChecksumSidecar>> checksums =
      ChecksumSidecar::Find(checkpoint, options.checksums, options.checksums_path);
  if (!checksums.ok()) return std::move(checksums).TakeStatus();
  catalogue = CatalogueOf(checkpoint);
  // From here on the recipe is that of the shard: its heads are all that there are.
  Result<Recipe> recipe = ShardRecipe(checkpoint.recipe, options.shard);
  if (!recipe.ok()) return NotAShard(checkpoint.path, recipe.status());
  checkpoint.recipe = std::move(recipe).value();
  Result<Layout> layout = MakeLayout(checkpoint, options.layer_ids);
  if (!layout.ok()) return std::move(layout).TakeStatus();
  if (options.token_map == nullptr && !options.compressed_tokens) {
    options.token_map = checkpoint.token_map;
  }
  Result<Hasher> hasher = Hasher::Create(checkpoint.recipe, options.token_map);
  if (!hasher.ok()) return std::move(hasher).TakeStatus();
  auto impl = std::make_unique<Store::Impl>(std::move(checkpoint), std::move(hasher).value(),
                                            std::move(layout).value());
  impl->checksums = std::move(checksums).value();
  impl->generation_lock = std::move(generation_lock).value();
  if (impl->checksums) impl->locator.SetChecksums(&*impl->checksums);
  return impl;
}

Status OpenFiles(Store::Impl& impl, const StoreOptions& options,
                 const std::function<void(std::string_view)>& log) {
  Result<OpenedDevice> opened =
      impl.open_device(PathsOf(impl.checkpoint),
                       DeviceOptions{.depth = options.queue_depth,
                                     .read_size_bytes_max = impl.locator.read_size_bytes_max(),
                                     .block_bytes = options.read_block_bytes,
                                     .io_poll = options.io_poll,
                                     .submission_poll = options.submission_poll});
  if (!opened.ok()) return std::move(opened).TakeStatus();
  impl.opened = std::move(opened).value();
  if (!impl.opened.fallback_reason.empty()) {
    log(fmt::format("reading with {} instead of io_uring: {}", impl.opened.device->description(),
                    impl.opened.fallback_reason));
  }
  return {};
}

Status OpenUpdatedRows(Store::Impl& impl, const StoreOptions& options,
                       const StateCatalogue& catalogue,
                       const std::function<void(std::string_view)>& log) {
  if (Status status = OpenOverlay(impl, options, catalogue, log); !status.ok()) return status;
  if (impl.overlay == nullptr) return {};
  // A compaction switches the manifest before it empties the overlay: if this is still the
  // generation, no row was taken out before the overlay was opened.
  Result<FileDescriptor> still_held = HoldGeneration(impl.checkpoint);
  return still_held.ok() ? Status() : std::move(still_held).TakeStatus();
}

/// Divides the budget, and takes the memory of the cache and of all tables.
Status TakeMemory(Store::Impl& impl, const StoreOptions& options,
                  const std::function<void(std::string_view)>& log) {
  Result<MemoryPlan> plan =
      PlanMemory(options, impl.checkpoint, impl.layout, impl.locator.part_count_max(),
                 {.checksum_bytes = impl.checksums ? impl.checksums->memory_bytes() : 0,
                  .overlay_bytes = impl.plan.overlay_bytes},
                 *impl.opened.device);
  if (!plan.ok()) return std::move(plan).TakeStatus();
  impl.plan = plan.value();
  GroupCacheOptions cache_options{.budget_bytes = impl.plan.cache_bytes};
  cache_options.memory = options.memory;
  cache_options.expected_groups_max =
      options.prefetch.expected_groups_max.value_or(impl.plan.cache_bytes / 128 / 13);
  for (std::uint32_t i = 0; i < impl.layout.group_space_count; ++i) {
    cache_options.group_size_bytes.push_back(impl.layout.spaces[i].size_bytes);
  }
  if (options.memory.shared) {
    Status status = TakeSharedMemory(impl, options.memory, impl.plan.cache_bytes, cache_options);
    if (!status.ok()) return status;
  }
  Result<std::unique_ptr<GroupCache>> cache = GroupCache::Create(cache_options);
  if (!cache.ok()) return std::move(cache).TakeStatus();
  impl.cache = std::move(cache).value();
  if (options.memory.shared) {
    if (Status status = DescribeSharedMemory(impl); !status.ok()) return status;
  }
  if (options.memory.pages == CachePages::kTransparentHuge &&
      impl.cache->description().find("plain pages") != std::string::npos) {
    log(fmt::format("the cache is slower than it could be: {}", impl.cache->description()));
  }
  impl.fetches = std::make_unique<FetchTable>(impl.plan.fetch_capacity);
  impl.prefetch_limits = options.prefetch;
  impl.urgent_credits.Fill(impl.plan.urgent_credits);
  impl.background_credits.Fill(impl.plan.background_credits);
  impl.waiters.Reserve(impl.plan.waiter_chunks);
  impl.tickets = std::make_shared<Ticket::Table>(options.prefetch);
  impl.prefetcher = std::make_unique<Prefetcher>(options.prefetch.tickets_max, options.memory);
  if (impl.overlay != nullptr) impl.overlay->SetCache(*impl.cache);
  return impl.plan.scale_bytes > 0 ? LoadScales(impl, log) : Status();
}

}  // namespace

Result<std::unique_ptr<Store>> OpenStoreOn(CheckpointInfo checkpoint, const StoreOptions& wanted,
                                           const OpenDeviceFunction& open_device,
                                           std::string profile_paths) {
  if (Status status = CheckOptions(wanted); !status.ok()) return status;
  StoreOptions options = wanted;
  options.queue_depth = ReadSettingsOf(wanted).queue_depth;
  if (options.io_thread_count == 0) options.io_thread_count = DiskCount(checkpoint.files);
  const auto log = MakeLog(options.log);
  StateCatalogue catalogue;
  Result<std::unique_ptr<Store::Impl>> made = MakeImpl(std::move(checkpoint), options, catalogue);
  if (!made.ok()) return std::move(made).TakeStatus();
  std::unique_ptr<Store::Impl> impl = std::move(made).value();
  for (const std::string& note : impl->checkpoint.notes) {
    log(fmt::format("{}: {}", impl->checkpoint.path, note));
  }
  impl->open_device = open_device;
  impl->read_attempts_max = options.read_attempts_max;
  impl->disk_profile = std::move(profile_paths);
  impl->queue_depth = options.queue_depth;
  if (Status status = OpenFiles(*impl, options, log); !status.ok()) return status;
  if (Status status = OpenUpdatedRows(*impl, options, catalogue, log); !status.ok()) return status;
  if (Status status = TakeMemory(*impl, options, log); !status.ok()) return status;
  if (Status status = StartIoThreads(*impl, options, log); !status.ok()) return status;
  if (Status status = CheckOverlay(*impl, std::move(catalogue)); !status.ok()) return status;
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

}  // namespace tiercel
