#include "store/packed_manifest.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/byte_order.h"
#include "base/checksum.h"
#include "base/file.h"
#include "base/json.h"
#include "io/aligned_buffer.h"
#include "store/packed_page.h"

namespace tiercel {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kManifestFormat = "tiercel-packed";
constexpr std::uint64_t kManifestVersion = 1;
constexpr std::uint64_t kManifestSizeBytesMax = std::uint64_t{64} << 20;
constexpr std::string_view kRowFileMagic = "TRCLROW\n";
constexpr std::uint32_t kRowFileVersion = 1;
constexpr std::size_t kFileHeaderBytes = 72;
constexpr std::uint32_t kRowSizeBytesMax = 1U << 20;
constexpr std::string_view kChecksumKey = ",\n \"checksum\": \"";

std::string Hex(std::uint64_t value) {
  return fmt::format("{:016x}", value);
}

Json LayerJson(const PackedLayer& layer) {
  Json ranges = Json::array();
  for (const RowRange& range : layer.ranges) ranges.push_back({range.first, range.end});
  Json tensors = Json::array();
  for (const PackedTensor& tensor : layer.tensors) {
    tensors.push_back({{"part", tensor.part},
                       {"name", tensor.name},
                       {"first_row", tensor.first_row},
                       {"rows", tensor.row_count}});
  }
  return {{"layer", layer.layer_id},
          {"row_format", Name(layer.shape.format)},
          {"values", layer.shape.value_count},
          {"tensor_scale", layer.shape.tensor_scale},
          {"row_bytes", layer.shape.row_size_bytes()},
          {"rows", layer.row_count},
          {"ranges", std::move(ranges)},
          {"file", layer.file_name},
          {"file_bytes", layer.file_bytes()},
          {"rows_per_page", layer.pages.rows_per_page},
          {"page_bytes", layer.pages.page_size_bytes},
          {"tag", Hex(layer.pages.tag)},
          {"content_digest", Hex(layer.content_digest)},
          {"part_bytes", layer.part_size_bytes},
          {"tensors", std::move(tensors)}};
}

/// What makes a file's pages its own: recipe, generation, layer, shape, ranges.
std::uint64_t TagOf(const PackedManifest& manifest, const PackedLayer& layer) {
  std::string text = fmt::format("{}\ngeneration {}\nlayer {} {} {} {}\n", ToJson(manifest.recipe),
                                 manifest.generation, layer.layer_id, Name(layer.shape.format),
                                 layer.shape.value_count, layer.row_count);
  for (const RowRange& range : layer.ranges) text += fmt::format("{} {}\n", range.first, range.end);
  return Checksum64(std::as_bytes(std::span(text)));
}

/// Takes a manifest's JSON apart. Throws nlohmann's exceptions and Status on what is not
/// as it should be; DecodeManifest() catches both.
class ManifestReader {
 public:
  explicit ManifestReader(const nlohmann::json& top) : top_(top) {}

  PackedManifest Read() const {
    PackedManifest manifest;
    manifest.generation = Unsigned(top_, "generation", 1, ~std::uint64_t{0});
    manifest.source_layout = top_.at("source_layout").get<std::string>();
    if (top_.contains("synthetic_seed")) {
      manifest.synthetic_seed = Unsigned(top_, "synthetic_seed", 0, ~std::uint64_t{0});
    }
    Result<Recipe> recipe = ParseRecipe(top_.at("recipe").dump(), "recipe");
    if (!recipe.ok()) throw std::move(recipe).TakeStatus();
    manifest.recipe = std::move(recipe).value();
    manifest.shard.rank =
        static_cast<std::uint32_t>(Unsigned(top_.at("shard"), "rank", 0, UINT32_MAX));
    manifest.shard.count =
        static_cast<std::uint32_t>(Unsigned(top_.at("shard"), "count", 1, UINT32_MAX));
    if (Result<Recipe> shard = ShardRecipe(manifest.recipe, manifest.shard); !shard.ok()) {
      throw std::move(shard).TakeStatus();
    }
    if (top_.contains("token_map")) {
      const nlohmann::json& map = top_.at("token_map");
      manifest.token_map = PackedTokenMap{.entry_count = Unsigned(map, "entries", 1, UINT32_MAX),
                                          .checksum = HexOf(map, "checksum")};
    }
    const nlohmann::json& layers = top_.at("layers");
    if (!layers.is_array() || layers.size() != manifest.recipe.layers.size()) {
      throw Bad("\"layers\" are not those of the recipe");
    }
    for (std::size_t i = 0; i < layers.size(); ++i) {
      manifest.layers.push_back(
          ReadLayer(layers[i], manifest.recipe.layers[i], manifest.recipe.parameters.head_dim));
    }
    return manifest;
  }

