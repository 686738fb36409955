#include "tools/command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <limits>

namespace tiercel::tools {
namespace {

constexpr std::uint64_t kRowListMax = std::uint64_t{1} << 20;

volatile std::sig_atomic_t interrupted = 0;

void OnInterrupt(int) {
  interrupted = 1;
}

struct Unit {
  std::string_view name;
  std::uint64_t bytes;
};
constexpr std::uint64_t kKibi = 1024;
constexpr std::uint64_t kKilo = 1000;
constexpr std::array<Unit, 13> kUnits = {{
    {"b", 1},
    {"kb", kKilo},
    {"mb", kKilo* kKilo},
    {"gb", kKilo* kKilo* kKilo},
    {"tb", kKilo* kKilo* kKilo* kKilo},
    {"kib", kKibi},
    {"mib", kKibi* kKibi},
    {"gib", kKibi* kKibi* kKibi},
    {"tib", kKibi* kKibi* kKibi* kKibi},
    {"k", kKibi},
    {"m", kKibi* kKibi},
    {"g", kKibi* kKibi* kKibi},
    {"t", kKibi* kKibi* kKibi* kKibi},
}};

Status NotASize(std::string_view text) {
  return Status(StatusCode::kInvalidArgument,
                fmt::format("'{}' is not a size; write for instance 4096, 256MiB or 12.7GB", text));
}

std::size_t DigitsAt(std::string_view text, std::size_t begin) {
  std::size_t end = begin;
  while (end < text.size() && text[end] >= '0' && text[end] <= '9') ++end;
  return end - begin;
}

/// All of `text` as a number. False if it is not one, or has more than 64 bits.
bool ParseNumber(std::string_view text, std::uint64_t* number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number);
  return error == std::errc{} && end == text.data() + text.size() && !text.empty();
}

std::string WithUnit(double amount, double step, std::array<std::string_view, 5> units) {
  std::size_t unit = 0;
  // 999.5 would be printed as "1000".
  while (amount >= (step == 1000.0 ? 999.5 : 1023.5) && unit + 1 < units.size()) {
    amount /= step;
    ++unit;
  }
  const int decimals = unit == 0 || amount >= 99.95 ? 0 : amount >= 9.995 ? 1 : 2;
  std::string text = fmt::format("{:.{}f}", amount, decimals);
  if (!units[unit].empty()) text += fmt::format(" {}", units[unit]);
  return text;
}

}  // namespace

Result<std::uint64_t> ParseByteSize(std::string_view text) {
  const std::size_t whole_digits = DigitsAt(text, 0);
  std::uint64_t whole = 0;
  if (whole_digits == 0) return NotASize(text);
  const Status too_much(StatusCode::kInvalidArgument,
                        fmt::format("'{}' is more than 64 bits of bytes", text));
  if (!ParseNumber(text.substr(0, whole_digits), &whole)) {
    return Status(too_much.code(), std::string(too_much.message()));
  }
  std::size_t at = whole_digits;
  std::uint64_t fraction = 0;
  std::uint64_t fraction_scale = 1;
  if (at < text.size() && text[at] == '.') {
    const std::size_t digits = DigitsAt(text, ++at);
    if (digits == 0 || digits > 6 || !ParseNumber(text.substr(at, digits), &fraction)) {
      return NotASize(text);
    }
    for (std::size_t i = 0; i < digits; ++i) fraction_scale *= 10;
    at += digits;
  }
  if (at < text.size() && text[at] == ' ') ++at;
  std::string unit_name(text.substr(at));
  for (char& c : unit_name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  std::uint64_t unit_bytes = 0;
  for (const Unit& unit : kUnits) {
    if (unit.name == unit_name) unit_bytes = unit.bytes;
  }
  if (at == text.size() && text.back() != ' ') unit_bytes = 1;
  if (unit_bytes == 0 || (fraction_scale > 1 && unit_bytes == 1)) return NotASize(text);
  // fraction < 10^6 < 2^20 and a unit is at most 2^40: no overflow.
  const std::uint64_t fraction_bytes = fraction * unit_bytes / fraction_scale;
  if (whole > (std::numeric_limits<std::uint64_t>::max() - fraction_bytes) / unit_bytes) {
    return Status(too_much.code(), std::string(too_much.message()));
  }
  return whole * unit_bytes + fraction_bytes;
}

Result<Engine> ParseEngine(std::string_view text) {
  if (text == "auto") return Engine::kAuto;
  if (text == "uring") return Engine::kUring;
  if (text == "pread") return Engine::kPread;
  return Status(StatusCode::kInvalidArgument,
                fmt::format("'{}' is not an engine; there are auto, uring and pread", text));
}

Result<ScalePlacement> ParseScalePlacement(std::string_view text) {
  if (text == "auto") return ScalePlacement::kAuto;
  if (text == "resident") return ScalePlacement::kResident;
  if (text == "disk") return ScalePlacement::kDisk;
  return Status(
      StatusCode::kInvalidArgument,
      fmt::format("'{}' is no place for scales; there are auto, resident and disk", text));
}

Result<HeadShard> ParseShard(std::string_view text) {
  const std::size_t slash = std::min(text.find('/'), text.size());
  std::uint64_t rank = 0;
  std::uint64_t count = 0;
  if (slash == text.size() || !ParseNumber(text.substr(0, slash), &rank) ||
      !ParseNumber(text.substr(slash + 1), &count) || rank >= count ||
      count > std::numeric_limits<std::uint32_t>::max()) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("'{}' is no shard: write R/N for rank R of N, from 0/N to (N-1)/N", text));
  }
  return HeadShard{static_cast<std::uint32_t>(rank), static_cast<std::uint32_t>(count)};
}

