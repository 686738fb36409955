#include "store/compact.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/byte_order.h"
#include "base/file.h"
#include "base/prng.h"
#include "store/generation_lock.h"
#include "store/generation_writer.h"
#include "store/overlay.h"
#include "store/pack.h"
#include "store/state_catalogue.h"
#include "store/store_impl.h"

namespace tiercel {
namespace {

constexpr std::uint64_t kStoreBytes = std::uint64_t{128} << 20;
constexpr std::size_t kCompactSamples = 8;

/// What is folded: the table, open for updates so that nobody else can update it.
struct Folding {
  CheckpointInfo info;
  std::unique_ptr<Store> store;
  std::shared_ptr<const StateSnapshot> snapshot;
  std::uint64_t sequence = 0;
  std::uint64_t row_count = 0;

  [[nodiscard]] Store::Impl& impl() const noexcept { return StoreAccess::ImplOf(*store); }
  [[nodiscard]] StateDb& db() const noexcept { return impl().overlay->db(); }
};

Result<Folding> OpenForFolding(const CompactOptions& options) {
  Result<CheckpointInfo> info = InspectCheckpoint(options.table);
  if (!info.ok()) return std::move(info).TakeStatus();
  if (!info.value().packed && options.out_dir.empty()) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} is no packed table, so it has no next generation: give a "
                              "directory to pack it to with its updated rows",
                              options.table));
  }
  const std::string state_path =
      options.state_path.empty() ? DefaultStatePath(options.table) : options.state_path;
  Result<StateInfo> state = InspectState(state_path);
  if (!state.ok()) return std::move(state).TakeStatus();
  const std::uint64_t rows_max = state.value().updated_rows + 1;
  StoreOptions open;
  // Room for the store's own, the sidecar, and what it keeps of updated rows.
  open.dram_budget_bytes =
      kStoreBytes + info.value().table_bytes / 512 + 2 * Overlay::MemoryBytes(rows_max);
  open.overlay_rows_max = rows_max;
  open.scales = ScalePlacement::kDisk;
  open.updates = Updates::kReadWrite;
  open.state_path = state_path;
  open.log = [](std::string_view /*line*/) {};
  if (info.value().packed) open.shard = info.value().packed->shard;
  Folding folding{.info = std::move(info).value()};
  Result<std::unique_ptr<Store>> store = Store::Open(options.table, open);
  if (!store.ok()) return std::move(store).TakeStatus();
  folding.store = std::move(store).value();
  const Overlay::View view = folding.impl().overlay->CurrentView();
  folding.snapshot = view.snapshot;
  folding.sequence = view.sequence;
  return folding;
}

/// Counts the rows, and sees that each of them lies in the table: what it does not hold
/// would be lost.
Status CountRows(Folding& folding) {
  return folding.db().ForEachRow(*folding.snapshot, [&folding](const StateRow& row) -> Status {
    ++folding.row_count;
    const Result<std::uint32_t> layer = folding.impl().FindLayer(row.layer_id);
    if (layer.ok() && folding.impl().locator.Holds(layer.value(), row.row)) return {};
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("row {} of layer {} was updated, but {} does not hold it: compact "
                              "the table that does",
                              Index(row.row), row.layer_id, folding.info.path));
  });
}

PatchRows PatchOf(const Folding& folding) {
  return [&folding](std::uint32_t layer_index, std::uint64_t first_row,
                    std::span<std::byte> rows) -> Status {
    const LayerTable& table = folding.info.layers[layer_index];
    const std::size_t row_bytes = table.shape.row_size_bytes();
    const RowId end{first_row + rows.size() / row_bytes};
    return folding.db().ForEachRowOf(
        *folding.snapshot, table.layer_id, RowId{first_row}, end,
        [&](const StateRow& row) -> Status {
          if (row.bytes.size() != row_bytes) {
            return Status(StatusCode::kCorruption,
                          fmt::format("state {}: row {} of layer {} has {} B", folding.db().path(),
                                      Index(row.row), row.layer_id, row.bytes.size()));
          }
          std::memcpy(rows.data() + (Index(row.row) - first_row) * row_bytes, row.bytes.data(),
                      row_bytes);
          return {};
        });
  };
}

/// The state's catalogue with samples of rows that nobody updated: they are the same in the
/// old generation and in the new one, so that the state knows either.
Result<StateCatalogue> CatalogueForBoth(const Folding& folding) {
  Result<std::optional<StateCatalogue>> found = ReadCatalogue(folding.db());
  if (!found.ok()) return std::move(found).TakeStatus();
  StateCatalogue catalogue = found.value() ? std::move(*found.value()) : CatalogueOf(folding.info);
  std::vector<StateSample> wanted;
  Store::Impl& impl = folding.impl();
  for (std::uint32_t i = 0; i < impl.layout.layers.size(); ++i) {
    const ServedLayer& layer = impl.layout.layers[i];
    Prng prng(layer.layer_id + folding.sequence);
    // A table of which nearly every row was updated is known by fewer.
    for (std::size_t count = 0, tries = 0; count < kCompactSamples && tries < 1000; ++tries) {
      const RowId row{prng.Below(layer.row_count)};
      if (!impl.locator.Holds(i, row) || impl.overlay->MayHave(i, row)) continue;
      wanted.push_back({.layer_id = layer.layer_id, .row = row});
      ++count;
    }
  }
  catalogue.samples = ReadSamples(impl, wanted);
  return catalogue;
}

