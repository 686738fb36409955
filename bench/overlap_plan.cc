#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include "bench/overlap_arms.h"
#include "cache/memory_limit.h"
#include "tools/command_line.h"

namespace tiercel::bench {
namespace {

// Rates that a plan reckons with, on purpose low.
constexpr double kOpenSeconds = 2.0;
constexpr double kGenerateBytesPerSecond = 6e9;  ///< Rows, by all cores, pages touched.
constexpr double kPinBytesPerSecond = 4e9;
/// Of rows asked for, those that are read: the rest is in DRAM or asked for twice.
constexpr double kReadShare = 0.6;
/// Beside what arms take: the program, the trace, rows of steps, the driver.
constexpr std::uint64_t kOwnBytes = std::uint64_t{3} << 30;
constexpr double kTokensPerSequence = 562.0;

std::string FormatSize(std::uint64_t bytes) {
  return bytes == 0 ? "-" : tools::FormatBinaryBytes(bytes);
}

double StepSeconds(const OverlapFlags& flags, double block_ms) {
  return static_cast<double>(flags.block_count) * block_ms / 1000.0;
}

/// Tokens that the loops ask rows for: no more than there are.
double TokensOf(const OverlapFlags& flags) {
  const double asked = static_cast<double>(flags.decode.step_count) * flags.decode.stream_count +
                       static_cast<double>(flags.prefill.step_count) * flags.prefill.step_tokens;
  return std::min(asked * flags.round_count, flags.sequences.count * kTokensPerSequence);
}

std::uint64_t AvailableBytes() {
  std::uint64_t bytes = ReadMemoryLimit().bytes;
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    constexpr std::string_view kKey = "MemAvailable:";
    if (!line.starts_with(kKey)) continue;
    const std::size_t digit = line.find_first_of("0123456789");
    std::uint64_t kibibytes = 0;
    if (digit == std::string::npos) continue;
    const char* const end = line.data() + line.size();
    if (std::from_chars(line.data() + digit, end, kibibytes).ec == std::errc()) {
      bytes = std::min(bytes, kibibytes << 10);
    }
  }
  return bytes;
}

Result<std::uint64_t> MemoryOf(const OverlapFlags& flags) {
  return flags.memory.empty() ? Result<std::uint64_t>(AvailableBytes())
                              : tools::ParseByteSize(flags.memory);
}

}  // namespace

OverlapCost CostOf(const OverlapArm& arm, const OverlapFlags& flags, const CheckpointInfo& info) {
  OverlapCost cost;
  const double compute =
      flags.round_count *
      (static_cast<double>(flags.decode.step_count) * StepSeconds(flags, flags.block_ms) +
       static_cast<double>(flags.prefill.step_count) * StepSeconds(flags, flags.prefill_block_ms));
  const double rows_per_token =
      static_cast<double>(info.layers.size()) * static_cast<double>(info.recipe.column_count());
  const double per_token =
      rows_per_token * kReadShare / static_cast<double>(flags.reads_per_second);
  double run = compute;
  cost.seconds_max = 2 * flags.round_count * flags.phase_seconds;
  if (arm.table.has_value()) {
    const double bytes = static_cast<double>(info.table_bytes);
    double load = bytes / kGenerateBytesPerSecond;
    if (*arm.table == TablePlace::kPinned) load += bytes / kPinBytesPerSecond;
    (*arm.table == TablePlace::kPinned ? cost.host_bytes : cost.device_bytes) = info.table_bytes;
    if (arm.fetch == OverlapFetch::kSourceBlocking) load = 0.0;  // The arm before has loaded it.
    cost.seconds += load;
    cost.seconds_max += load;
  }
  if (arm.budget_bytes > 0) {
    cost.host_bytes = arm.budget_bytes;
    cost.device_bytes = arm.hbm_bytes;
    const double warm_tokens =
        arm.resident ? TokensOf(flags) : flags.warm_sequence_count * kTokensPerSequence;
    const double warm = std::min(warm_tokens * per_token, flags.warm_seconds);
    cost.seconds += kOpenSeconds + warm;
    cost.seconds_max += kOpenSeconds + flags.warm_seconds;
    if (arm.hbm_bytes > 0) cost.seconds_max += flags.warm_seconds;  // The tier's own.
    const double reads = arm.resident ? 0.0 : TokensOf(flags) * per_token;
    run = arm.fetch == OverlapFetch::kBlocking ? compute + reads : std::max(compute, reads);
  }
  cost.seconds += std::min(run, 2 * flags.round_count * flags.phase_seconds);
  return cost;
}

Status CheckMemory(std::span<const OverlapArm> arms, const OverlapFlags& flags,
                   const CheckpointInfo& info) {
  Result<std::uint64_t> memory = MemoryOf(flags);
  if (!memory.ok()) return std::move(memory).TakeStatus();
  for (const OverlapArm& arm : arms) {
    const std::uint64_t needed = CostOf(arm, flags, info).host_bytes;
    if (needed == 0 || needed + kOwnBytes <= memory.value()) continue;
    return Status(
        StatusCode::kResourceExhausted,
        fmt::format("\"{}\" takes {} of host memory and the program {} beside it, and {} "
                    "are available; ask for smaller budgets or a smaller table",
                    arm.name, tools::FormatBinaryBytes(needed), tools::FormatBinaryBytes(kOwnBytes),
                    tools::FormatBinaryBytes(memory.value())));
  }
  return {};
}

void PrintPlan(std::span<const OverlapArm> arms, const OverlapFlags& flags,
               const CheckpointInfo& info) {
  tools::Print(fmt::format("table of {}, in {}\n{:<32}{:>12}{:>12}{:>10}{:>10}\n",
                           tools::FormatBytes(static_cast<double>(info.table_bytes)), info.path,
                           "arm", "host", "device", "about", "at most"));
  OverlapCost sum;
  for (const OverlapArm& arm : arms) {
    const OverlapCost cost = CostOf(arm, flags, info);
    tools::Print(fmt::format("{:<32}{:>12}{:>12}{:>8.0f} s{:>8.0f} s\n", arm.name,
                             FormatSize(cost.host_bytes), FormatSize(cost.device_bytes),
                             cost.seconds, cost.seconds_max));
    sum.seconds += cost.seconds;
    sum.seconds_max += cost.seconds_max;
    sum.host_bytes = std::max(sum.host_bytes, cost.host_bytes);
    sum.device_bytes = std::max(sum.device_bytes, cost.device_bytes);
  }
  tools::Print(fmt::format("{:<32}{:>12}{:>12}{:>8.0f} s{:>8.0f} s\n", "all, one after another",
                           FormatSize(sum.host_bytes), FormatSize(sum.device_bytes), sum.seconds,
                           sum.seconds_max));
  tools::Print(fmt::format(
      "reckoned with {} reads a second for {:.0f} % of the rows, {:.0f} GB/s to generate a table, "
      "{:.0f} GB/s to pin it\n",
      tools::FormatCount(flags.reads_per_second), 100.0 * kReadShare, kGenerateBytesPerSecond / 1e9,
      kPinBytesPerSecond / 1e9));
  if (flags.deadline_seconds > 0.0) {
    tools::Print(
        fmt::format("arms that would end after {:.0f} s are left out\n", flags.deadline_seconds));
  }
}

}  // namespace tiercel::bench
