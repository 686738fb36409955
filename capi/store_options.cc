#include "capi/store_options.h"

#include <string_view>

#include "capi/convert.h"
#include "capi/errors.h"
#include "capi/handles.h"
#include "capi/structs.h"

namespace tiercel::capi {
namespace {

// Members that have no name would be padding: then this is not the sum of the members.
static_assert(sizeof(tiercel_store_options) ==
              2 * 8 + 4 * 4 + 8 + 8 * 4 + 2 * 8 + 2 * 4 + 5 * 8 + 2 * 4 + 8 + 2 * 8 + 2 * 4);

template <typename Enum>
constexpr std::uint32_t Number(Enum value) noexcept {
  return static_cast<std::uint32_t>(value);
}
static_assert(TIERCEL_ENGINE_AUTO == Number(Engine::kAuto));
static_assert(TIERCEL_ENGINE_URING == Number(Engine::kUring));
static_assert(TIERCEL_ENGINE_PREAD == Number(Engine::kPread));
static_assert(TIERCEL_SCALES_AUTO == Number(ScalePlacement::kAuto));
static_assert(TIERCEL_SCALES_RESIDENT == Number(ScalePlacement::kResident));
static_assert(TIERCEL_SCALES_DISK == Number(ScalePlacement::kDisk));
static_assert(TIERCEL_UPDATES_AUTO == Number(Updates::kAuto));
static_assert(TIERCEL_UPDATES_OFF == Number(Updates::kOff));
static_assert(TIERCEL_UPDATES_READ_ONLY == Number(Updates::kReadOnly));
static_assert(TIERCEL_UPDATES_READ_WRITE == Number(Updates::kReadWrite));
static_assert(TIERCEL_PAGES_TRANSPARENT_HUGE == Number(CachePages::kTransparentHuge));
static_assert(TIERCEL_PAGES_HUGETLB == Number(CachePages::kHugetlb));
static_assert(TIERCEL_PAGES_PLAIN == Number(CachePages::kPlain));
static_assert(TIERCEL_NUMA_INTERLEAVE == Number(NumaPlacement::kInterleave));
static_assert(TIERCEL_NUMA_NONE == Number(NumaPlacement::kNone));
static_assert(TIERCEL_NUMA_NODE == Number(NumaPlacement::kNode));

/// The constants and flags of `from`, checked.
Status ToChoices(const tiercel_store_options& from, StoreOptions* options) {
  Status status = ToEnum(from.engine, Engine::kPread, "engine", &options->engine);
  if (status.ok()) status = ToEnum(from.scales, ScalePlacement::kDisk, "scales", &options->scales);
  if (status.ok()) {
    status = ToEnum(from.pages, CachePages::kPlain, "pages", &options->memory.pages);
  }
  if (status.ok()) {
    status = ToEnum(from.numa, NumaPlacement::kNode, "numa", &options->memory.numa);
  }
  if (status.ok()) status = ToFlag(from.io_poll, "io_poll", &options->io_poll);
  if (status.ok()) {
    status = ToFlag(from.submission_poll, "submission_poll", &options->submission_poll);
  }
  if (status.ok()) {
    status = ToEnum(from.updates, Updates::kReadWrite, "updates", &options->updates);
  }
  if (status.ok()) status = ToFlag(from.shared_cache, "shared_cache", &options->memory.shared);
  if (status.ok()) status = CheckArray(from.layer_ids, from.layer_id_count, "layer_ids");
  return status;
}

/// The numbers of `from`, as they are.
void CopySizes(const tiercel_store_options& from, StoreOptions* options) {
  options->dram_budget_bytes = from.dram_budget_bytes;
  options->io_thread_count = from.io_thread_count;
  options->queue_depth = from.queue_depth;
  options->read_block_bytes = from.read_block_bytes;
  options->read_attempts_max = from.read_attempts_max;
  options->memory.numa_node = from.numa_node;
  options->prefetch.tickets_max = from.prefetch_tickets_max;
  options->prefetch.tokens_max = from.prefetch_tokens_max;
  options->prefetch.staging_bytes = from.prefetch_staging_bytes;
  options->prefetch.start_groups_max = from.prefetch_start_groups_max;
  options->prefetch.background_depth = from.prefetch_background_depth;
  options->overlay_rows_max = from.overlay_rows_max;
  options->shard = {.rank = from.shard_rank, .count = from.shard_count};
  if (from.prefetch_expected_groups_max != UINT64_MAX) {
    options->prefetch.expected_groups_max = from.prefetch_expected_groups_max;
  }
}

}  // namespace

tiercel_store_options DefaultStoreOptions() {
  const StoreOptions from;
  tiercel_store_options options = {};
  options.struct_size = sizeof(options);
  options.dram_budget_bytes = from.dram_budget_bytes;
  options.engine = Number(from.engine);
  options.io_thread_count = from.io_thread_count;
  options.queue_depth = from.queue_depth;
  options.read_block_bytes = from.read_block_bytes;
  options.read_attempts_max = from.read_attempts_max;
  options.io_poll = Number(from.io_poll);
  options.submission_poll = Number(from.submission_poll);
  options.scales = Number(from.scales);
  options.pages = Number(from.memory.pages);
  options.numa = Number(from.memory.numa);
  options.numa_node = from.memory.numa_node;
  options.shared_cache = Number(from.memory.shared);
  options.prefetch_tickets_max = from.prefetch.tickets_max;
  options.prefetch_tokens_max = from.prefetch.tokens_max;
  options.prefetch_staging_bytes = from.prefetch.staging_bytes;
  options.prefetch_start_groups_max = from.prefetch.start_groups_max;
  options.prefetch_background_depth = from.prefetch.background_depth;
  options.shard_rank = from.shard.rank;
  options.shard_count = from.shard.count;
  options.overlay_rows_max = from.overlay_rows_max;
  options.updates = Number(from.updates);
  options.prefetch_expected_groups_max = UINT64_MAX;  // As from.prefetch leaves it open.
  return options;
}

Status ToStoreOptions(const tiercel_store_options* given, StoreOptions* options) {
  tiercel_store_options from = DefaultStoreOptions();
  Status status = ReadStruct(given, "options", &from);
  if (status.ok()) status = ToChoices(from, options);
  if (!status.ok()) return status;
  CopySizes(from, options);
  if (from.disk_profile_path != nullptr) options->disk_profile_path = from.disk_profile_path;
  if (from.state_path != nullptr) options->state_path = from.state_path;
  if (from.layer_id_count > 0) {
    options->layer_ids.assign(from.layer_ids, from.layer_ids + from.layer_id_count);
  }
  if (from.token_map != nullptr) options->token_map = from.token_map->map;
  if (from.log != nullptr) {
    options->log = [log = from.log, user_data = from.log_user_data](std::string_view line) {
      log(line.data(), line.size(), user_data);
    };
  }
  return {};
}

}  // namespace tiercel::capi
