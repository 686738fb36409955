#ifndef TIERCEL_TOOLS_COMMAND_LINE_H_
#define TIERCEL_TOOLS_COMMAND_LINE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/status.h"
#include "tiercel/store.h"

namespace tiercel::tools {

/// What the program tells its caller.
enum class ExitCode : int {
  kOk = 0,
  kFindings = 1,  ///< It ran to the end, and found rows that are wrong or unreadable.
  kUsage = 2,     ///< The command line makes no sense; nothing was done.
  kFailure = 3,   ///< It could not do what it was asked.
};

/// Reads a size: "4096", "256MiB", "12.7GB", "1 GiB". Units: B; KB, MB, GB, TB
/// (powers of 1000); KiB, MiB, GiB, TiB, or K, M, G, T alone (powers of 1024);
/// letters of either case. A fraction has at most six digits and needs a unit; it
/// is rounded down to a whole byte.
///
/// Errors: kInvalidArgument (not a size, or 2^64 bytes and more).
[[nodiscard]] Result<std::uint64_t> ParseByteSize(std::string_view text);

/// "auto", "uring" or "pread". Errors: kInvalidArgument.
[[nodiscard]] Result<Engine> ParseEngine(std::string_view text);

/// "auto", "resident" or "disk". Errors: kInvalidArgument.
[[nodiscard]] Result<ScalePlacement> ParseScalePlacement(std::string_view text);

/// "1/4": the heads of rank 1 of 4. Errors: kInvalidArgument (not two numbers, no ranks, a
/// rank that is not below their count).
[[nodiscard]] Result<HeadShard> ParseShard(std::string_view text);

/// Row ids as a list of numbers and closed ranges: "0,17,100-107".
///
/// Errors: kInvalidArgument (not a list, a range that runs backwards, more than
/// 1,048,576 ids: they are all held in memory).
[[nodiscard]] Result<std::vector<std::uint64_t>> ParseRowList(std::string_view text);

// For people: three or four digits and a unit.
[[nodiscard]] std::string FormatCount(std::uint64_t count);        ///< "48,001,234"
[[nodiscard]] std::string FormatAmount(double amount);             ///< "950", "1.23 M"
[[nodiscard]] std::string FormatBytes(double bytes);               ///< "12.7 GB": disks
[[nodiscard]] std::string FormatBinaryBytes(std::uint64_t bytes);  ///< "1.00 GiB": memory
[[nodiscard]] std::string FormatSeconds(double seconds);           ///< "0.42 s", "2 m 05 s"
[[nodiscard]] std::string FormatPercent(double numerator, double denominator);  ///< "57.8 %"

/// "0 rows differ", or "12 DIFFERENT rows": what a script that looks for the former
/// finds is never the end of "10 rows differ".
[[nodiscard]] std::string FormatDifferent(std::uint64_t row_count);

/// "1/4", as ParseShard() takes it.
[[nodiscard]] std::string FormatShard(HeadShard shard);

/// The engine of a store: its description, which mostly begins with its name.
[[nodiscard]] std::string FormatEngine(const StoreStats& stats);

/// "64 reads in flight a thread, by the profile FILE".
[[nodiscard]] std::string FormatReadSettings(const StoreStats& stats);

/// numerator / denominator; 0 where there is nothing to divide by.
[[nodiscard]] double Ratio(double numerator, double denominator) noexcept;

/// Writes `text` to stdout, through the buffer that main() checks at the end.
void Print(std::string_view text);

/// Writes "tiercel VERB: MESSAGE" and a line end to stderr.
void PrintError(std::string_view verb, std::string_view message);

/// Makes SIGINT and SIGTERM set a flag instead of ending the program, so that
/// long work can clean up. A second signal ends it at once.
void CatchInterrupts();

/// True once a signal that CatchInterrupts() caught has come.
[[nodiscard]] bool Interrupted() noexcept;

/// Memory of this process, from /proc/self/status; 0 where that cannot be read.
struct ResidentMemory {
  std::uint64_t now_bytes = 0;   ///< VmRSS
  std::uint64_t peak_bytes = 0;  ///< VmHWM
};
[[nodiscard]] ResidentMemory ReadResidentMemory();

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_COMMAND_LINE_H_