  static Status Bad(std::string what) {
    return Status(StatusCode::kInvalidArgument, std::move(what));
  }

 private:
  static std::uint64_t Unsigned(const nlohmann::json& object, const char* key, std::uint64_t min,
                                std::uint64_t max) {
    const nlohmann::json& value = object.at(key);
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() < min ||
        value.get<std::uint64_t>() > max) {
      throw Bad(fmt::format("\"{}\" is not an integer in [{}, {}]", key, min, max));
    }
    return value.get<std::uint64_t>();
  }

  static std::uint64_t HexOf(const nlohmann::json& object, const char* key) {
    const auto text = object.at(key).get<std::string>();
    std::uint64_t value = 0;
    for (const char digit : text) {
      const auto at = std::string_view("0123456789abcdef").find(digit);
      if (at == std::string_view::npos) throw Bad(fmt::format("\"{}\" is not 16 hex digits", key));
      value = value << 4 | at;
    }
    if (text.size() != 16) throw Bad(fmt::format("\"{}\" is not 16 hex digits", key));
    return value;
  }

  static RowFormat FormatOf(const nlohmann::json& object) {
    const auto name = object.at("row_format").get<std::string>();
    for (int i = 0; i < 64; ++i) {
      const auto format = static_cast<RowFormat>(i);
      if (Name(format) == name && name != "unknown") return format;
    }
    throw Bad("\"row_format\" is none that this release knows: use a newer one");
  }

  static PackedLayer ReadLayer(const nlohmann::json& json, const LayerRecipe& recipe,
                               std::uint32_t head_dim) {
    PackedLayer layer;
    layer.layer_id = static_cast<std::uint32_t>(Unsigned(json, "layer", 0, UINT32_MAX));
    layer.shape.format = FormatOf(json);
    layer.shape.value_count = static_cast<std::uint32_t>(Unsigned(json, "values", 1, 65536));
    layer.shape.tensor_scale = json.at("tensor_scale").get<float>();
    layer.row_count = Unsigned(json, "rows", 1, std::uint64_t{1} << 48);
    const std::uint32_t row_bytes = layer.shape.row_size_bytes();
    if (row_bytes == 0 || row_bytes > kRowSizeBytesMax ||
        Unsigned(json, "row_bytes", 1, kRowSizeBytesMax) != row_bytes ||
        layer.layer_id != recipe.layer_id || layer.row_count != recipe.row_count ||
        layer.shape.value_count != head_dim ||
        layer.shape.value_count % BlockValueCount(layer.shape.format) != 0) {
      throw Bad(
          fmt::format("layer {}: its rows are not those of its recipe and format", layer.layer_id));
    }
    for (const nlohmann::json& pair : json.at("ranges")) {
      const RowRange range{pair.at(0).get<std::uint64_t>(), pair.at(1).get<std::uint64_t>()};
      const std::uint64_t after = layer.ranges.empty() ? 0 : layer.ranges.back().end;
      if (range.first >= range.end || range.first < after || range.end > layer.row_count) {
        throw Bad(fmt::format("layer {}: \"ranges\" are not rising within the table's rows",
                              layer.layer_id));
      }
      layer.ranges.push_back(range);
    }
    if (layer.ranges.empty()) throw Bad(fmt::format("layer {}: no \"ranges\"", layer.layer_id));
    layer.file_name = json.at("file").get<std::string>();
    layer.pages = PagesFor(row_bytes, HexOf(json, "tag"));
    if (Unsigned(json, "rows_per_page", 1, UINT32_MAX) != layer.pages.rows_per_page ||
        Unsigned(json, "page_bytes", 1, UINT32_MAX) != layer.pages.page_size_bytes ||
        Unsigned(json, "file_bytes", 1, ~std::uint64_t{0}) != layer.file_bytes()) {
      throw Bad(
          fmt::format("layer {}: pages are not what its rows' size makes them", layer.layer_id));
    }
    layer.content_digest = HexOf(json, "content_digest");
    ReadTensors(json, layer);
    return layer;
  }

