#include "bench/overlap_engine.h"

#include <algorithm>
#include <numeric>

#include "bench/overlap_digest.h"

namespace tiercel::bench {
namespace {

using EngineClock = std::chrono::steady_clock;

double SecondsSince(EngineClock::time_point begin) {
  return std::chrono::duration<double>(EngineClock::now() - begin).count();
}

}  // namespace

double OverlapTimes::tokens_per_second() const noexcept {
  return seconds > 0.0 ? static_cast<double>(token_count) / seconds : 0.0;
}

double OverlapTimes::exposed_seconds() const noexcept {
  return std::accumulate(wait_seconds.begin(), wait_seconds.end(), 0.0);
}

double OverlapTimes::cost_percent() const noexcept {
  const double cost = start_seconds + exposed_seconds() + use_seconds;
  return cost > 0.0 ? 100.0 * cost / (planned_seconds + cost) : 0.0;
}

void OverlapTimes::Add(const OverlapTimes& other) {
  token_count += other.token_count;
  step_count += other.step_count;
  cut = cut || other.cut;
  seconds += other.seconds;
  planned_seconds += other.planned_seconds;
  compute_seconds += other.compute_seconds;
  start_seconds += other.start_seconds;
  use_seconds += other.use_seconds;
  wait_seconds.resize(std::max(wait_seconds.size(), other.wait_seconds.size()));
  for (std::size_t i = 0; i < other.wait_seconds.size(); ++i) {
    wait_seconds[i] += other.wait_seconds[i];
  }
  digests.insert(digests.end(), other.digests.begin(), other.digests.end());
}

Status ClockEngine::Begin(const OverlapModel& model, std::uint64_t /*step_count*/,
                          OverlapTimes& times) {
  block_time_ = model.block_time;
  times_ = &times;
  return {};
}

Status ClockEngine::Compute(std::uint32_t /*block*/, std::size_t /*token_count*/) {
  const EngineClock::time_point begin = EngineClock::now();
  while (EngineClock::now() < begin + block_time_) {
  }
  times_->compute_seconds += SecondsSince(begin);
  return {};
}

Status ClockEngine::BeginWait(std::size_t /*layer*/) {
  wait_begin_ = EngineClock::now();
  return {};
}

Status ClockEngine::EndWait(std::size_t layer) {
  times_->wait_seconds[layer] += SecondsSince(wait_begin_);
  return {};
}

Status ClockEngine::Use(const OverlapRows& rows) {
  const EngineClock::time_point begin = EngineClock::now();
  times_->digests[rows.step] += DigestOf(rows.host, rows.layer * kDigestLayerWords);
  times_->use_seconds += SecondsSince(begin);
  return {};
}

}  // namespace tiercel::bench
