#include "io/calibrate_slice.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <utility>

#include "base/errno_status.h"
#include "base/histogram.h"

namespace tiercel {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<std::uint64_t> FirstPlaces(const std::vector<std::uint64_t>& file_size_bytes,
                                       std::uint32_t place_bytes) {
  std::vector<std::uint64_t> first = {0};
  for (const std::uint64_t size_bytes : file_size_bytes) {
    first.push_back(first.back() + size_bytes / place_bytes);
  }
  return first;
}

/// CPU time of all threads of the process, in the kernel too: io_uring's workers and
/// pread's pool are among them.
std::uint64_t CpuNs() noexcept {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec);
}

/// Submits a new read for each that completes, and watches the clock.
class SliceSink final : public ReadSink {
 public:
  SliceSink(ReadQueue& queue, const SliceSpec& spec, Places& places)
      : queue_(queue), spec_(spec), places_(places), flights_(spec.queue_depth) {}

  /// Fills the queue. A flight's tag is its index.
  void Start() noexcept {
    for (std::uint32_t tag = 0; tag < spec_.queue_depth; ++tag) SubmitNext(tag, Clock::now());
  }

  void OnRead(const ReadCompletion& completion) noexcept override {
    const Clock::time_point now = Clock::now();
    const Flight& flight = flights_[completion.tag];
    if (completion.os_error != 0 && failed_error == 0) {
      failed_error = completion.os_error;
      failed_request = flight.request;
      done = true;
    }
    if (done) return;
    ++completed_;
    if (completed_ == spec_.queue_depth) {
      begin_ = now;
      cpu_begin_ns_ = CpuNs();
    } else if (completed_ > spec_.queue_depth) {
      latency_ns_.Add(static_cast<std::uint64_t>((now - flight.begin).count()));
      if (now - begin_ >= spec_.duration || submitted_ >= spec_.read_count_max) {
        end_ = now;
        cpu_end_ns_ = CpuNs();
        done = true;
        return;
      }
    }
    if (queue_.in_flight() >= queue_.depth()) {
      done = true;  // The kernel is out of room and the queue has shrunk.
      return;
    }
    SubmitNext(static_cast<std::uint32_t>(completion.tag), now);
  }

  /// REQUIRES: done, and no error.
  [[nodiscard]] DiskPoint Point() const {
    const auto reads = static_cast<double>(latency_ns_.count());
    const auto elapsed_ns = static_cast<double>(std::max<std::int64_t>((end_ - begin_).count(), 1));
    return {.block_bytes = spec_.block_bytes,
            .queue_depth = spec_.queue_depth,
            .iops = reads / elapsed_ns * 1e9,
            .p50_ns = latency_ns_.Percentile(0.5),
            .p99_ns = latency_ns_.Percentile(0.99),
            .p999_ns = latency_ns_.Percentile(0.999),
            .cpu_ns_per_read = static_cast<double>(cpu_end_ns_ - cpu_begin_ns_) / reads};
  }

  bool done = false;
  int failed_error = 0;
  ReadRequest failed_request;

 private:
  struct Flight {
    ReadRequest request;
    Clock::time_point begin;
  };

  void SubmitNext(std::uint32_t tag, Clock::time_point now) noexcept {
    Flight& flight = flights_[tag];
    flight.request = places_.Take(spec_.block_bytes);
    flight.request.tag = tag;
    flight.begin = now;
    ++submitted_;
    queue_.Submit(flight.request);
  }

  ReadQueue& queue_;
  const SliceSpec& spec_;
  Places& places_;
  std::vector<Flight> flights_;
  std::uint64_t submitted_ = 0;
  std::uint64_t completed_ = 0;
  Histogram latency_ns_;
  Clock::time_point begin_;
  Clock::time_point end_;
  std::uint64_t cpu_begin_ns_ = 0;
  std::uint64_t cpu_end_ns_ = 0;
};

}  // namespace

Places::Places(const std::vector<std::uint64_t>& file_size_bytes, std::uint32_t place_bytes,
               std::uint64_t seed)
    : place_bytes_(place_bytes),
      first_place_(FirstPlaces(file_size_bytes, place_bytes)),
      shuffle_(std::max<std::uint64_t>(first_place_.back(), 1), seed) {}

ReadRequest Places::Take(std::uint32_t size_bytes) noexcept {
  const std::uint64_t place = shuffle_(used_++);
  // The last file that begins at this place or before it; empty ones begin there too.
  const auto next = std::upper_bound(first_place_.begin(), first_place_.end(), place);
  const auto file = static_cast<std::uint32_t>(next - first_place_.begin() - 1);
  const std::uint64_t within = SplitMix64(place) % (place_bytes_ / size_bytes);
  return {.file_index = file,
          .size_bytes = size_bytes,
          .offset_bytes = (place - first_place_[file]) * place_bytes_ + within * size_bytes};
}

Result<DiskPoint> MeasureSlice(Device& device, const std::vector<std::string>& paths,
                               const SliceSpec& spec, Places& places) {
  Result<std::unique_ptr<ReadQueue>> made = device.NewQueue();
  if (!made.ok()) return std::move(made).TakeStatus();
  ReadQueue& queue = *made.value();
  if (queue.depth() < spec.queue_depth) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("a queue for {} reads in flight takes {} only ({}): leave the deeper "
                              "ones out",
                              spec.queue_depth, queue.depth(), device.description()));
  }
  SliceSink sink(queue, spec, places);
  sink.Start();
  while (!sink.done) queue.Run(sink, std::chrono::seconds(1));
  while (queue.in_flight() > 0) queue.Run(sink, std::chrono::seconds(1));
  if (sink.failed_error != 0) {
    return ErrnoStatus(
        sink.failed_error,
        fmt::format("read {} B at {} of {}", sink.failed_request.size_bytes,
                    sink.failed_request.offset_bytes, paths[sink.failed_request.file_index]));
  }
  if (queue.depth() < spec.queue_depth) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("a queue for {} reads in flight shrank to {} ({}): leave the deeper "
                              "ones out",
                              spec.queue_depth, queue.depth(), device.description()));
  }
  return sink.Point();
}

}  // namespace tiercel
