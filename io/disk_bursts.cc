#include "tiercel/disk_bursts.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <system_error>
#include <utility>

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/prng.h"
#include "io/device.h"
#include "io/read_errors.h"

namespace tiercel {
namespace {

class QueueBursts final : public DiskBursts, private ReadSink {
 public:
  QueueBursts(OpenedDevice opened, std::unique_ptr<ReadQueue> queue,
              std::vector<std::uint64_t> file_sizes, const DiskBurstOptions& options)
      : opened_(std::move(opened)),
        queue_(std::move(queue)),
        file_size_bytes_(std::move(file_sizes)),
        read_bytes_(options.read_bytes),
        prng_(options.seed) {}

  Status Read(std::span<const std::uint32_t> counts,
              std::span<std::chrono::nanoseconds> done_after) override {
    if (counts.size() != done_after.size()) {
      return Status(StatusCode::kInvalidArgument, fmt::format("{} counts of reads, but {} times",
                                                              counts.size(), done_after.size()));
    }
    left_.assign(counts.begin(), counts.end());
    done_ns_.assign(counts.size(), 0);
    os_error_ = 0;
    const std::uint64_t start_ns = MonotonicNs();
    for (std::size_t part = 0; part < counts.size(); ++part) {
      for (std::uint32_t i = 0; i < counts[part]; ++i) {
        while (queue_->in_flight() >= queue_->depth()) queue_->Run(*this, kForEver);
        Submit(part);
      }
    }
    while (queue_->in_flight() > 0) queue_->Run(*this, kForEver);
    if (os_error_ != 0) {
      return Status(StatusCode::kIoError,
                    fmt::format("a read of a burst failed: {}: {}", ErrnoName(os_error_),
                                DescribeReadError(os_error_).sentence),
                    os_error_);
    }
    std::uint64_t latest_ns = start_ns;
    for (std::size_t part = 0; part < counts.size(); ++part) {
      latest_ns = std::max(latest_ns, done_ns_[part]);
      done_after[part] = std::chrono::nanoseconds(latest_ns - start_ns);
    }
    return {};
  }

 private:
  static constexpr std::chrono::nanoseconds kForEver = std::chrono::hours(1);

  void Submit(std::size_t part) {
    const auto file = static_cast<std::uint32_t>(prng_.Below(file_size_bytes_.size()));
    queue_->Submit({.file_index = file,
                    .size_bytes = read_bytes_,
                    .offset_bytes = prng_.Below(file_size_bytes_[file] - read_bytes_ + 1),
                    .tag = part});
  }

  void OnRead(const ReadCompletion& completion) noexcept override {
    if (completion.os_error != 0) os_error_ = completion.os_error;
    if (--left_[completion.tag] == 0) done_ns_[completion.tag] = MonotonicNs();
  }

  OpenedDevice opened_;
  std::unique_ptr<ReadQueue> queue_;
  std::vector<std::uint64_t> file_size_bytes_;
  const std::uint32_t read_bytes_;
  Prng prng_;
  std::vector<std::uint32_t> left_;     ///< Reads that are not done, by part.
  std::vector<std::uint64_t> done_ns_;  ///< By part.
  int os_error_ = 0;
};

Result<std::unique_ptr<DiskBursts>> OpenBursts(const std::vector<std::string>& paths,
                                               const DiskBurstOptions& options) {
  if (options.read_bytes < 1 || options.read_bytes > kReadBlockBytesMax) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("DiskBurstOptions::read_bytes is {}, but must be in [1, {}]",
                              options.read_bytes, kReadBlockBytesMax));
  }
  Result<OpenedDevice> opened = OpenDevice(ChoiceOf(options.engine), paths,
                                           {.depth = options.queue_depth,
                                            .read_size_bytes_max = options.read_bytes,
                                            .block_bytes = options.block_bytes});
  if (!opened.ok()) return std::move(opened).TakeStatus();
  std::vector<std::uint64_t> file_sizes;
  for (const std::string& path : paths) {
    struct stat info {};
    if (stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, fmt::format("stat {}", path));
    if (static_cast<std::uint64_t>(info.st_size) < options.read_bytes) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{} has {} B: fewer than a read of {} B", path, info.st_size,
                                options.read_bytes));
    }
    file_sizes.push_back(static_cast<std::uint64_t>(info.st_size));
  }
  Result<std::unique_ptr<ReadQueue>> queue = opened.value().device->NewQueue();
  if (!queue.ok()) return std::move(queue).TakeStatus();
  return std::unique_ptr<DiskBursts>(std::make_unique<QueueBursts>(
      std::move(opened).value(), std::move(queue).value(), std::move(file_sizes), options));
}

}  // namespace

Result<std::unique_ptr<DiskBursts>> DiskBursts::Open(const std::vector<std::string>& paths,
                                                     const DiskBurstOptions& options) {
  try {
    return OpenBursts(paths, options);
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kResourceExhausted, "no memory for a queue of reads");
  } catch (const std::system_error& error) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("cannot start a thread that reads: {}", error.what()));
  }
}

}  // namespace tiercel
