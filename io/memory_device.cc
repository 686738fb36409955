#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/mutex.h"
#include "io/device.h"
#include "io/file_set.h"
#include "io/read_slots.h"

namespace tiercel {
namespace {

using Files = std::vector<std::vector<std::byte>>;

std::uint32_t BlockBytes(const DeviceOptions& options) noexcept {
  return std::max(options.block_bytes, 1U);
}

/// A ring of requests; each Run() reports those that were there when it began.
///
/// Threading: as ReadQueue; mutex_ guards only what Wake() touches.
class MemoryQueue final : public ReadQueue {
 public:
  MemoryQueue(const Files& files, const DeviceOptions& options)
      : files_(files), options_(options), ring_(options.depth) {}

  [[nodiscard]] std::uint32_t depth() const noexcept override {
    return static_cast<std::uint32_t>(ring_.size());
  }
  [[nodiscard]] std::uint32_t in_flight() const noexcept override { return count_; }

  void Submit(const ReadRequest& request) noexcept override {
    TIERCEL_CHECK(count_ < ring_.size());
    TIERCEL_CHECK(request.file_index < files_.size());
    TIERCEL_CHECK(request.size_bytes > 0 && request.size_bytes <= options_.read_size_bytes_max);
    ring_[(first_ + count_) % ring_.size()] = request;
    ++count_;
  }

  void Flush() noexcept override {}

  void Run(ReadSink& sink, std::chrono::nanoseconds timeout) noexcept override {
    if (count_ == 0) {
      WaitForWake(timeout);
      return;
    }
    for (std::uint32_t left = count_; left > 0; --left) {
      const ReadRequest request = ring_[first_];
      first_ = (first_ + 1) % static_cast<std::uint32_t>(ring_.size());
      --count_;
      sink.OnRead(CompletionOf(request));
    }
  }

  void Wake() noexcept override {
    MutexLock lock(mutex_);
    woken_ = true;
    condition_.NotifyOne();
  }

 private:
  [[nodiscard]] ReadCompletion CompletionOf(const ReadRequest& request) const noexcept {
    const std::vector<std::byte>& file = files_[request.file_index];
    if (request.offset_bytes > file.size() ||
        request.size_bytes > file.size() - request.offset_bytes) {
      return {.tag = request.tag, .os_error = ENODATA};
    }
    const BlockSpan blocks = Widen(request, BlockBytes(options_));
    const std::uint64_t end =
        std::min<std::uint64_t>(blocks.offset_bytes + blocks.size_bytes, file.size());
    return {.tag = request.tag,
            .os_error = 0,
            .bytes = std::span(file).subspan(request.offset_bytes, request.size_bytes),
            .blocks = std::span(file).subspan(blocks.offset_bytes, end - blocks.offset_bytes)};
  }

  void WaitForWake(std::chrono::nanoseconds timeout) noexcept TIERCEL_EXCLUDES(mutex_) {
    const auto deadline = std::chrono::steady_clock::now() + std::min(timeout, kRunTimeoutMax);
    MutexLock lock(mutex_);
    while (!woken_ && condition_.WaitUntil(mutex_, deadline)) {
    }
    woken_ = false;
  }

  const Files& files_;
  const DeviceOptions options_;
  std::vector<ReadRequest> ring_;
  std::uint32_t first_ = 0;
  std::uint32_t count_ = 0;
  Mutex mutex_;
  CondVar condition_;
  bool woken_ TIERCEL_GUARDED_BY(mutex_) = false;
};

/// Threading: immutable.
class MemoryDevice final : public Device {
 public:
  MemoryDevice(Files files, const DeviceOptions& options)
      : files_(std::move(files)), options_(options) {}

  [[nodiscard]] Result<std::unique_ptr<ReadQueue>> NewQueue() override {
    return std::unique_ptr<ReadQueue>(std::make_unique<MemoryQueue>(files_, options_));
  }
  [[nodiscard]] DeviceEngine engine() const noexcept override { return DeviceEngine::kMemory; }
  [[nodiscard]] std::string description() const override { return "memory"; }
  [[nodiscard]] std::uint32_t read_size_bytes_max() const noexcept override {
    return options_.read_size_bytes_max;
  }
  [[nodiscard]] std::uint64_t queue_size_bytes() const noexcept override {
    return sizeof(MemoryQueue) + options_.depth * sizeof(ReadRequest);
  }
  [[nodiscard]] BlockSpan Blocks(const ReadRequest& request) const noexcept override {
    return Widen(request, BlockBytes(options_));
  }

 private:
  const Files files_;
  const DeviceOptions options_;
};

}  // namespace

std::unique_ptr<Device> NewMemoryDevice(std::vector<std::vector<std::byte>> files,
                                        const DeviceOptions& options) {
  TIERCEL_CHECK(CheckDeviceOptions(options).ok());
  return std::make_unique<MemoryDevice>(std::move(files), options);
}

}  // namespace tiercel
