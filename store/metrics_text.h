#ifndef TIERCEL_STORE_METRICS_TEXT_H_
#define TIERCEL_STORE_METRICS_TEXT_H_

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "base/histogram.h"

namespace tiercel {

/// Puts Prometheus text together, one family of samples after another (exposition format
/// 0.0.4: HELP and TYPE once, then the samples of that name).
///
/// Threading: one thread at a time.
class MetricsText {
 public:
  using Labels = std::initializer_list<std::pair<std::string_view, std::string_view>>;

  /// Begins the family `name`. `type`: "counter", "gauge" or "histogram".
  void Family(std::string_view name, std::string_view type, std::string_view help);
  /// A sample of the family.
  void Sample(Labels labels, std::uint64_t value);
  void Sample(Labels labels, double value);
  /// A histogram of ns as one of seconds: buckets from 10 us to 1 s, sum and count.
  void LatencySamples(Labels labels, const Histogram& latency_ns);

  [[nodiscard]] std::string Take() { return std::move(text_); }

 private:
  void Line(std::string_view suffix, Labels labels, std::string_view bound, std::string_view value);

  std::string text_;
  std::string name_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_METRICS_TEXT_H_
