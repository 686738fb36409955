#ifndef TIERCEL_STORE_COUNTERS_H_
#define TIERCEL_STORE_COUNTERS_H_

#include <atomic>
#include <cstdint>
#include <deque>

namespace tiercel {

/// A statistic: summed by many threads, read by any. Publishes nothing else.
class Counter {
 public:
  void Add(std::uint64_t amount) noexcept { value_.fetch_add(amount, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t Get() const noexcept {
    return value_.load(std::memory_order_relaxed);
  }

 private:
  std::atomic<std::uint64_t> value_ = 0;
};

/// Counters of one space. A cache line of its own, so that spaces do not slow each
/// other down; a batch adds to it once, not once a group.
struct alignas(64) SpaceCounters {
  Counter lookups;
  Counter dram_hits;
  Counter joined;
  Counter fetches;
  Counter failed;
};

/// Counters of a store.
struct Counters {
  explicit Counters(std::size_t space_count) : spaces(space_count) {}
  std::deque<SpaceCounters> spaces;
  Counter device_reads;
  Counter device_reads_shared;
  Counter device_read_bytes;
  Counter device_read_retries;
  Counter device_read_failures;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_COUNTERS_H_
