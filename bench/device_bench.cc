// Random reads through a Device, as fast as one thread and one queue go: reads per
// second, latency, CPU time per read. Not measured: the copy out of the queue's
// buffers (the sink looks at one byte), more than one queue, the page cache.
//
// Give each run another --seed: offsets that were read before may be in the cache of
// the disk or of a virtual machine's host, and then read several times as fast. Fio
// repeats its offsets too, whatever its --randseed, unless told --randrepeat=0.
//
// To compare with the same through fio, in turns:
//   fio --name=r --filename=FILE --ioengine=io_uring --direct=1 --rw=randread --bs=4k
//       --iodepth=D --registerfiles=1 --fixedbufs=1 --time_based --runtime=3
//       --norandommap --randrepeat=0

#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/histogram.h"
#include "base/prng.h"
#include "io/device.h"

namespace tiercel {
namespace {

using Clock = std::chrono::steady_clock;

struct BenchOptions {
  std::string file;
  std::uint32_t depth = 128;
  std::uint32_t block_bytes = 4096;
  std::uint32_t align_bytes = 0;  ///< Of the offsets; 0: block_bytes.
  double seconds = 3;
  std::string engine = "auto";
  std::uint64_t seed = 1;
  bool smoke = false;
};

/// Keeps the queue full until the time is up.
class BenchSink final : public ReadSink {
 public:
  BenchSink(ReadQueue& queue, const BenchOptions& options, std::uint64_t place_count,
            std::uint32_t align_bytes)
      : queue_(queue),
        options_(options),
        place_count_(place_count),
        align_bytes_(align_bytes),
        prng_(options.seed),
        begin_(queue.depth()) {
    for (std::uint32_t i = 0; i < queue.depth(); ++i) free_.push_back(i);
  }

  void Fill() noexcept {
    const Clock::time_point now = Clock::now();
    while (!free_.empty() && queue_.in_flight() < queue_.depth()) {
      const std::uint32_t tag = free_.back();
      free_.pop_back();
      begin_[tag] = now;
      queue_.Submit({.size_bytes = options_.block_bytes,
                     .offset_bytes = prng_.Below(place_count_) * align_bytes_,
                     .tag = tag});
    }
  }

  void OnRead(const ReadCompletion& completion) noexcept override {
    if (completion.os_error != 0) {
      ++errors;
    } else {
      checksum ^= static_cast<std::uint64_t>(completion.bytes[0]);
    }
    ++reads;
    latency_ns.Add(static_cast<std::uint64_t>((Clock::now() - begin_[completion.tag]).count()));
    free_.push_back(static_cast<std::uint32_t>(completion.tag));
    if (refill) Fill();
  }

  std::uint64_t reads = 0;
  std::uint64_t errors = 0;
  std::uint64_t checksum = 0;
  Histogram latency_ns;
  bool refill = true;

 private:
  ReadQueue& queue_;
  const BenchOptions& options_;
  const std::uint64_t place_count_;
  const std::uint32_t align_bytes_;
  Prng prng_;
  std::vector<Clock::time_point> begin_;
  std::vector<std::uint32_t> free_;
};

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Status Bench(const BenchOptions& options) {
  EngineChoice choice = EngineChoice::kAuto;
  if (options.engine == "uring") choice = EngineChoice::kUring;
  if (options.engine == "pread") choice = EngineChoice::kPread;
  Result<OpenedDevice> opened = OpenDevice(
      choice, {options.file}, {.depth = options.depth, .read_size_bytes_max = options.block_bytes});
  if (!opened.ok()) return std::move(opened).TakeStatus();
  Device& device = *opened.value().device;
  Result<std::unique_ptr<ReadQueue>> queue = device.NewQueue();
  if (!queue.ok()) return std::move(queue).TakeStatus();
  const std::uint32_t align_bytes =
      options.align_bytes == 0 ? options.block_bytes : options.align_bytes;
  const std::uint64_t size_bytes = std::filesystem::file_size(options.file);
  if (size_bytes < options.block_bytes + align_bytes) {
    return Status(StatusCode::kInvalidArgument, options.file + " is too small");
  }
  BenchSink sink(*queue.value(), options, (size_bytes - options.block_bytes) / align_bytes,
                 align_bytes);
  const double cpu_begin = CpuSeconds();
  const Clock::time_point begin = Clock::now();
  const auto end = begin + std::chrono::duration_cast<Clock::duration>(
                               std::chrono::duration<double>(options.smoke ? 0 : options.seconds));
  std::uint64_t runs = 0;
  sink.Fill();
  do {
    queue.value()->Run(sink, std::chrono::seconds(1));
    ++runs;
  } while (Clock::now() < end);
  sink.refill = false;
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  const double reads = static_cast<double>(sink.reads);
  const double cpu = CpuSeconds() - cpu_begin;
  while (queue.value()->in_flight() > 0) queue.value()->Run(sink, std::chrono::seconds(1));
  fmt::print(
      "engine={} depth={} block={} iops={:.0f} p50_us={:.1f} p99_us={:.1f} cpu_us_per_read={:.3f} "
      "reads_per_run={:.2f} errors={} fallback=\"{}\" device=\"{}\"\n",
      Name(device.engine()), options.depth, options.block_bytes, reads / seconds,
      static_cast<double>(sink.latency_ns.Percentile(0.5)) / 1e3,
      static_cast<double>(sink.latency_ns.Percentile(0.99)) / 1e3, cpu / reads * 1e6,
      reads / static_cast<double>(runs), sink.errors, opened.value().fallback_reason,
      device.description());
  if (sink.errors > 0) {
    return Status(StatusCode::kIoError, fmt::format("{} reads failed", sink.errors));
  }
  return Status();
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  tiercel::BenchOptions options;
  CLI::App app("Random reads through a device");
  app.add_option("--file", options.file, "File to read")->required()->check(CLI::ExistingFile);
  app.add_option("--depth", options.depth, "Reads in flight")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--block", options.block_bytes, "Bytes of a read")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--align", options.align_bytes, "Alignment of the offsets; 0: --block");
  app.add_option("--engine", options.engine, "auto, uring or pread")
      ->check(CLI::IsMember({"auto", "uring", "pread"}))
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "How long")->capture_default_str();
  app.add_option("--seed", options.seed, "Of the offsets")->capture_default_str();
  app.add_flag("--smoke", options.smoke, "One pass only");
  CLI11_PARSE(app, argc, argv);
  const tiercel::Status status = tiercel::Bench(options);
  if (!status.ok()) fmt::print(stderr, "device_bench: {}\n", status.ToString());
  return status.ok() ? 0 : 1;
}
