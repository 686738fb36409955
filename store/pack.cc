#include "store/pack.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <system_error>
#include <utility>

#include "base/checksum.h"
#include "base/errno_status.h"
#include "store/checksum_sidecar.h"
#include "store/generation_writer.h"
#include "store/hot_set_file.h"

namespace tiercel {
namespace {

constexpr std::uint64_t kStateSizeBytesMax = std::uint64_t{1} << 20;
constexpr std::uint64_t kPackSpareBytes = std::uint64_t{16} << 20;

/// The recipe of some of its layers.
Result<Recipe> RecipeOfLayers(const Recipe& recipe, const std::vector<std::uint32_t>& layer_ids,
                              const std::string& path) {
  for (const std::uint32_t layer_id : layer_ids) {
    if (!recipe.FindLayer(layer_id)) {
      return Status(StatusCode::kNotFound,
                    fmt::format("{}: layer {} has no Engram table", path, layer_id));
    }
  }
  Recipe some = recipe;
  if (layer_ids.empty()) return some;
  const auto unwanted = [&layer_ids](std::uint32_t layer_id) {
    return std::ranges::find(layer_ids, layer_id) == layer_ids.end();
  };
  std::erase_if(some.layers, [&](const LayerRecipe& layer) { return unwanted(layer.layer_id); });
  std::erase_if(some.parameters.layer_ids, unwanted);
  return some;
}

/// What `unpack` makes again: the tensors that the source's rows lie in.
void TakeTensors(const LayerTable& table, PackedLayer& layer) {
  for (std::uint32_t part = 0; part < table.parts.size(); ++part) {
    layer.part_size_bytes.push_back(table.parts[part].size_bytes);
    for (const RowExtent& extent : table.parts[part].extents) {
      layer.tensors.push_back({part, extent.tensor, extent.first_row, extent.row_count});
    }
  }
}

bool HoldsAll(const LayerTable& table, const std::vector<RowRange>& ranges) {
  return std::ranges::all_of(ranges, [&table](const RowRange& range) {
    std::uint64_t row = range.first;
    for (const RowExtent& extent : table.parts[0].extents) {
      if (row - extent.first_row < extent.row_count) row = extent.first_row + extent.row_count;
    }
    return row >= range.end;
  });
}

/// Removes halves of small files that a kill left. REQUIRES: the directory's lock.
void RemoveLeftovers(const std::string& directory) {
  std::vector<std::filesystem::path> leftovers;
  std::error_code error;
  for (std::filesystem::directory_iterator at(directory, error);
       !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name.starts_with(fmt::format("{}.tmp.", kPackStateName)) ||
        name.starts_with(fmt::format("{}.tmp.", kManifestName))) {
      leftovers.push_back(at->path());
    }
  }
  for (const std::filesystem::path& path : leftovers) std::filesystem::remove(path, error);
}

/// Looks at what an earlier call left in the directory.
Result<GenerationProgress> OpenOutDir(const std::string& directory, std::uint64_t job_id) {
  const auto exists = [](const std::string& path) {
    struct stat info {};
    return stat(path.c_str(), &info) == 0;
  };
  if (exists(fmt::format("{}/{}", directory, kManifestName))) {
    return Status(
        StatusCode::kAlreadyExists,
        fmt::format("{} is a packed table already; choose another path or remove it", directory));
  }
  // A kill may have left half of the first small file, and nothing else.
  RemoveLeftovers(directory);
  const bool unfinished = exists(fmt::format("{}/{}", directory, kPackStateName));
  std::error_code error;
  if (!unfinished && (!std::filesystem::is_empty(directory, error) || error)) {
    return Status(
        StatusCode::kAlreadyExists,
        fmt::format("{} is there and not empty; choose another path or remove it", directory));
  }
  Result<FoundProgress> found = ReadProgress(directory, job_id);
  if (!found.ok()) return std::move(found).TakeStatus();
  if (!found.value().foreign) return std::move(found.value().progress);
  return Status(StatusCode::kInvalidArgument,
                fmt::format("{} holds an unfinished pack of another source, of other options, or "
                            "of files that have changed since: give the same ones, or remove it",
                            directory));
}

PackReport ReportOf(const PackedManifest& manifest, const GenerationReport& generation) {
  PackReport report;
  report.file_count = manifest.layers.size() + (manifest.token_map ? 2U : 1U);
  for (const PackedLayer& layer : manifest.layers) {
    report.row_count += layer.packed_row_count();
    report.file_bytes += layer.file_bytes();
  }
  report.bytes_written = generation.bytes_written;
  report.resumed_bytes = generation.resumed_bytes;
  report.direct_io = generation.direct_io;
  return report;
}

}  // namespace

