// tiercel_*_init: the defaults of every struct that may grow.

#include "capi/errors.h"
#include "capi/hot_set.h"
#include "capi/start_options.h"
#include "capi/store_options.h"
#include "capi/structs.h"

namespace capi = tiercel::capi;

namespace tiercel::capi {
namespace {

/// What each _init function does.
template <typename T>
tiercel_code Init(const char* function, const T& defaults, std::size_t struct_size,
                  T* value) noexcept {
  return Guarded(function, [&] { return InitStruct(defaults, struct_size, value); });
}

}  // namespace
}  // namespace tiercel::capi

tiercel_code tiercel_store_options_init(tiercel_store_options* value, size_t struct_size) noexcept {
  return capi::Init(__func__, capi::DefaultStoreOptions(), struct_size, value);
}

tiercel_code tiercel_prefetch_layer_init(tiercel_prefetch_layer* value,
                                         size_t struct_size) noexcept {
  return capi::Init(__func__, capi::DefaultPrefetchLayer(), struct_size, value);
}

tiercel_code tiercel_start_options_init(tiercel_start_options* value, size_t struct_size) noexcept {
  return capi::Init(__func__, capi::DefaultStartOptions(), struct_size, value);
}

tiercel_code tiercel_hot_set_save_options_init(tiercel_hot_set_save_options* value,
                                               size_t struct_size) noexcept {
  return capi::Init(__func__, capi::DefaultSaveOptions(), struct_size, value);
}

tiercel_code tiercel_hot_set_load_options_init(tiercel_hot_set_load_options* value,
                                               size_t struct_size) noexcept {
  return capi::Init(__func__, capi::DefaultLoadOptions(), struct_size, value);
}

tiercel_code tiercel_recipe_info_init(tiercel_recipe_info* value, size_t struct_size) noexcept {
  return capi::Init(__func__, tiercel_recipe_info{}, struct_size, value);
}

tiercel_code tiercel_checkpoint_info_init(tiercel_checkpoint_info* value,
                                          size_t struct_size) noexcept {
  return capi::Init(__func__, tiercel_checkpoint_info{}, struct_size, value);
}

tiercel_code tiercel_layer_info_init(tiercel_layer_info* value, size_t struct_size) noexcept {
  return capi::Init(__func__, tiercel_layer_info{}, struct_size, value);
}

tiercel_code tiercel_ticket_rows_init(tiercel_ticket_rows* value, size_t struct_size) noexcept {
  return capi::Init(__func__, tiercel_ticket_rows{}, struct_size, value);
}

tiercel_code tiercel_ticket_stats_init(tiercel_ticket_stats* value, size_t struct_size) noexcept {
  return capi::Init(__func__, tiercel_ticket_stats{}, struct_size, value);
}

tiercel_code tiercel_order_stats_init(tiercel_order_stats* value, size_t struct_size) noexcept {
  return capi::Init(__func__, tiercel_order_stats{}, struct_size, value);
}

tiercel_code tiercel_store_stats_init(tiercel_store_stats* value, size_t struct_size) noexcept {
  return capi::Init(__func__, tiercel_store_stats{}, struct_size, value);
}

tiercel_code tiercel_hot_set_saved_init(tiercel_hot_set_saved* value, size_t struct_size) noexcept {
  return capi::Init(__func__, tiercel_hot_set_saved{}, struct_size, value);
}

tiercel_code tiercel_shared_cache_info_init(tiercel_shared_cache_info* value,
                                            size_t struct_size) noexcept {
  return capi::Init(__func__, tiercel_shared_cache_info{}, struct_size, value);
}

tiercel_code tiercel_shared_cache_layer_init(tiercel_shared_cache_layer* value,
                                             size_t struct_size) noexcept {
  return capi::Init(__func__, tiercel_shared_cache_layer{}, struct_size, value);
}

tiercel_code tiercel_hot_set_progress_init(tiercel_hot_set_progress* value,
                                           size_t struct_size) noexcept {
  return capi::Init(__func__, tiercel_hot_set_progress{}, struct_size, value);
}
