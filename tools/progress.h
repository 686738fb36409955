#ifndef TIERCEL_TOOLS_PROGRESS_H_
#define TIERCEL_TOOLS_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <string>

#include "tiercel/verify.h"

namespace tiercel::tools {

/// What a progress bar counts.
enum class ProgressUnit : std::uint8_t { kBytes, kRows, kTokens, kSlices, kRuns, kSteps };

/// A bar with rate and time left, on stderr, and only where stderr is a terminal:
/// elsewhere it writes nothing at all.
///
///     make-checkpoint [#########-----------]  46 %  5.83 of 12.7 GB  1.21 GB/s  6 s left
///
/// Threading: one thread at a time.
class ProgressBar {
 public:
  ProgressBar(std::string label, ProgressUnit unit);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  /// Wipes the bar, so that what is printed next starts on a clean line.
  ~ProgressBar();

  /// Draws the bar anew, ten times a second at most.
  void Update(std::uint64_t done, std::uint64_t total);

  /// Wipes the bar. The next Update() draws it again.
  void Clear();

 private:
  using Clock = std::chrono::steady_clock;

  [[nodiscard]] std::string Line(std::uint64_t done, std::uint64_t total, double seconds) const;

  const std::string label_;
  const ProgressUnit unit_;
  const bool on_terminal_;
  const Clock::time_point start_;
  Clock::time_point drawn_at_;
  bool drawn_ = false;
};

/// For long work of the library: draws `bar`, which must outlive it, and stops the work once
/// a signal has come (see CatchInterrupts()).
[[nodiscard]] Progress UntilInterrupted(ProgressBar& bar);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_PROGRESS_H_