Result<PackedManifest> ManifestFor(const CheckpointInfo& source,
                                   const std::vector<std::uint32_t>& layer_ids, HeadShard shard,
                                   std::uint64_t generation) {
  Result<Recipe> recipe = RecipeOfLayers(source.recipe, layer_ids, source.path);
  if (!recipe.ok()) return std::move(recipe).TakeStatus();
  PackedManifest manifest;
  manifest.generation = generation;
  manifest.source_layout = source.packed ? source.packed->source_layout : source.layout;
  manifest.synthetic_seed = source.synthetic_seed;
  manifest.recipe = std::move(recipe).value();
  if (source.token_map != nullptr) {
    manifest.token_map =
        PackedTokenMap{.entry_count = source.token_map->entry_count(),
                       .checksum = Checksum64(std::as_bytes(source.token_map->classes()))};
  }
  manifest.shard = shard;
  Result<Recipe> of_shard = ShardRecipe(manifest.recipe, shard);
  if (!of_shard.ok()) return std::move(of_shard).TakeStatus();
  std::optional<PackedManifest> packed_source;
  if (source.packed) {
    Result<PackedManifest> read = ReadManifest(source.path);
    if (!read.ok()) return read;
    packed_source = std::move(read).value();
  }
  for (std::uint32_t i = 0; i < manifest.recipe.layers.size(); ++i) {
    const std::uint32_t layer_id = manifest.recipe.layers[i].layer_id;
    const std::uint32_t source_index = *source.recipe.FindLayer(layer_id);
    const LayerTable& table = source.layers[source_index];
    PackedLayer& layer = manifest.layers.emplace_back();
    layer.layer_id = layer_id;
    layer.shape = table.shape;
    layer.row_count = table.row_count;
    layer.ranges = RowsInReach(of_shard.value(), i);
    if (packed_source) {
      layer.part_size_bytes = packed_source->layers[source_index].part_size_bytes;
      layer.tensors = packed_source->layers[source_index].tensors;
    } else {
      TakeTensors(table, layer);
    }
    if (!HoldsAll(table, layer.ranges)) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{}: layer {} has not all rows of shard {}/{}: it holds those of "
                                "another",
                                source.path, layer_id, shard.rank, shard.count));
    }
  }
  SettlePages(manifest);
  return manifest;
}

Status CheckRoomFor(const std::string& directory, const PackedManifest& manifest) {
  std::uint64_t need_bytes = kPackSpareBytes;
  for (const PackedLayer& layer : manifest.layers) {
    struct stat info {};
    const std::string path = fmt::format("{}/{}", directory, layer.file_name);
    const bool there = stat(path.c_str(), &info) == 0;
    const auto has_bytes = there ? static_cast<std::uint64_t>(info.st_blocks) * 512 : 0;
    need_bytes += layer.file_bytes() - std::min(layer.file_bytes(), has_bytes);
  }
  struct statvfs info {};
  if (statvfs(directory.c_str(), &info) != 0) {
    return ErrnoStatus(errno, fmt::format("free space of {}", directory));
  }
  if (info.f_blocks == 0) return {};  // The file system does not count.
  const std::uint64_t free_bytes = std::uint64_t{info.f_bavail} * info.f_frsize;
  if (free_bytes >= need_bytes) return {};
  return Status(StatusCode::kResourceExhausted,
                fmt::format("writing into {} takes {} B more, but {} B are free: free some",
                            directory, need_bytes, free_bytes));
}

Result<std::uint64_t> PackJobId(const CheckpointInfo& source, const PackedManifest& manifest,
                                std::uint64_t patch_id) {
  Result<TableIdentity> identity = IdentityOf(source);
  if (!identity.ok()) return std::move(identity).TakeStatus();
  const std::string text = fmt::format("{}{:016x}", EncodeManifest(manifest), patch_id);
  return Checksum64(std::as_bytes(std::span(text)), identity.value().content_id);
}

