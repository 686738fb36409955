#include "store/state_catalogue.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <stdexcept>
#include <utility>

#include "base/checksum.h"
#include "base/json.h"
#include "base/prng.h"
#include "tiercel/recipe.h"
#include "tiercel/row_format.h"

namespace tiercel {
namespace {

constexpr std::string_view kStateFormat = "tiercel-state";

/// Rows of a layer that are compared. Models of one family with other weights differ in
/// nearly every row; eight also stand for a few that happen to be zero.
constexpr std::uint64_t kSamplesPerLayer = 8;

std::string Hexadecimal(std::uint64_t value) {
  return fmt::format("{:016x}", value);
}

/// Throws std::invalid_argument.
std::uint64_t FromHexadecimal(const std::string& text) {
  std::uint64_t value = 0;
  for (const char c : text) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && !(c >= 'a' && c <= 'f')) throw std::invalid_argument(text);
    value = value * 16 + static_cast<std::uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  return value;
}

std::string AbsolutePath(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.string();
}

nlohmann::json LayerJson(const StateCatalogue::Layer& layer, const LayerTable& table) {
  nlohmann::json parts = nlohmann::json::array();
  for (const RowPart& part : table.parts) {
    nlohmann::json extents = nlohmann::json::array();
    for (const RowExtent& extent : part.extents) {
      extents.push_back({{"file", extent.file_index},
                         {"offset_bytes", extent.offset_bytes},
                         {"first_row", extent.first_row},
                         {"row_count", extent.row_count},
                         {"tensor", extent.tensor}});
    }
    parts.push_back({{"size_bytes", part.size_bytes}, {"extents", std::move(extents)}});
  }
  return {{"layer_id", layer.layer_id},       {"row_format", layer.row_format},
          {"value_count", layer.value_count}, {"row_size_bytes", layer.row_size_bytes},
          {"row_count", layer.row_count},     {"parts", std::move(parts)}};
}

/// Reads what CatalogueToJson() wrote; throws where it is something
/// else.
StateCatalogue Decode(const nlohmann::json& json) {
  StateCatalogue catalogue;
  catalogue.version = json.at("version").get<std::uint32_t>();
  if (catalogue.version != kStateVersion) return catalogue;
  catalogue.table_path = json.at("table_path").get<std::string>();
  catalogue.table_id = FromHexadecimal(json.at("table_id").get<std::string>());
  for (const nlohmann::json& layer : json.at("layers")) {
    catalogue.layers.push_back({.layer_id = layer.at("layer_id").get<std::uint32_t>(),
                                .row_format = layer.at("row_format").get<std::string>(),
                                .value_count = layer.at("value_count").get<std::uint32_t>(),
                                .row_size_bytes = layer.at("row_size_bytes").get<std::uint32_t>(),
                                .row_count = layer.at("row_count").get<std::uint64_t>()});
  }
  for (const nlohmann::json& sample : json.at("samples")) {
    catalogue.samples.push_back(
        {.layer_id = sample.at("layer_id").get<std::uint32_t>(),
         .row = RowId{sample.at("row").get<std::uint64_t>()},
         .checksum = FromHexadecimal(sample.at("checksum").get<std::string>())});
  }
  return catalogue;
}

}  // namespace

StateCatalogue CatalogueOf(const CheckpointInfo& checkpoint) {
  StateCatalogue catalogue;
  catalogue.table_path = AbsolutePath(checkpoint.path);
  std::string text = fmt::format("{}\n", ToJson(checkpoint.recipe));
  for (const LayerTable& table : checkpoint.layers) {
    catalogue.layers.push_back({.layer_id = table.layer_id,
                                .row_format = std::string(Name(table.shape.format)),
                                .value_count = table.shape.value_count,
                                .row_size_bytes = table.shape.row_size_bytes(),
                                .row_count = table.row_count});
  }
  catalogue.table_id = Checksum64(std::as_bytes(std::span(text)));
  return catalogue;
}

