#include "tools/svg_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>

#include "tools/svg_plot.h"

namespace tiercel::tools {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// Bytes of the character at the start of `text`, or 0 if none is there that XML takes.
std::size_t CharacterSize(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t lead = byte(0);
  if (lead < 0x80) {
    return lead >= 0x20 || lead == '\t' || lead == '\n' || lead == '\r' ? 1 : 0;
  }
  const std::size_t size = lead >= 0xC2 && lead < 0xE0   ? 2
                           : lead >= 0xE0 && lead < 0xF0 ? 3
                           : lead >= 0xF0 && lead < 0xF5 ? 4
                                                         : 0;
  if (size == 0 || size > text.size()) return 0;
  std::uint32_t code = lead & (0xFFu >> (size + 1));
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = (code << 6) | (byte(i) & 0x3Fu);
  }
  constexpr std::array<std::uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code < 0xE000;
  if (code < kLeast[size] || code > 0x10FFFF || surrogate || code == 0xFFFE || code == 0xFFFF) {
    return 0;
  }
  return size;
}

/// `value` with three digits, and none behind the point that say nothing.
std::string Digits(double value) {
  // "{:.3g}" writes 1234 as 1.23e+03.
  if (std::abs(value) >= 999.5) return fmt::format("{:.0f}", value);
  return fmt::format("{:.3g}", value);
}

/// `value` in the largest of `units`, each `factor` times the one before, that leaves at
/// least 1 of it.
std::string Scaled(double value, double factor, std::span<const std::string_view> units) {
  std::size_t i = 0;
  // From 999.5 on, three digits would read 1000.
  while (i + 1 < units.size() && std::abs(value) >= factor * 0.9995) {
    value /= factor;
    ++i;
  }
  return units[i].empty() ? Digits(value) : fmt::format("{} {}", Digits(value), units[i]);
}

}  // namespace

std::string XmlEscape(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  while (!text.empty()) {
    const std::size_t size = CharacterSize(text);
    switch (text[0]) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&apos;";
        break;
      default:
        escaped += size == 0 ? kReplacement : text.substr(0, size);
    }
    text.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return escaped;
}

std::size_t LetterCount(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<std::uint8_t>(c) & 0xC0) != 0x80;
  }));
}

std::string HumanValue(PlotUnit unit, double value) {
  constexpr std::array<std::string_view, 5> kCounts = {"", "k", "M", "G", "T"};
  constexpr std::array<std::string_view, 4> kTimes = {"ns", "µs", "ms", "s"};
  constexpr std::array<std::string_view, 5> kBytes = {"B", "KiB", "MiB", "GiB", "TiB"};
  constexpr std::array<std::string_view, 5> kRates = {"B/s", "KB/s", "MB/s", "GB/s", "TB/s"};
  switch (unit) {
    case PlotUnit::kCount:
      return Scaled(value, 1000, kCounts);
    case PlotUnit::kNanoseconds:
      return Scaled(value, 1000, kTimes);
    case PlotUnit::kBytes:
      return Scaled(value, 1024, kBytes);
    case PlotUnit::kBytesPerSecond:
      return Scaled(value, 1000, kRates);
    case PlotUnit::kPercent:
      return Digits(value) + " %";
  }
  return Digits(value);
}

}  // namespace tiercel::tools
