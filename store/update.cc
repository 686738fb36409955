// The store's half of updated rows: opening a state, and Store::Update().

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <new>
#include <utility>
#include <vector>

#include "base/checksum.h"
#include "store/store_impl.h"

namespace tiercel {
namespace {

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

/// Of the budget, what updated rows get unless told otherwise, and what RocksDB does: a cache
/// of blocks, and two write buffers.
constexpr std::uint64_t kRowsShare = 64;
constexpr std::uint64_t kBlocksShare = 64;
constexpr std::uint64_t kBuffersShare = 128;

struct StateMemory {
  std::uint64_t row_count_max = 0;
  std::uint64_t cache_bytes = 0;
  std::uint64_t write_buffer_bytes = 0;

  [[nodiscard]] std::uint64_t total_bytes() const noexcept {
    return Overlay::MemoryBytes(row_count_max) + cache_bytes + 2 * write_buffer_bytes;
  }
};

StateMemory PlanState(const StoreOptions& options) {
  const std::uint64_t budget_bytes = options.dram_budget_bytes;
  StateMemory memory;
  memory.row_count_max = options.overlay_rows_max > 0
                             ? options.overlay_rows_max
                             : OverlaidRows::RowsThatFit(budget_bytes / kRowsShare);
  memory.cache_bytes = std::clamp<std::uint64_t>(budget_bytes / kBlocksShare, kMiB / 4, 64 * kMiB);
  memory.write_buffer_bytes =
      std::clamp<std::uint64_t>(budget_bytes / kBuffersShare, kMiB / 8, 16 * kMiB);
  return memory;
}

Status NoMemoryForState() {
  return Status(StatusCode::kResourceExhausted, "no memory for updated rows");
}

Status NotUpdatable(const std::string& path) {
  return Status(StatusCode::kUnavailable,
                fmt::format("{} is open without a state, so its rows cannot be updated: open it "
                            "with StoreOptions::updates = Updates::kReadWrite",
                            path));
}

}  // namespace

Status OpenOverlay(Store::Impl& impl, const StoreOptions& options, const StateCatalogue& catalogue,
                   const std::function<void(std::string_view)>& log) {
  if (options.updates == Updates::kOff) return {};
  const std::string path =
      options.state_path.empty() ? DefaultStatePath(impl.checkpoint.path) : options.state_path;
  const bool writable = options.updates == Updates::kReadWrite;
  if (options.updates == Updates::kAuto && !StateDb::Exists(path)) return {};
  const StateMemory memory = PlanState(options);
  Result<std::unique_ptr<StateDb>> db =
      StateDb::Open({.path = path,
                     .writable = writable,
                     .cache_bytes = memory.cache_bytes,
                     .write_buffer_bytes = memory.write_buffer_bytes});
  if (!db.ok()) return std::move(db).TakeStatus();
  Result<std::optional<StateCatalogue>> found = ReadCatalogue(*db.value());
  if (!found.ok()) return std::move(found).TakeStatus();
  if (found.value().has_value()) {
    if (Status status = CheckCatalogue(*found.value(), catalogue, path); !status.ok())
      return status;
  }
  impl.overlay = std::make_unique<Overlay>(
      Overlay::Context{
          .layout = impl.layout, .recipe = impl.checkpoint.recipe, .hasher = impl.hasher},
      std::move(db).value(), writable, memory.row_count_max);
  impl.plan.overlay_bytes = memory.total_bytes();
  return impl.overlay->Load(log);
}

std::vector<StateSample> ReadSamples(Store::Impl& impl, const std::vector<StateSample>& wanted) {
  std::vector<StateSample> samples;
  for (const StateSample& sample : wanted) {
    const Result<std::uint32_t> layer_index = impl.FindLayer(sample.layer_id);
    if (!layer_index.ok()) continue;
    const ServedLayer& layer = impl.layout.layers[layer_index.value()];
    if (Index(sample.row) >= layer.row_count ||
        !impl.locator.Holds(layer_index.value(), sample.row)) {
      continue;
    }
    std::vector<std::byte> bytes(layer.row_size_bytes);
    RowStatus row_status = RowStatus::kOk;
    const Store::Impl::BaseRow row = {.row = sample.row, .row_index = 0};
    impl.LookupBase({&row, 1},
                    {.layer_index = layer_index.value(),
                     .rows = bytes.data(),
                     .row_status = &row_status,
                     .output_row_size_bytes = layer.row_size_bytes,
                     .row_stride_bytes = layer.row_size_bytes},
                    RowOutput::kStored);
    if (row_status != RowStatus::kOk) continue;
    samples.push_back(
        {.layer_id = sample.layer_id, .row = sample.row, .checksum = Checksum64(bytes)});
  }
  return samples;
}

Status CheckOverlay(Store::Impl& impl, StateCatalogue catalogue) {
  if (impl.overlay == nullptr) return {};
  StateDb& db = impl.overlay->db();
  Result<std::optional<StateCatalogue>> found = ReadCatalogue(db);
  if (!found.ok()) return std::move(found).TakeStatus();
  if (!found.value().has_value()) {
    if (!impl.overlay->Stats().writable) return {};
    for (const ServedLayer& layer : impl.layout.layers) {
      const std::vector<StateSample> wanted = RowsToSample(layer.layer_id, layer.row_count);
      catalogue.samples.insert(catalogue.samples.end(), wanted.begin(), wanted.end());
    }
    catalogue.samples = ReadSamples(impl, catalogue.samples);
    return db.PutEntry(kTableEntry, CatalogueToJson(catalogue, impl.checkpoint));
  }
  std::map<std::pair<std::uint32_t, RowId>, std::uint64_t> noted;
  for (const StateSample& sample : found.value()->samples) {
    noted[{sample.layer_id, sample.row}] = sample.checksum;
  }
  for (const StateSample& sample : ReadSamples(impl, found.value()->samples)) {
    if (noted[{sample.layer_id, sample.row}] == sample.checksum) continue;
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("state {} belongs to another table, {}, than {}: row {} of layer {} "
                              "has other bytes; name the state of this one, or a new directory",
                              db.path(), found.value()->table_path, impl.checkpoint.path,
                              Index(sample.row), sample.layer_id));
  }
  return {};
}

