#include "tests/support/fault_device.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/prng.h"

namespace tiercel::testing {
namespace {

using std::chrono::nanoseconds;
using Clock = std::chrono::steady_clock;
using Counter = std::atomic<std::uint64_t>;

void Count(Counter& counter) noexcept {
  counter.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

struct FaultDevice::Shared {
  FaultOptions options;
  std::atomic<bool> enabled{true};
  std::atomic<std::uint32_t> queue_count{0};
  Counter reads{0};
  Counter io_errors{0};
  Counter no_data{0};
  Counter bit_flips{0};
  Counter delays{0};
  Counter reorders{0};
  Counter bad_range_errors{0};
};

namespace {

/// Keeps a copy of each completion until it is reported, so that it can be late, out
/// of order or wrong, and so that a sink that keeps the bytes for too long sees them
/// overwritten.
///
/// Threading: as ReadQueue.
class FaultQueue final : public ReadQueue, private ReadSink {
 public:
  FaultQueue(std::unique_ptr<ReadQueue> queue, FaultDevice::Shared& shared,
             std::uint32_t queue_index, const Device& device)
      : queue_(std::move(queue)),
        shared_(shared),
        device_(device),
        prng_(SplitMix64(shared.options.seed ^ (std::uint64_t{queue_index} << 32))),
        read_size_bytes_max_(device.read_size_bytes_max()),
        // Whole blocks of a read that is not aligned.
        stride_bytes_(read_size_bytes_max_ + 2 * device.Blocks({.size_bytes = 1}).size_bytes),
        // One more than the depth: OnRead() may submit while its own is in use.
        reads_(queue_->depth() + 1),
        bytes_(reads_.size() * stride_bytes_) {
    for (std::uint32_t i = 0; i < reads_.size(); ++i) free_.push_back(i);
    held_.reserve(reads_.size());
    ready_.reserve(reads_.size());
  }

  [[nodiscard]] std::uint32_t depth() const noexcept override { return queue_->depth(); }
  [[nodiscard]] std::uint32_t in_flight() const noexcept override { return in_flight_; }

  void Submit(const ReadRequest& request) noexcept override {
    TIERCEL_CHECK(in_flight_ < depth() && !free_.empty());
    TIERCEL_CHECK(request.size_bytes > 0 && request.size_bytes <= read_size_bytes_max_);
    ++in_flight_;
    Count(shared_.reads);
    const std::uint32_t index = free_.back();
    free_.pop_back();
    Read& read = reads_[index];
    read = Read{.request = request};
    Draw(read);
    if (read.os_error != 0) {
      held_.push_back(index);
      return;
    }
    ReadRequest inner = request;
    inner.tag = index;
    queue_->Submit(inner);
  }

  void Flush() noexcept override { queue_->Flush(); }

  void Run(ReadSink& sink, nanoseconds timeout) noexcept override {
    timeout = std::min<nanoseconds>(timeout, std::chrono::hours(24));
    const Clock::time_point deadline = Clock::now() + timeout;
    while (true) {
      const nanoseconds left = std::max(nanoseconds::zero(), nanoseconds(deadline - Clock::now()));
      // What is held back is due after a number of passes: do not sleep through them.
      const nanoseconds wait = std::min<nanoseconds>(
          left, held_.empty() ? nanoseconds::max() : nanoseconds(std::chrono::microseconds(20)));
      const bool may_be_due =
          std::any_of(held_.begin(), held_.end(), [&](auto i) { return reads_[i].delay == 0; });
      // Wake() sets woken_ before it wakes the queue below: if that one's wake was used
      // up by an earlier pass, it is seen here.
      const bool may_sleep = !may_be_due && !woken_.load();
      queue_->Run(*this, may_sleep ? wait : nanoseconds::zero());
      if (Deliver(sink) > 0) return;
      if (woken_.exchange(false) || left == nanoseconds::zero()) return;
    }
  }

  void Wake() noexcept override {
    woken_.store(true);
    queue_->Wake();
  }

 private:
  struct Read {
    ReadRequest request;
    int os_error = 0;
    bool flip = false;
    std::uint32_t delay = 0;
    std::uint32_t skip_bytes = 0;    ///< Of the blocks, before the request's first byte.
    std::uint32_t blocks_bytes = 0;  ///< That came.
  };

  /// Decides the read's fate. Draws the same number of values whatever comes out, so
  /// that a fault does not shift those after it.
  void Draw(Read& read) noexcept {
    const FaultOptions& options = shared_.options;
    const bool io_error = prng_.Unit() < options.io_error;
    const bool no_data = prng_.Unit() < options.no_data;
    const bool flip = prng_.Unit() < options.bit_flip;
    const bool delay = prng_.Unit() < options.delay;
    const auto delay_runs = static_cast<std::uint32_t>(
        1 + prng_.Below(std::max<std::uint64_t>(1, options.delay_runs_max)));
    if (!shared_.enabled.load(std::memory_order_relaxed)) return;
    if (IsBad(read.request)) {
      read.os_error = EIO;
      Count(shared_.bad_range_errors);
    } else if (io_error) {
      read.os_error = EIO;
      Count(shared_.io_errors);
    } else if (no_data) {
      read.os_error = ENODATA;
      Count(shared_.no_data);
    } else {
      read.flip = flip;
    }
    if (delay) {
      read.delay = delay_runs;
      Count(shared_.delays);
    }
  }

  /// A bad sector spoils every read of its block, whatever the request wants of it.
  [[nodiscard]] bool IsBad(const ReadRequest& request) const noexcept {
    const BlockSpan blocks = device_.Blocks(request);
    return std::any_of(shared_.options.bad_ranges.begin(), shared_.options.bad_ranges.end(),
                       [&](const FaultOptions::BadRange& bad) {
                         return bad.file_index == request.file_index &&
                                blocks.offset_bytes < bad.offset_bytes + bad.size_bytes &&
                                bad.offset_bytes < blocks.offset_bytes + blocks.size_bytes;
                       });
  }

  std::byte* Bytes(std::uint32_t index) noexcept {
    return bytes_.data() + std::size_t{index} * stride_bytes_;
  }

  void OnRead(const ReadCompletion& completion) noexcept override {
    const auto index = static_cast<std::uint32_t>(completion.tag);
    Read& read = reads_[index];
    read.os_error = completion.os_error;
    if (completion.os_error == 0) {
      TIERCEL_CHECK(completion.blocks.size() <= stride_bytes_);
      std::memcpy(Bytes(index), completion.blocks.data(), completion.blocks.size());
      read.skip_bytes =
          static_cast<std::uint32_t>(completion.bytes.data() - completion.blocks.data());
      read.blocks_bytes = static_cast<std::uint32_t>(completion.blocks.size());
      if (read.flip) {
        // By the request, not by the stream: completions come in any order.
        const std::uint64_t bit = SplitMix64(read.request.offset_bytes ^ shared_.options.seed) %
                                  (completion.bytes.size() * 8);
        Bytes(index)[read.skip_bytes + bit / 8] ^= std::byte(1U << (bit % 8));
        Count(shared_.bit_flips);
      }
    }
    held_.push_back(index);
  }

  /// Reports what is due. Returns how many.
  std::size_t Deliver(ReadSink& sink) noexcept {
    ready_.clear();
    std::size_t kept = 0;
    for (const std::uint32_t index : held_) {
      if (reads_[index].delay > 0) {
        --reads_[index].delay;
        held_[kept++] = index;
      } else {
        ready_.push_back(index);
      }
    }
    held_.resize(kept);
    if (shared_.options.reorder && shared_.enabled.load(std::memory_order_relaxed)) {
      for (std::size_t i = ready_.size(); i > 1; --i) {
        const auto other = static_cast<std::size_t>(prng_order_.Below(i));
        if (other != i - 1) Count(shared_.reorders);
        std::swap(ready_[i - 1], ready_[other]);
      }
    }
    for (const std::uint32_t index : ready_) {
      const Read& read = reads_[index];
      --in_flight_;
      ReadCompletion completion{.tag = read.request.tag, .os_error = read.os_error};
      if (read.os_error == 0) {
        completion.blocks = {Bytes(index), read.blocks_bytes};
        completion.bytes = completion.blocks.subspan(read.skip_bytes, read.request.size_bytes);
      }
      sink.OnRead(completion);
      // Bytes that a sink looks at after OnRead() are not what it hopes for.
      std::memset(Bytes(index), 0xDB, read.blocks_bytes);
      free_.push_back(index);
    }
    return ready_.size();
  }

  std::unique_ptr<ReadQueue> queue_;
  FaultDevice::Shared& shared_;
  const Device& device_;
  Prng prng_;
  Prng prng_order_{7};
  const std::uint32_t read_size_bytes_max_;
  const std::size_t stride_bytes_;
  std::vector<Read> reads_;
  std::vector<std::byte> bytes_;
  std::vector<std::uint32_t> free_;
  std::vector<std::uint32_t> held_;   ///< Done below, not reported yet.
  std::vector<std::uint32_t> ready_;  ///< Being reported.
  std::uint32_t in_flight_ = 0;
  std::atomic<bool> woken_{false};
};

}  // namespace

FaultDevice::FaultDevice(std::unique_ptr<Device> device, FaultOptions options)
    : ForwardingDevice(std::move(device)), shared_(std::make_unique<Shared>()) {
  shared_->options = std::move(options);
}

FaultDevice::~FaultDevice() = default;

void FaultDevice::set_enabled(bool enabled) noexcept {
  shared_->enabled.store(enabled);
}

std::function<FaultCounts()> FaultDevice::counter() const {
  return [shared = shared_]() -> FaultCounts {
    return {.reads = shared->reads.load(),
            .io_errors = shared->io_errors.load(),
            .no_data = shared->no_data.load(),
            .bit_flips = shared->bit_flips.load(),
            .delays = shared->delays.load(),
            .reorders = shared->reorders.load(),
            .bad_range_errors = shared->bad_range_errors.load()};
  };
}

Result<std::unique_ptr<ReadQueue>> FaultDevice::NewQueue() {
  Result<std::unique_ptr<ReadQueue>> queue = device_->NewQueue();
  if (!queue.ok()) return std::move(queue).TakeStatus();
  return std::unique_ptr<ReadQueue>(std::make_unique<FaultQueue>(
      std::move(queue).value(), *shared_, shared_->queue_count.fetch_add(1), *device_));
}

std::string FaultDevice::description() const {
  return "faults over " + device_->description();
}

}  // namespace tiercel::testing