Result<FoundProgress> ReadProgress(const std::string& directory, std::uint64_t job_id) {
  RemoveLeftovers(directory);
  const GenerationProgress fresh{.job_id = job_id, .digests = {}};
  const std::string path = fmt::format("{}/{}", directory, kPackStateName);
  Result<std::string> text = ReadWholeFile(path, kStateSizeBytesMax);
  if (!text.ok()) {
    if (text.status().code() == StatusCode::kNotFound) return FoundProgress{.progress = fresh};
    return std::move(text).TakeStatus();
  }
  Result<GenerationProgress> progress = GenerationProgress::Decode(text.value(), path);
  if (!progress.ok()) return std::move(progress).TakeStatus();
  if (progress.value().job_id != job_id) return FoundProgress{.progress = fresh, .foreign = true};
  return FoundProgress{.progress = std::move(progress).value()};
}

Result<FileDescriptor> LockDirectory(const std::string& directory) {
  Result<FileDescriptor> lock = OpenFile(directory, O_RDONLY | O_DIRECTORY);
  if (!lock.ok()) return lock;
  if (flock(lock.value().get(), LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return lock;
  return Status(StatusCode::kUnavailable,
                fmt::format("another process writes to {}: wait for it to end", directory));
}

Status PublishManifest(const std::string& directory, const PackedManifest& manifest) {
  if (Status status = SyncDirectory(directory); !status.ok()) return status;
  Status status =
      WriteFileAtomically(fmt::format("{}/{}", directory, kManifestName), EncodeManifest(manifest));
  if (!status.ok()) return status;
  unlink(fmt::format("{}/{}", directory, kPackStateName).c_str());  // Harmless if it stays.
  return {};
}

Result<PackReport> PackTableWith(const PackOptions& options, const PackExtras& extras) {
  Result<CheckpointInfo> inspected = InspectCheckpoint(options.source);
  if (!inspected.ok()) return std::move(inspected).TakeStatus();
  const CheckpointInfo& source = inspected.value();
  const HeadShard shard =
      source.packed && options.shard == HeadShard{} ? source.packed->shard : options.shard;
  Result<std::optional<ChecksumSidecar>> sums =
      ChecksumSidecar::Find(source, options.checksums, options.checksums_path);
  if (!sums.ok()) return std::move(sums).TakeStatus();
  Result<PackedManifest> manifest = ManifestFor(source, options.layer_ids, shard, 1);
  if (!manifest.ok()) return std::move(manifest).TakeStatus();
  Result<std::uint64_t> job_id = PackJobId(source, manifest.value(), extras.patch_id);
  if (!job_id.ok()) return std::move(job_id).TakeStatus();

  if (options.out_dir.empty()) {
    return Status(StatusCode::kInvalidArgument, "out_dir is empty: name the directory to pack to");
  }
  if (mkdir(options.out_dir.c_str(), 0777) != 0 && errno != EEXIST) {
    return ErrnoStatus(errno, fmt::format("make {}", options.out_dir));
  }
  Result<FileDescriptor> lock = LockDirectory(options.out_dir);
  if (!lock.ok()) return std::move(lock).TakeStatus();
  Result<GenerationProgress> progress = OpenOutDir(options.out_dir, job_id.value());
  if (!progress.ok()) return std::move(progress).TakeStatus();
  if (Status status = CheckRoomFor(options.out_dir, manifest.value()); !status.ok()) return status;
  Status status = WriteFileAtomically(fmt::format("{}/{}", options.out_dir, kPackStateName),
                                      progress.value().Encode());
  if (!status.ok()) return status;
  const GenerationJob job{.source = source,
                          .sums = sums.value() ? &*sums.value() : nullptr,
                          .manifest = manifest.value(),
                          .directory = options.out_dir,
                          .patch = extras.patch,
                          .progress = options.progress,
                          .sync_bytes = extras.sync_bytes};
  Result<GenerationReport> written = WriteGeneration(job, progress.value());
  if (!written.ok()) return std::move(written).TakeStatus();
  if (source.token_map != nullptr) {
    status = source.token_map->Save(fmt::format("{}/{}", options.out_dir, kPackedTokenMapName));
    if (!status.ok()) return status;
  }
  status = PublishManifest(options.out_dir, manifest.value());
  if (!status.ok()) return status;
  return ReportOf(manifest.value(), written.value());
}

Result<PackReport> PackTable(const PackOptions& options) {
  return PackTableWith(options, {.patch = {}});
}

}  // namespace tiercel