std::string CatalogueToJson(const StateCatalogue& catalogue, const CheckpointInfo& checkpoint) {
  nlohmann::json layers = nlohmann::json::array();
  for (const StateCatalogue::Layer& layer : catalogue.layers) {
    const auto table = std::ranges::find(checkpoint.layers, layer.layer_id, &LayerTable::layer_id);
    layers.push_back(LayerJson(layer, *table));
  }
  nlohmann::json files = nlohmann::json::array();
  for (const TableFile& file : checkpoint.files) {
    files.push_back({{"path", AbsolutePath(file.path)}, {"size_bytes", file.size_bytes}});
  }
  nlohmann::json samples = nlohmann::json::array();
  for (const StateSample& sample : catalogue.samples) {
    samples.push_back({{"layer_id", sample.layer_id},
                       {"row", Index(sample.row)},
                       {"checksum", Hexadecimal(sample.checksum)}});
  }
  const nlohmann::json json = {{"format", kStateFormat},
                               {"version", catalogue.version},
                               {"table_path", catalogue.table_path},
                               {"table_id", Hexadecimal(catalogue.table_id)},
                               {"layers", std::move(layers)},
                               {"files", std::move(files)},
                               {"samples", std::move(samples)}};
  return json.dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

Result<StateCatalogue> CatalogueFromJson(std::string_view json, const std::string& state_path) {
  const std::string source = fmt::format("the catalogue of state {}", state_path);
  Result<nlohmann::json> parsed = ParseJson(json, source);
  if (!parsed.ok()) return Status(StatusCode::kCorruption, std::string(parsed.status().message()));
  try {
    if (parsed.value().at("format").get<std::string>() == kStateFormat) {
      StateCatalogue catalogue = Decode(parsed.value());
      if (catalogue.version == kStateVersion) return catalogue;
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{} is of version {}, but this library reads version {}: use a "
                                "newer one",
                                source, catalogue.version, kStateVersion));
    }
  } catch (const std::exception& error) {
    return Status(StatusCode::kCorruption, fmt::format("{}: {}", source, error.what()));
  }
  return Status(StatusCode::kCorruption,
                fmt::format("{} is not of format '{}'", source, kStateFormat));
}

Status CheckCatalogue(const StateCatalogue& found, const StateCatalogue& wanted,
                      const std::string& state_path) {
  const auto foreign = [&](const std::string& what) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("state {} belongs to another table, {}, than {}: {}; name the state "
                              "of this one, or a new directory",
                              state_path, found.table_path, wanted.table_path, what));
  };
  if (found.table_id != wanted.table_id) {
    return foreign(fmt::format("their hash recipes differ ({:016x}, here {:016x})", found.table_id,
                               wanted.table_id));
  }
  for (const StateCatalogue::Layer& layer : wanted.layers) {
    const auto same =
        std::ranges::find(found.layers, layer.layer_id, &StateCatalogue::Layer::layer_id);
    if (same == found.layers.end())
      return foreign(fmt::format("it has no layer {}", layer.layer_id));
    if (same->row_format != layer.row_format || same->value_count != layer.value_count ||
        same->row_size_bytes != layer.row_size_bytes || same->row_count != layer.row_count) {
      return foreign(fmt::format("layer {} has {} rows of {} x {}, here {} rows of {} x {}",
                                 layer.layer_id, same->row_count, same->value_count,
                                 same->row_format, layer.row_count, layer.value_count,
                                 layer.row_format));
    }
  }
  return {};
}

std::vector<StateSample> RowsToSample(std::uint32_t layer_id, std::uint64_t row_count) {
  std::vector<StateSample> samples;
  Prng prng(layer_id);
  for (std::uint64_t i = 0; i < std::min(kSamplesPerLayer, row_count); ++i) {
    samples.push_back({.layer_id = layer_id, .row = RowId{prng.Below(row_count)}});
  }
  return samples;
}

Result<std::optional<StateCatalogue>> ReadCatalogue(StateDb& db) {
  Result<std::optional<std::string>> entry = db.GetEntry(kTableEntry);
  if (!entry.ok()) return std::move(entry).TakeStatus();
  if (entry.value().has_value()) {
    Result<StateCatalogue> catalogue = CatalogueFromJson(*entry.value(), db.path());
    if (!catalogue.ok()) return std::move(catalogue).TakeStatus();
    return std::optional<StateCatalogue>(std::move(catalogue).value());
  }
  Result<bool> empty = db.IsEmpty();
  if (!empty.ok()) return std::move(empty).TakeStatus();
  // One whose maker ended before it was noted whose it is.
  if (empty.value()) return std::optional<StateCatalogue>();
  return Status(
      StatusCode::kInvalidArgument,
      fmt::format("{} is a RocksDB database, but no state: name a new directory", db.path()));
}

}  // namespace tiercel
