#include "store/metrics_text.h"

#include <fmt/format.h>

#include <array>

namespace tiercel {
namespace {

/// Upper bounds of the latency's buckets. An NVMe read takes 50 us to some ms.
constexpr std::array<std::uint64_t, 16> kBoundsNs = {
    10'000,      20'000,      50'000,      100'000,      200'000,    500'000,
    1'000'000,   2'000'000,   5'000'000,   10'000'000,   20'000'000, 50'000'000,
    100'000'000, 200'000'000, 500'000'000, 1'000'000'000};

/// A label's value as the format wants it between its quotes.
std::string Escaped(std::string_view value) {
  std::string text;
  for (const char c : value) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') text += '\\';
    text += c;
  }
  return text;
}

}  // namespace

void MetricsText::Family(std::string_view name, std::string_view type, std::string_view help) {
  name_ = name;
  text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void MetricsText::Line(std::string_view suffix, Labels labels, std::string_view bound,
                       std::string_view value) {
  std::string inside;
  const auto add = [&inside](std::string_view name, std::string_view text) {
    inside += fmt::format("{}{}=\"{}\"", inside.empty() ? "" : ",", name, Escaped(text));
  };
  for (const auto& [name, text] : labels) add(name, text);
  if (!bound.empty()) add("le", bound);
  text_ += name_;
  text_ += suffix;
  if (!inside.empty()) text_ += fmt::format("{{{}}}", inside);
  text_ += fmt::format(" {}\n", value);
}

void MetricsText::Sample(Labels labels, std::uint64_t value) {
  Line("", labels, "", fmt::format("{}", value));
}

void MetricsText::Sample(Labels labels, double value) {
  Line("", labels, "", fmt::format("{}", value));
}

void MetricsText::LatencySamples(Labels labels, const Histogram& latency_ns) {
  for (const std::uint64_t bound_ns : kBoundsNs) {
    Line("_bucket", labels, fmt::format("{}", static_cast<double>(bound_ns) * 1e-9),
         fmt::format("{}", latency_ns.CountUpTo(bound_ns)));
  }
  Line("_bucket", labels, "+Inf", fmt::format("{}", latency_ns.count()));
  Line("_sum", labels, "", fmt::format("{}", latency_ns.sum() * 1e-9));
  Line("_count", labels, "", fmt::format("{}", latency_ns.count()));
}

}  // namespace tiercel
