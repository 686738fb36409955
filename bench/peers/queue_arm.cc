// Tiercel's io_uring queue by itself, kept full with single blocks of the table: what
// the engine takes away from the disk, without cache, tables of reads or callers.

#include <fmt/format.h>

#include <chrono>
#include <utility>
#include <vector>

#include "base/histogram.h"
#include "base/prng.h"
#include "bench/peers/arm.h"
#include "bench/peers/cpu_time.h"
#include "bench/peers/peer_table.h"
#include "io/device.h"

namespace tiercel::peers {
namespace {

using Clock = std::chrono::steady_clock;

class FullQueue final : public ReadSink {
 public:
  FullQueue(ReadQueue& queue, const CheckpointInfo& info, const RandomReads& reads)
      : queue_(queue), info_(info), reads_(reads), prng_(reads.seed), begin_(queue.depth()) {
    for (std::uint32_t i = 0; i < queue.depth(); ++i) free_.push_back(i);
  }

  void Fill() noexcept {
    const Clock::time_point now = Clock::now();
    while (!free_.empty() && queue_.in_flight() < queue_.depth()) {
      const std::uint32_t tag = free_.back();
      free_.pop_back();
      begin_[tag] = now;
      const auto file = static_cast<std::uint32_t>(prng_.Below(info_.files.size()));
      const std::uint64_t block_count = info_.files[file].size_bytes / reads_.block_bytes;
      queue_.Submit({.file_index = file,
                     .size_bytes = reads_.block_bytes,
                     .offset_bytes = prng_.Below(block_count) * reads_.block_bytes,
                     .tag = tag});
    }
  }

  void OnRead(const ReadCompletion& completion) noexcept override {
    if (completion.os_error != 0) ++errors;
    latency_ns.Add(static_cast<std::uint64_t>((Clock::now() - begin_[completion.tag]).count()));
    free_.push_back(static_cast<std::uint32_t>(completion.tag));
    if (refill) Fill();
  }

  Histogram latency_ns;
  std::uint64_t errors = 0;
  bool refill = true;

 private:
  ReadQueue& queue_;
  const CheckpointInfo& info_;
  const RandomReads& reads_;
  Prng prng_;
  std::vector<Clock::time_point> begin_;
  std::vector<std::uint32_t> free_;
};

class QueueArm final : public Arm {
 public:
  QueueArm(const PeerTable& table, std::unique_ptr<Device> device, std::unique_ptr<ReadQueue> queue)
      : table_(table), device_(std::move(device)), queue_(std::move(queue)) {}

  Status Run(const Batch& /*batch*/) override {
    return Status(StatusCode::kUnavailable, "a queue serves no rows");
  }

  Result<SliceFigures> RunReads(const RandomReads& reads) override {
    FullQueue full(*queue_, table_.info(), reads);
    const double cpu_begin = CpuSeconds();
    const Clock::time_point begin = Clock::now();
    const auto length = std::chrono::duration<double>(reads.seconds);
    full.Fill();
    do {
      queue_->Run(full, std::chrono::seconds(1));
    } while (Clock::now() - begin < length);
    SliceFigures figures;
    figures.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    figures.cpu_seconds = CpuSeconds() - cpu_begin;
    figures.rows = full.latency_ns.count();
    figures.batches = static_cast<double>(figures.rows);
    figures.p50_ns = full.latency_ns.Percentile(0.5);
    figures.p99_ns = full.latency_ns.Percentile(0.99);
    full.refill = false;
    while (queue_->in_flight() > 0) queue_->Run(full, std::chrono::seconds(1));
    if (full.errors > 0) {
      return Status(StatusCode::kIoError, fmt::format("{} reads failed", full.errors));
    }
    return figures;
  }

  [[nodiscard]] std::string description() const override {
    return "one queue of the library alone, no store above it: " + device_->description();
  }

 private:
  const PeerTable& table_;
  std::unique_ptr<Device> device_;
  std::unique_ptr<ReadQueue> queue_;
};

}  // namespace

Result<std::unique_ptr<Arm>> OpenQueueArm(const PeerTable& table, const ArmOptions& options) {
  std::vector<std::string> paths;
  for (const TableFile& file : table.info().files) paths.push_back(file.path);
  DeviceOptions device_options{.read_size_bytes_max = table.block_bytes(),
                               .block_bytes = table.block_bytes()};
  if (options.depth != 0) device_options.depth = options.depth;
  Result<std::unique_ptr<Device>> device = OpenUringDevice(paths, device_options);
  if (!device.ok()) return std::move(device).TakeStatus();
  Result<std::unique_ptr<ReadQueue>> queue = device.value()->NewQueue();
  if (!queue.ok()) return std::move(queue).TakeStatus();
  return std::unique_ptr<Arm>(
      std::make_unique<QueueArm>(table, std::move(device).value(), std::move(queue).value()));
}

}  // namespace tiercel::peers
