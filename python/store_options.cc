#include "python/store_options.h"

#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <utility>

#include "python/errors.h"

namespace tiercel::python {
namespace {

template <typename Value>
using Names = std::initializer_list<std::pair<std::string_view, Value>>;

template <typename Value>
Value Parse(const char* what, py::handle value, Names<Value> names) {
  const auto name = py::cast<std::string>(value);
  std::string known;
  for (const auto& [text, result] : names) {
    if (name == text) return result;
    known += (known.empty() ? "'" : ", '") + std::string(text) + "'";
  }
  RaiseInvalid(std::string(what) + " is '" + name + "'; known are " + known);
}

using Setter = std::function<void(StoreOptions&, py::handle)>;

/// A setter of a plain field.
template <typename Owner, typename Value>
Setter Set(Owner StoreOptions::*part, Value Owner::*field) {
  return [part, field](StoreOptions& options, py::handle value) {
    options.*part.*field = py::cast<Value>(value);
  };
}
template <typename Value>
Setter Set(Value StoreOptions::*field) {
  return
      [field](StoreOptions& options, py::handle value) { options.*field = py::cast<Value>(value); };
}

void SetEngine(StoreOptions& options, py::handle value) {
  options.engine = Parse<Engine>(
      "engine", value,
      {{"auto", Engine::kAuto}, {"io_uring", Engine::kUring}, {"pread", Engine::kPread}});
}

void SetScales(StoreOptions& options, py::handle value) {
  options.scales = Parse<ScalePlacement>("scales", value,
                                         {{"auto", ScalePlacement::kAuto},
                                          {"resident", ScalePlacement::kResident},
                                          {"disk", ScalePlacement::kDisk}});
}

void SetPages(StoreOptions& options, py::handle value) {
  options.memory.pages = Parse<CachePages>("pages", value,
                                           {{"transparent-huge", CachePages::kTransparentHuge},
                                            {"hugetlb", CachePages::kHugetlb},
                                            {"plain", CachePages::kPlain}});
}

void SetNuma(StoreOptions& options, py::handle value) {
  options.memory.numa = Parse<NumaPlacement>("numa", value,
                                             {{"interleave", NumaPlacement::kInterleave},
                                              {"none", NumaPlacement::kNone},
                                              {"node", NumaPlacement::kNode}});
}

void SetUpdates(StoreOptions& options, py::handle value) {
  options.updates = Parse<Updates>("updates", value,
                                   {{"auto", Updates::kAuto},
                                    {"off", Updates::kOff},
                                    {"read-only", Updates::kReadOnly},
                                    {"read-write", Updates::kReadWrite}});
}

void SetStatePath(StoreOptions& options, py::handle value) {
  options.state_path = py::cast<std::filesystem::path>(value).string();
}

void SetDiskProfile(StoreOptions& options, py::handle value) {
  options.disk_profile_path = py::cast<std::filesystem::path>(value).string();
}

void SetShard(StoreOptions& options, py::handle value) {
  const auto [rank, count] = py::cast<std::pair<std::uint32_t, std::uint32_t>>(value);
  options.shard = {.rank = rank, .count = count};
}

void SetExpectedGroups(StoreOptions& options, py::handle value) {
  options.prefetch.expected_groups_max = py::cast<std::uint64_t>(value);
}

void SetTokenMap(StoreOptions& options, py::handle value) {
  options.token_map = py::cast<std::shared_ptr<TokenMap>>(value);
}

const std::map<std::string, Setter, std::less<>>& Setters() {
  static const std::map<std::string, Setter, std::less<>> setters = {
      {"dram_budget_bytes", Set(&StoreOptions::dram_budget_bytes)},
      {"engine", SetEngine},
      {"io_thread_count", Set(&StoreOptions::io_thread_count)},
      {"queue_depth", Set(&StoreOptions::queue_depth)},
      {"read_block_bytes", Set(&StoreOptions::read_block_bytes)},
      {"disk_profile_path", SetDiskProfile},
      {"read_attempts_max", Set(&StoreOptions::read_attempts_max)},
      {"io_poll", Set(&StoreOptions::io_poll)},
      {"submission_poll", Set(&StoreOptions::submission_poll)},
      {"scales", SetScales},
      {"pages", SetPages},
      {"numa", SetNuma},
      {"numa_node", Set(&StoreOptions::memory, &MemoryOptions::numa_node)},
      {"shared_cache", Set(&StoreOptions::memory, &MemoryOptions::shared)},
      {"token_map", SetTokenMap},
      {"layers", Set(&StoreOptions::layer_ids)},
      {"shard", SetShard},
      {"expected_groups_max", SetExpectedGroups},
      {"updates", SetUpdates},
      {"state_path", SetStatePath},
      {"overlay_rows_max", Set(&StoreOptions::overlay_rows_max)},
      {"tickets_max", Set(&StoreOptions::prefetch, &PrefetchLimits::tickets_max)},
      {"prefetch_tokens_max", Set(&StoreOptions::prefetch, &PrefetchLimits::tokens_max)},
      {"staging_bytes", Set(&StoreOptions::prefetch, &PrefetchLimits::staging_bytes)},
      {"start_groups_max", Set(&StoreOptions::prefetch, &PrefetchLimits::start_groups_max)},
      {"background_depth", Set(&StoreOptions::prefetch, &PrefetchLimits::background_depth)},
  };
  return setters;
}

}  // namespace

StoreOptions ParseStoreOptions(const py::kwargs& keywords) {
  StoreOptions options;
  for (const auto& [key, value] : keywords) {
    const auto name = py::cast<std::string>(key);
    const auto setter = Setters().find(name);
    if (setter == Setters().end()) {
      throw py::type_error("Store() has no keyword argument '" + name + "'");
    }
    if (value.is_none()) continue;  // As if it was not given.
    try {
      setter->second(options, value);
    } catch (const py::cast_error&) {
      throw py::type_error("Store(): " + name + " is " + std::string(py::repr(value)) +
                           ", which is of a type or range that it does not take");
    }
  }
  return options;
}

}  // namespace tiercel::python
