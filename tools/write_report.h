#ifndef TIERCEL_TOOLS_WRITE_REPORT_H_
#define TIERCEL_TOOLS_WRITE_REPORT_H_

#include <cstdint>
#include <string>

namespace tiercel::tools {

/// "written in 9.7 s at 1.31 GB/s with O_DIRECT": how a verb that writes files says so.
[[nodiscard]] std::string FormatWritten(std::uint64_t bytes, double seconds, bool direct_io);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_WRITE_REPORT_H_