  static void ReadTensors(const nlohmann::json& json, PackedLayer& layer) {
    layer.part_size_bytes = json.at("part_bytes").get<std::vector<std::uint32_t>>();
    std::uint64_t sum = 0;
    for (const std::uint32_t bytes : layer.part_size_bytes) sum += bytes;
    if (sum != layer.shape.row_size_bytes()) {
      throw Bad(fmt::format("layer {}: \"part_bytes\" are not a row's", layer.layer_id));
    }
    for (const nlohmann::json& tensor : json.at("tensors")) {
      layer.tensors.push_back({.part = static_cast<std::uint32_t>(
                                   Unsigned(tensor, "part", 0, layer.part_size_bytes.size() - 1)),
                               .name = tensor.at("name").get<std::string>(),
                               .first_row = Unsigned(tensor, "first_row", 0, layer.row_count - 1),
                               .row_count = Unsigned(tensor, "rows", 1, layer.row_count)});
    }
  }

  const nlohmann::json& top_;
};

/// The text before the checksum, if the checksum holds.
Result<std::string_view> CheckedText(std::string_view text, const std::string& source_name) {
  constexpr std::string_view kEnd = "\"}\n";
  constexpr std::size_t kTailBytes = kChecksumKey.size() + 16 + kEnd.size();
  const auto damaged = [&](std::string_view what) {
    return Status(StatusCode::kCorruption,
                  fmt::format("{}: {}: the manifest is damaged or was edited; take it from a copy "
                              "or pack again",
                              source_name, what));
  };
  if (text.size() < kTailBytes) return damaged("too short for a manifest");
  const std::string_view tail = text.substr(text.size() - kTailBytes);
  if (!tail.starts_with(kChecksumKey) || !tail.ends_with(kEnd)) {
    return damaged("does not end in its checksum");
  }
  const std::string_view body = text.substr(0, text.size() - kTailBytes);
  const std::string want = Hex(Checksum64(std::as_bytes(std::span(body))));
  if (tail.substr(kChecksumKey.size(), 16) != want) return damaged("its checksum does not hold");
  return body;
}

/// Opens the layer's file and compares size and header with the manifest.
Status CheckRowFile(const PackedManifest& manifest, const PackedLayer& layer,
                    const std::string& path) {
  Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
  if (!file.ok()) return std::move(file).TakeStatus();
  Result<std::uint64_t> size_bytes = FileSizeBytes(file.value(), path);
  if (!size_bytes.ok()) return std::move(size_bytes).TakeStatus();
  if (size_bytes.value() != layer.file_bytes()) {
    return Status(StatusCode::kCorruption,
                  fmt::format("{} has {} B, but its manifest says {}: cut short, or of another "
                              "generation; take it from a copy or pack again",
                              path, size_bytes.value(), layer.file_bytes()));
  }
  std::vector<std::byte> expected(layer.pages.page_size_bytes);
  std::vector<std::byte> found(layer.pages.page_size_bytes);
  EncodeFileHeader(manifest, layer, expected);
  if (Status status = ReadAt(file.value(), path, 0, found); !status.ok()) return status;
  if (found == expected) return {};
  const auto at = std::ranges::mismatch(found, expected).in1 - found.begin();
  if (std::memcmp(found.data(), kRowFileMagic.data(), kRowFileMagic.size()) == 0 &&
      LoadLittleEndian<std::uint32_t>(found.data() + 8) != kRowFileVersion) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} has version {}; this release reads {}", path,
                              LoadLittleEndian<std::uint32_t>(found.data() + 8), kRowFileVersion));
  }
  return Status(StatusCode::kCorruption,
                fmt::format("{}: the header differs from what the manifest says, from byte {} on: "
                            "damaged, or of another table; take it from a copy or pack again",
                            path, at));
}

/// The token map that lies beside the manifest.
Result<std::shared_ptr<const TokenMap>> ReadPackedTokenMap(const PackedTokenMap& packed,
                                                           const std::string& path) {
  const std::uint64_t size_bytes = packed.entry_count * sizeof(std::uint32_t);
  Result<std::string> bytes = ReadWholeFile(path, size_bytes);
  if (!bytes.ok()) return std::move(bytes).TakeStatus();
  if (bytes.value().size() != size_bytes ||
      Checksum64(std::as_bytes(std::span(bytes.value()))) != packed.checksum) {
    return Status(StatusCode::kCorruption,
                  fmt::format("{}: is not the token map that the manifest names: damaged or cut "
                              "short; take it from a copy or pack again",
                              path));
  }
  std::vector<std::uint32_t> classes(packed.entry_count);
  std::memcpy(classes.data(), bytes.value().data(), size_bytes);
  Result<TokenMap> map = TokenMap::FromClasses(std::move(classes));
  if (!map.ok()) return std::move(map).TakeStatus();
  return std::make_shared<const TokenMap>(std::move(map).value());
}

