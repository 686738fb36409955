#include "tools/hot_set_report.h"

#include <fmt/format.h>

#include "tools/command_line.h"

namespace tiercel::tools {

std::string FormatHotSet(const HotSetProgress& progress) {
  std::string text =
      fmt::format("{} of {} groups loaded in {}", FormatCount(progress.groups_loaded),
                  FormatCount(progress.group_count),
                  FormatSeconds(static_cast<double>(progress.elapsed_ns) * 1e-9));
  const auto add = [&text](std::uint64_t count, std::string_view what) {
    if (count > 0) text += fmt::format(", {} {}", FormatCount(count), what);
  };
  add(progress.groups_present, "there already");
  add(progress.groups_left_out, "left out");
  add(progress.groups_damaged, "DAMAGED");
  add(progress.groups_pinned, "pinned");
  return text;
}

nlohmann::ordered_json HotSetJson(const HotSetProgress& progress) {
  const double seconds = static_cast<double>(progress.elapsed_ns) * 1e-9;
  return {{"state", Name(progress.state)},
          {"groups", progress.group_count},
          {"groups_loaded", progress.groups_loaded},
          {"groups_present", progress.groups_present},
          {"groups_left_out", progress.groups_left_out},
          {"groups_damaged", progress.groups_damaged},
          {"blocks_damaged", progress.blocks_damaged},
          {"groups_pinned", progress.groups_pinned},
          {"read_bytes", progress.read_bytes},
          {"seconds", seconds},
          {"bytes_per_second", Ratio(static_cast<double>(progress.read_bytes), seconds)},
          {"message", progress.message}};
}

}  // namespace tiercel::tools
