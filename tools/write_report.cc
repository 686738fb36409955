#include "tools/write_report.h"

#include <fmt/format.h>

#include "tools/command_line.h"

namespace tiercel::tools {

std::string FormatWritten(std::uint64_t bytes, double seconds, bool direct_io) {
  return fmt::format(
      "written in {} at {}/s {}\n", FormatSeconds(seconds),
      FormatBytes(Ratio(static_cast<double>(bytes), seconds)),
      direct_io ? "with O_DIRECT" : "through the page cache: the file system has no O_DIRECT");
}

}  // namespace tiercel::tools