LayerTable TableOf(const PackedLayer& layer, std::uint32_t file_index) {
  LayerTable table;
  table.layer_id = layer.layer_id;
  table.shape = layer.shape;
  table.row_count = layer.row_count;
  RowPart part{.size_bytes = layer.shape.row_size_bytes(), .extents = {}, .pages = layer.pages};
  std::uint64_t page = 1;  // After the header's.
  for (const RowRange& range : layer.ranges) {
    part.extents.push_back({.file_index = file_index,
                            .offset_bytes = page * layer.pages.page_size_bytes,
                            .first_row = range.first,
                            .row_count = range.end - range.first,
                            .tensor = "packed rows"});
    page += (range.end - range.first + layer.pages.rows_per_page - 1) / layer.pages.rows_per_page;
  }
  table.parts.push_back(std::move(part));
  return table;
}

}  // namespace

std::string PackedDirectory(const std::string& path) {
  return path.ends_with(fmt::format("/{}", kManifestName))
             ? path.substr(0, path.size() - kManifestName.size() - 1)
             : path;
}

std::uint64_t PackedLayer::page_count() const noexcept {
  std::uint64_t count = 0;
  for (const RowRange& range : ranges) {
    count += (range.end - range.first + pages.rows_per_page - 1) / pages.rows_per_page;
  }
  return count;
}

std::uint64_t PackedLayer::packed_row_count() const noexcept {
  std::uint64_t count = 0;
  for (const RowRange& range : ranges) count += range.end - range.first;
  return count;
}

void SettlePages(PackedManifest& manifest) {
  for (PackedLayer& layer : manifest.layers) {
    layer.file_name = fmt::format("gen-{:06}/layer-{}.rows", manifest.generation, layer.layer_id);
    layer.pages = PagesFor(layer.shape.row_size_bytes(), TagOf(manifest, layer));
  }
}

std::string EncodeManifest(const PackedManifest& manifest) {
  Json json = {{"format", kManifestFormat},
               {"version", kManifestVersion},
               {"tool", "tiercel " TIERCEL_VERSION},
               {"generation", manifest.generation},
               {"source_layout", manifest.source_layout}};
  if (manifest.synthetic_seed) json["synthetic_seed"] = *manifest.synthetic_seed;
  json["recipe"] = Json::parse(ToJson(manifest.recipe));
  json["shard"] = {{"rank", manifest.shard.rank}, {"count", manifest.shard.count}};
  if (manifest.token_map) {
    json["token_map"] = {{"file", kPackedTokenMapName},
                         {"entries", manifest.token_map->entry_count},
                         {"checksum", Hex(manifest.token_map->checksum)}};
  }
  json["layers"] = Json::array();
  for (const PackedLayer& layer : manifest.layers) json["layers"].push_back(LayerJson(layer));
  std::string text = json.dump(1);
  text.resize(text.size() - 2);  // "\n}"
  const std::string checksum = Hex(Checksum64(std::as_bytes(std::span(text))));
  return fmt::format("{}{}{}\"}}\n", text, kChecksumKey, checksum);
}

Result<PackedManifest> DecodeManifest(std::string_view text, const std::string& source_name) {
  const Result<std::string_view> checked = CheckedText(text, source_name);
  // The version comes first: a newer manifest may end in something else.
  Result<nlohmann::json> json = ParseJson(text, source_name);
  if (json.ok() && json.value().is_object()) {
    const nlohmann::json& top = json.value();
    if (!top.contains("format") || top["format"] != kManifestFormat) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{}: is no packed table's manifest (\"format\" is not \"{}\")",
                                source_name, kManifestFormat));
    }
    if (checked.ok() && (!top.contains("version") || top["version"] != kManifestVersion)) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{}: has a version that this release does not read (it reads {}): "
                                "use a newer release",
                                source_name, kManifestVersion));
    }
  }
  if (!checked.ok())
    return Status(checked.status().code(), std::string(checked.status().message()));
  if (!json.ok()) return std::move(json).TakeStatus();
  try {
    PackedManifest manifest = ManifestReader(json.value()).Read();
    PackedManifest settled = manifest;
    SettlePages(settled);
    for (std::size_t i = 0; i < manifest.layers.size(); ++i) {
      if (manifest.layers[i].pages.tag != settled.layers[i].pages.tag ||
          manifest.layers[i].file_name != settled.layers[i].file_name) {
        throw ManifestReader::Bad(
            fmt::format("layer {}: \"tag\" or \"file\" is not what the rest "
                        "of the manifest makes it",
                        manifest.layers[i].layer_id));
      }
    }
    return manifest;
  } catch (const Status& status) {
    return Status(status.code(), fmt::format("{}: {}", source_name, status.message()));
  } catch (const nlohmann::json::exception& error) {
    return Status(StatusCode::kInvalidArgument, fmt::format("{}: {}", source_name, error.what()));
  }
}