Result<std::vector<std::uint64_t>> ParseRowList(std::string_view text) {
  std::vector<std::uint64_t> rows;
  std::size_t at = 0;
  while (at <= text.size()) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    const std::string_view item = text.substr(at, comma - at);
    at = comma + 1;
    const std::size_t dash = item.find('-');
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    const bool good = dash == std::string_view::npos
                          ? ParseNumber(item, &first) && ParseNumber(item, &last)
                          : ParseNumber(item.substr(0, dash), &first) &&
                                ParseNumber(item.substr(dash + 1), &last);
    if (!good || last < first) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("'{}' is not a row id or a range of them, such as 17 or 100-107", item));
    }
    if (last - first >= kRowListMax - rows.size()) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("more than {} rows at once", FormatCount(kRowListMax)));
    }
    for (std::uint64_t i = 0; i <= last - first; ++i) rows.push_back(first + i);
  }
  return rows;
}

std::string FormatCount(std::uint64_t count) {
  std::string text = std::to_string(count);
  for (std::size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, ",");
  return text;
}

std::string FormatAmount(double amount) {
  if (amount < 99.95 && amount != std::floor(amount)) {
    return fmt::format("{:.{}f}", amount, amount >= 9.995 ? 1 : 2);
  }
  return WithUnit(amount, 1000.0, {"", "k", "M", "G", "T"});
}

std::string FormatBytes(double bytes) {
  return WithUnit(bytes, 1000.0, {"B", "kB", "MB", "GB", "TB"});
}

std::string FormatBinaryBytes(std::uint64_t bytes) {
  return WithUnit(static_cast<double>(bytes), 1024.0, {"B", "KiB", "MiB", "GiB", "TiB"});
}

std::string FormatSeconds(double seconds) {
  if (seconds < 9.995) return fmt::format("{:.2f} s", seconds);
  if (seconds < 59.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::uint64_t>(std::llround(seconds));
  if (whole < 3600) return fmt::format("{} m {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} m", whole / 3600, whole / 60 % 60);
}

std::string FormatPercent(double numerator, double denominator) {
  return fmt::format("{:.1f} %", 100.0 * Ratio(numerator, denominator));
}

std::string FormatDifferent(std::uint64_t row_count) {
  return row_count == 0 ? "0 rows differ" : FormatCount(row_count) + " DIFFERENT rows";
}

std::string FormatShard(HeadShard shard) {
  return fmt::format("{}/{}", shard.rank, shard.count);
}

std::string FormatEngine(const StoreStats& stats) {
  if (stats.engine_description.starts_with(stats.engine)) return stats.engine_description;
  return fmt::format("{}: {}", stats.engine, stats.engine_description);
}

std::string FormatReadSettings(const StoreStats& stats) {
  return fmt::format("{} reads in flight a thread, {}", stats.queue_depth,
                     stats.disk_profile.empty() ? std::string("no disk profile")
                                                : "disk profile " + stats.disk_profile);
}

double Ratio(double numerator, double denominator) noexcept {
  return denominator > 0.0 ? numerator / denominator : 0.0;
}

void Print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
}

void PrintError(std::string_view verb, std::string_view message) {
  const std::string line = verb.empty() ? fmt::format("tiercel: {}\n", message)
                                        : fmt::format("tiercel {}: {}\n", verb, message);
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void CatchInterrupts() {
  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  // The second signal finds the default action again and ends the program.
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool Interrupted() noexcept {
  return interrupted != 0;
}

ResidentMemory ReadResidentMemory() {
  ResidentMemory memory;
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    unsigned long long kib = 0;
    if (std::sscanf(line.c_str(), "VmRSS: %llu kB", &kib) == 1) memory.now_bytes = kib * kKibi;
    if (std::sscanf(line.c_str(), "VmHWM: %llu kB", &kib) == 1) memory.peak_bytes = kib * kKibi;
  }
  return memory;
}

}  // namespace tiercel::tools
