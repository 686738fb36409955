// tiercel lookup: rows by id, through a store.

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "tiercel/row_format.h"
#include "tiercel/store.h"
#include "tools/command.h"
#include "tools/command_line.h"

namespace tiercel::tools {
namespace {

enum class RowText : std::uint8_t { kHex, kFloat, kRaw };

struct LookupFlags {
  std::string path;
  std::uint32_t layer_id = 0;
  std::string rows;
  std::string format = "hex";
  bool json = false;
  StoreFlags store;
};

/// Rows as they came from the store.
struct Found {
  std::vector<RowId> ids;
  RowShape shape;
  std::vector<std::byte> bytes;     ///< Shape [ids, row size].
  std::vector<RowStatus> statuses;  ///< Shape [ids].

  [[nodiscard]] std::span<const std::byte> Row(std::size_t i) const {
    const std::size_t size_bytes = shape.row_size_bytes();
    return std::span(bytes).subspan(i * size_bytes, size_bytes);
  }
};

RowText ParseRowText(const LookupFlags& flags) {
  if (flags.format == "hex") return RowText::kHex;
  if (flags.format == "float") return RowText::kFloat;
  if (flags.format != "raw") {
    throw CLI::ValidationError("--format",
                               fmt::format("'{}' is none of hex, float and raw", flags.format));
  }
  if (flags.json) throw CLI::ValidationError("--format", "raw bytes do not go into JSON");
  return RowText::kRaw;
}

std::string Hex(std::span<const std::byte> bytes) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<std::size_t>(byte >> 4)];
    text += kDigits[std::to_integer<std::size_t>(byte & std::byte{15})];
  }
  return text;
}

std::vector<float> Values(const RowShape& shape, std::span<const std::byte> row) {
  std::vector<float> values(shape.value_count);
  DequantizeToFloat(shape, row, values);
  return values;
}

void PrintRows(const Found& found, RowText text) {
  for (std::size_t i = 0; i < found.ids.size(); ++i) {
    const std::span<const std::byte> row = found.Row(i);
    if (text == RowText::kRaw) {
      Print({reinterpret_cast<const char*>(row.data()), row.size()});
      continue;
    }
    std::string line = fmt::format("{} ", Index(found.ids[i]));
    if (found.statuses[i] != RowStatus::kOk) {
      line += fmt::format(" {}", Name(found.statuses[i]));
    } else if (text == RowText::kHex) {
      line += fmt::format(" {}", Hex(row));
    } else {
      for (const float value : Values(found.shape, row)) line += fmt::format(" {}", value);
    }
    Print(line + "\n");
  }
}

void PrintJson(const LookupFlags& flags, const Found& found, RowText text,
               const StoreStats& stats) {
  nlohmann::ordered_json json;
  json["path"] = flags.path;
  json["layer"] = flags.layer_id;
  json["row_format"] = Name(found.shape.format);
  json["row_bytes"] = found.shape.row_size_bytes();
  json["rows"] = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < found.ids.size(); ++i) {
    nlohmann::ordered_json row = {{"row", Index(found.ids[i])},
                                  {"status", Name(found.statuses[i])}};
    if (found.statuses[i] == RowStatus::kOk) {
      if (text == RowText::kHex) {
        row["hex"] = Hex(found.Row(i));
      } else {
        row["values"] = Values(found.shape, found.Row(i));  // JSON has no NaN: null.
      }
    }
    json["rows"].push_back(std::move(row));
  }
  json["shard"] = FormatShard(stats.shard);
  json["engine"] = stats.engine;
  json["queue_depth"] = stats.queue_depth;
  json["read_block_bytes"] = stats.read_block_bytes;
  json["disk_profile"] = stats.disk_profile;
  Print(json.dump() + "\n");
}

Result<ExitCode> RunLookup(const LookupFlags& flags) {
  const RowText text = ParseRowText(flags);
  Found found;
  for (const std::uint64_t row : OrUsage("--rows", ParseRowList(flags.rows))) {
    found.ids.push_back(RowId{row});
  }
  StoreOptions options = flags.store.ToOptions("lookup");
  options.layer_ids = {flags.layer_id};
  Result<std::unique_ptr<Store>> store = Store::Open(flags.path, options);
  if (!store.ok()) return ErrorOf(store);
  for (const LayerTable& table : store.value()->checkpoint().layers) {
    if (table.layer_id == flags.layer_id) found.shape = table.shape;
  }
  found.bytes.resize(found.ids.size() * found.shape.row_size_bytes());
  found.statuses.resize(found.ids.size());
  const Status status = store.value()->LookupRows(
      found.ids, {.layer_id = flags.layer_id, .rows = found.bytes, .row_status = found.statuses});
  if (!status.ok() && status.code() != StatusCode::kPartial) {
    return Status(status.code(), std::string(status.message()), status.os_error());
  }
  if (flags.json) {
    PrintJson(flags, found, text, store.value()->Stats());
  } else {
    PrintRows(found, text);
  }
  bool all_ok = true;
  for (std::size_t i = 0; i < found.ids.size(); ++i) {
    all_ok = all_ok && found.statuses[i] == RowStatus::kOk;
    PrintError("lookup", fmt::format("row {}: {}", Index(found.ids[i]), Name(found.statuses[i])));
  }
  return all_ok ? ExitCode::kOk : ExitCode::kFindings;
}

}  // namespace

Command AddLookupCommand(CLI::App& program) {
  auto flags = std::make_shared<LookupFlags>();
  // Rows that are wanted once gain nothing from a cache or from resident scales.
  flags->store.dram = "64MiB";
  flags->store.scales = "disk";
  CLI::App* const app = program.add_subcommand("lookup", "Rows by id");
  app->add_option("PATH", flags->path, "Checkpoint directory")->required();
  app->add_option("--layer", flags->layer_id, "Block index of the table")
      ->type_name("L")
      ->required();
  app->add_option("--rows", flags->rows, "Row ids and ranges, such as 0,17,100-107")
      ->type_name("LIST")
      ->required();
  app->add_option("--format", flags->format,
                  "hex: stored bytes; float: values, dequantised; raw: stored bytes as they are")
      ->type_name("FORMAT")
      ->capture_default_str();
  app->add_flag("--json", flags->json, "Print the rows as JSON");
  flags->store.AddTo(*app);
  return {.app = app, .run = [flags] { return RunLookup(*flags); }};
}

}  // namespace tiercel::tools
