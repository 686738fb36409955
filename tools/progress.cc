#include "tools/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "tools/command_line.h"

namespace tiercel::tools {
namespace {

constexpr std::uint64_t kBarColumns = 24;
constexpr std::chrono::milliseconds kRedrawInterval{100};

std::string Quantity(double amount, ProgressUnit unit) {
  return unit == ProgressUnit::kBytes ? FormatBytes(amount) : FormatAmount(amount);
}

std::string_view UnitName(ProgressUnit unit) {
  switch (unit) {
    case ProgressUnit::kBytes:
      return "";
    case ProgressUnit::kRows:
      return " rows";
    case ProgressUnit::kSteps:
      return " steps";
    case ProgressUnit::kTokens:
      return " tokens";
    case ProgressUnit::kSlices:
      return " slices";
    case ProgressUnit::kRuns:
      return " runs";
  }
  return "";
}

}  // namespace

ProgressBar::ProgressBar(std::string label, ProgressUnit unit)
    : label_(std::move(label)),
      unit_(unit),
      on_terminal_(isatty(STDERR_FILENO) == 1),
      start_(Clock::now()) {}

ProgressBar::~ProgressBar() {
  Clear();
}

void ProgressBar::Update(std::uint64_t done, std::uint64_t total) {
  if (!on_terminal_) return;
  const Clock::time_point now = Clock::now();
  if (drawn_ && now - drawn_at_ < kRedrawInterval) return;
  drawn_ = true;
  drawn_at_ = now;
  // "\033[K" wipes what a longer line has left behind.
  const std::string line =
      "\r" + Line(done, total, std::chrono::duration<double>(now - start_).count()) + "\033[K";
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

void ProgressBar::Clear() {
  if (!drawn_) return;
  drawn_ = false;
  std::fputs("\r\033[K", stderr);
  std::fflush(stderr);
}

std::string ProgressBar::Line(std::uint64_t done, std::uint64_t total, double seconds) const {
  const double share = std::min(1.0, Ratio(static_cast<double>(done), static_cast<double>(total)));
  const auto filled = static_cast<std::size_t>(share * static_cast<double>(kBarColumns));
  const double rate = Ratio(static_cast<double>(done), seconds);
  std::string line =
      fmt::format("{} [{:#<{}}{:-<{}}] {:3.0f} %  {} of {}{}", label_, "", filled, "",
                  kBarColumns - filled, share * 100.0, Quantity(static_cast<double>(done), unit_),
                  Quantity(static_cast<double>(total), unit_), UnitName(unit_));
  // A rate over less than half a second says little, and the time left even less.
  if (seconds >= 0.5 && rate > 0.0) {
    const double left_seconds = static_cast<double>(total - std::min(done, total)) / rate;
    line += fmt::format("  {}/s  {} left", Quantity(rate, unit_), FormatSeconds(left_seconds));
  }
  return line;
}

Progress UntilInterrupted(ProgressBar& bar) {
  return [&bar](std::uint64_t done_bytes, std::uint64_t total_bytes) {
    bar.Update(done_bytes, total_bytes);
    return !Interrupted();
  };
}

}  // namespace tiercel::tools