std::string Number(std::uint64_t value) {
  std::array<char, 8> bytes;
  StoreLittleEndian(bytes.data(), value);
  return {bytes.data(), bytes.size()};
}

/// Makes the written generation the table and empties the overlay. Each step leaves a table
/// that opens with the same rows: rows that are in both the new generation and the overlay
/// are equal.
Status Switch(const Folding& folding, const PackedManifest& manifest) {
  Result<StateCatalogue> catalogue = CatalogueForBoth(folding);
  if (!catalogue.ok()) return std::move(catalogue).TakeStatus();
  Status status =
      folding.db().PutEntry(kTableEntry, CatalogueToJson(catalogue.value(), folding.info));
  if (!status.ok()) return status;
  status = PublishManifest(folding.info.path, manifest);
  if (!status.ok()) return status;
  const Result<CheckpointInfo> now = InspectCheckpoint(folding.info.path);
  if (!now.ok()) return Status(now.status().code(), std::string(now.status().message()));
  const std::array<std::pair<std::string_view, std::string>, 2> entries = {
      {{kTableEntry, CatalogueToJson(catalogue.value(), now.value())},
       {kGenerationEntry, Number(manifest.generation)}}};
  return folding.db().DropRows(entries);
}

/// What an earlier call left, if it folded the same rows; else it is removed.
Result<GenerationProgress> TakeUp(const std::string& directory, const PackedManifest& manifest,
                                  std::uint64_t job_id) {
  Result<FoundProgress> found = ReadProgress(directory, job_id);
  if (!found.ok()) return std::move(found).TakeStatus();
  if (found.value().foreign) {
    std::error_code ignored;
    std::filesystem::remove_all(fmt::format("{}/gen-{:06}", directory, manifest.generation),
                                ignored);
  }
  return std::move(found.value().progress);
}

Result<CompactReport> FoldInPlace(const CompactOptions& options, Folding& folding,
                                  std::uint64_t sync_bytes) {
  const PackedInfo& packed = *folding.info.packed;
  CompactReport report{.folded_rows = folding.row_count, .generation = packed.generation};
  if (folding.row_count > 0) {
    Result<PackedManifest> manifest =
        ManifestFor(folding.info, {}, packed.shard, packed.generation + 1);
    if (!manifest.ok()) return std::move(manifest).TakeStatus();
    Result<std::uint64_t> job_id = PackJobId(folding.info, manifest.value(), folding.sequence);
    if (!job_id.ok()) return std::move(job_id).TakeStatus();
    Result<GenerationProgress> progress = TakeUp(options.table, manifest.value(), job_id.value());
    if (!progress.ok()) return std::move(progress).TakeStatus();
    Status status = CheckRoomFor(options.table, manifest.value());
    if (!status.ok()) return status;
    status = WriteFileAtomically(fmt::format("{}/{}", options.table, kPackStateName),
                                 progress.value().Encode());
    if (!status.ok()) return status;
    Result<GenerationReport> written = WriteGeneration({.source = folding.info,
                                                        .manifest = manifest.value(),
                                                        .directory = options.table,
                                                        .patch = PatchOf(folding),
                                                        .progress = options.progress,
                                                        .sync_bytes = sync_bytes},
                                                       progress.value());
    if (!written.ok()) return std::move(written).TakeStatus();
    if (status = Switch(folding, manifest.value()); !status.ok()) return status;
    report.generation = manifest.value().generation;
    report.bytes_written = written.value().bytes_written;
    report.resumed_bytes = written.value().resumed_bytes;
    report.direct_io = written.value().direct_io;
  }
  folding.snapshot.reset();
  folding.store.reset();  // It holds the old generation.
  const GenerationsRemoved old = RemoveOldGenerations(options.table, report.generation);
  report.generations_removed = old.removed;
  report.generations_in_use = old.in_use;
  return report;
}

/// A table of its own with the updated rows in it.
Result<CompactReport> FoldInto(const CompactOptions& options, const Folding& folding,
                               std::uint64_t sync_bytes) {
  Result<PackReport> packed = PackTableWith(
      {.source = options.table, .out_dir = options.out_dir, .progress = options.progress},
      {.sync_bytes = sync_bytes, .patch = PatchOf(folding), .patch_id = folding.sequence});
  if (!packed.ok()) return std::move(packed).TakeStatus();
  return CompactReport{.folded_rows = folding.row_count,
                       .generation = 1,
                       .bytes_written = packed.value().bytes_written,
                       .resumed_bytes = packed.value().resumed_bytes,
                       .direct_io = packed.value().direct_io};
}

}  // namespace

Result<CompactReport> CompactInPieces(const CompactOptions& wanted, std::uint64_t sync_bytes) {
  CompactOptions options = wanted;
  options.table = PackedDirectory(wanted.table);
  Result<Folding> opened = OpenForFolding(options);
  if (!opened.ok()) return std::move(opened).TakeStatus();
  Folding folding = std::move(opened).value();
  if (Status status = CountRows(folding); !status.ok()) return status;
  if (!options.out_dir.empty()) return FoldInto(options, folding, sync_bytes);
  Result<FileDescriptor> lock = LockDirectory(options.table);
  if (!lock.ok()) return std::move(lock).TakeStatus();
  return FoldInPlace(options, folding, sync_bytes);
}

Result<CompactReport> CompactTable(const CompactOptions& options) {
  return CompactInPieces(options, std::uint64_t{1} << 30);
}

}  // namespace tiercel