void EncodeFileHeader(const PackedManifest& manifest, const PackedLayer& layer,
                      std::span<std::byte> page) noexcept {
  std::memset(page.data(), 0, page.size());
  std::byte* const bytes = page.data();
  std::memcpy(bytes, kRowFileMagic.data(), kRowFileMagic.size());
  StoreLittleEndian(bytes + 8, kRowFileVersion);
  StoreLittleEndian(bytes + 12, layer.pages.page_size_bytes);
  StoreLittleEndian(bytes + 16, layer.pages.tag);
  StoreLittleEndian(bytes + 24, manifest.generation);
  StoreLittleEndian(bytes + 32, layer.layer_id);
  StoreLittleEndian(bytes + 36, layer.shape.row_size_bytes());
  StoreLittleEndian(bytes + 40, layer.pages.rows_per_page);
  StoreLittleEndian(bytes + 48, layer.packed_row_count());
  StoreLittleEndian(bytes + 56, layer.page_count());
  StoreLittleEndian(bytes + 64, Checksum64(page.first(64)));
  static_assert(kFileHeaderBytes <= kPackedPageBytes);
}

bool IsPackedTable(const std::string& path) {
  if (path.ends_with(fmt::format("/{}", kManifestName))) return true;
  const auto has = [&path](std::string_view name) {
    struct stat info {};
    return stat(fmt::format("{}/{}", path, name).c_str(), &info) == 0;
  };
  // Somebody's checkpoint may have a manifest.json of another kind beside its config.
  return !has("config.json") && (has(kManifestName) || has(kPackStateName));
}

Result<PackedManifest> ReadManifest(const std::string& path) {
  const std::string directory = PackedDirectory(path);
  const std::string name = fmt::format("{}/{}", directory, kManifestName);
  Result<std::string> text = ReadWholeFile(name, kManifestSizeBytesMax);
  if (!text.ok()) {
    struct stat info {};
    if (text.status().code() == StatusCode::kNotFound &&
        stat(fmt::format("{}/{}", directory, kPackStateName).c_str(), &info) == 0) {
      return Status(StatusCode::kNotFound,
                    fmt::format("{} holds an unfinished pack: run `tiercel pack` with the same "
                                "arguments to finish it",
                                directory));
    }
    return std::move(text).TakeStatus();
  }
  return DecodeManifest(text.value(), name);
}

Result<CheckpointInfo> InspectPacked(const std::string& path) {
  Result<PackedManifest> manifest = ReadManifest(path);
  if (!manifest.ok()) return std::move(manifest).TakeStatus();
  const PackedManifest& packed = manifest.value();
  CheckpointInfo info;
  info.path = path;
  info.layout = "packed";
  info.recipe = packed.recipe;
  info.synthetic_seed = packed.synthetic_seed;
  info.packed = PackedInfo{.generation = packed.generation,
                           .shard = packed.shard,
                           .content_digests = {},
                           .source_layout = packed.source_layout};
  for (std::uint32_t i = 0; i < packed.layers.size(); ++i) {
    const PackedLayer& layer = packed.layers[i];
    const std::string file = fmt::format("{}/{}", PackedDirectory(path), layer.file_name);
    if (Status status = CheckRowFile(packed, layer, file); !status.ok()) return status;
    info.files.push_back({.path = file, .size_bytes = layer.file_bytes()});
    info.layers.push_back(TableOf(layer, i));
    info.packed->content_digests.push_back(layer.content_digest);
    info.table_bytes += layer.packed_row_count() * layer.shape.row_size_bytes();
  }
  if (packed.token_map) {
    Result<std::shared_ptr<const TokenMap>> map = ReadPackedTokenMap(
        *packed.token_map, fmt::format("{}/{}", PackedDirectory(path), kPackedTokenMapName));
    if (!map.ok()) return std::move(map).TakeStatus();
    info.token_map = std::move(map).value();
  }
  return info;
}

}  // namespace tiercel