Status Store::Update(std::span<const RowUpdate> rows) {
  if (impl_->overlay == nullptr) return NotUpdatable(impl_->checkpoint.path);
  try {
    return impl_->overlay->Update(rows);
  } catch (const std::bad_alloc&) {
    return NoMemoryForState();
  }
}

Status Store::AddUpdateObserver(UpdateObserver& observer) {
  return impl_->overlay == nullptr ? Status() : impl_->overlay->AddObserver(observer);
}

void Store::RemoveUpdateObserver(UpdateObserver& observer) noexcept {
  if (impl_->overlay != nullptr) impl_->overlay->RemoveObserver(observer);
}

namespace {

Result<StateInfo> ReadState(const std::string& path) {
  Result<std::unique_ptr<StateDb>> opened = StateDb::Open({.path = path});
  if (!opened.ok()) return std::move(opened).TakeStatus();
  StateDb& db = *opened.value();
  StateInfo info{.path = path};
  Result<std::optional<StateCatalogue>> found = ReadCatalogue(db);
  if (!found.ok()) return std::move(found).TakeStatus();
  if (!found.value().has_value()) return info;
  info.version = found.value()->version;
  info.table_path = found.value()->table_path;
  info.table_id = fmt::format("{:016x}", found.value()->table_id);
  info.state_bytes = db.SizeBytes();
  std::map<std::uint32_t, std::size_t> index_of;
  for (const StateCatalogue::Layer& layer : found.value()->layers) {
    index_of[layer.layer_id] = info.layers.size();
    info.layers.push_back({.layer_id = layer.layer_id,
                           .row_count = layer.row_count,
                           .row_size_bytes = layer.row_size_bytes});
  }
  for (const auto& [name, field] :
       {std::pair(kSequenceEntry, &info.sequence), std::pair(kGenerationEntry, &info.generation)}) {
    const Result<std::uint64_t> number = db.GetNumber(name);
    if (!number.ok()) {
      return Status(number.status().code(), std::string(number.status().message()));
    }
    *field = number.value();
  }
  Status status = db.ForEachRow(*db.TakeSnapshot(), [&](const StateRow& row) -> Status {
    const auto index = index_of.find(row.layer_id);
    if (index != index_of.end()) ++info.layers[index->second].updated_rows;
    ++info.updated_rows;
    info.updated_bytes += row.bytes.size();
    return {};
  });
  if (!status.ok()) return status;
  return info;
}

}  // namespace

Result<StateInfo> InspectState(const std::string& path) {
  try {
    return ReadState(path);
  } catch (const std::bad_alloc&) {
    return NoMemoryForState();
  }
}

}  // namespace tiercel
