#include "capi/start_options.h"

#include "capi/convert.h"
#include "capi/structs.h"

namespace tiercel::capi {
namespace {

static_assert(sizeof(tiercel_start_options) == 8 + 4 * 4 + 2 * 8 + 2 * 4);
static_assert(sizeof(tiercel_prefetch_layer) == 8 + 2 * 4 + 6 * 8);
static_assert(TIERCEL_URGENCY_DEADLINE == static_cast<int>(Urgency::kDeadline));
static_assert(TIERCEL_URGENCY_BACKGROUND == static_cast<int>(Urgency::kBackground));
static_assert(TIERCEL_HITS_IN_START == static_cast<int>(HitCopy::kInStart));
static_assert(TIERCEL_HITS_DEFERRED == static_cast<int>(HitCopy::kDeferred));
static_assert(TIERCEL_FULL_REFUSE == static_cast<int>(WhenFull::kRefuse));
static_assert(TIERCEL_FULL_BLOCK == static_cast<int>(WhenFull::kBlock));
static_assert(TIERCEL_CACHE_INSERT == static_cast<int>(CacheUse::kInsert));
static_assert(TIERCEL_CACHE_KEEP_OUT == static_cast<int>(CacheUse::kKeepOut));

}  // namespace

tiercel_start_options DefaultStartOptions() {
  const PrefetchOptions from;
  tiercel_start_options options = {};
  options.struct_size = sizeof(options);
  options.output = static_cast<std::uint32_t>(from.format);
  options.urgency = static_cast<std::uint32_t>(from.urgency);
  options.hits = static_cast<std::uint32_t>(from.hits);
  options.when_full = static_cast<std::uint32_t>(from.when_full);
  options.event_fd = from.event_fd;
  options.cache = static_cast<std::uint32_t>(from.cache);
  return options;
}

tiercel_prefetch_layer DefaultPrefetchLayer() {
  tiercel_prefetch_layer layer = {};
  layer.struct_size = sizeof(layer);
  layer.needed_after_ns = PrefetchLayer().needed_after.count();
  return layer;
}

Status ToPrefetchOptions(const tiercel_start_options* given, PrefetchOptions* options) {
  tiercel_start_options from = DefaultStartOptions();
  Status status = ReadStruct(given, "options", &from);
  if (status.ok()) status = ToRowOutput(from.output, &options->format);
  if (status.ok()) {
    status = ToEnum(from.urgency, Urgency::kBackground, "urgency", &options->urgency);
  }
  if (status.ok()) status = ToEnum(from.hits, HitCopy::kDeferred, "hits", &options->hits);
  if (status.ok()) {
    status = ToEnum(from.when_full, WhenFull::kBlock, "when_full", &options->when_full);
  }
  if (status.ok()) status = ToEnum(from.cache, CacheUse::kKeepOut, "cache", &options->cache);
  if (!status.ok()) return status;
  options->event_fd = from.event_fd;
  if (from.on_layer != nullptr) {
    // Two pointers: std::function keeps them without allocating.
    options->on_layer = [call = from.on_layer, user_data = from.on_layer_user_data](
                            std::uint32_t layer_id, StatusCode code) {
      call(layer_id, static_cast<tiercel_code>(code), user_data);
    };
  }
  return {};
}

}  // namespace tiercel::capi
