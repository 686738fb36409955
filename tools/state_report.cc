#include "tools/state_report.h"

#include <fmt/format.h>

#include "tools/command_line.h"

namespace tiercel::tools {

nlohmann::ordered_json StateJson(const StateInfo& info) {
  nlohmann::ordered_json json = {{"path", info.path},
                                 {"version", info.version},
                                 {"table_path", info.table_path},
                                 {"table_id", info.table_id},
                                 {"generation", info.generation},
                                 {"sequence", info.sequence},
                                 {"updated_rows", info.updated_rows},
                                 {"updated_bytes", info.updated_bytes},
                                 {"state_bytes", info.state_bytes},
                                 {"layers", nlohmann::ordered_json::array()}};
  for (const StateInfo::Layer& layer : info.layers) {
    json["layers"].push_back({{"layer", layer.layer_id},
                              {"rows", layer.row_count},
                              {"row_bytes", layer.row_size_bytes},
                              {"updated_rows", layer.updated_rows}});
  }
  return json;
}

std::string StateText(const StateInfo& info) {
  std::string text = fmt::format(
      "\nstate {}\n  holds        {} updated rows of {}, after {} batches; generation {}\n"
      "  takes        {}, version {}\n  made for     {} ({})\n",
      info.path, FormatCount(info.updated_rows),
      FormatBytes(static_cast<double>(info.updated_bytes)), FormatCount(info.sequence),
      info.generation, FormatBytes(static_cast<double>(info.state_bytes)), info.version,
      info.table_path, info.table_id);
  for (const StateInfo::Layer& layer : info.layers) {
    text += fmt::format("  layer {:<6} {} of {} rows updated, {}\n", layer.layer_id,
                        FormatCount(layer.updated_rows), FormatCount(layer.row_count),
                        FormatPercent(static_cast<double>(layer.updated_rows),
                                      static_cast<double>(layer.row_count)));
  }
  return text;
}

}  // namespace tiercel::tools
