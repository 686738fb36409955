#include "tests/store/held_device.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "base/check.h"

namespace tiercel::testing {
namespace {

/// Keeps a copy of each completion until it may be reported.
///
/// Threading: as ReadQueue.
class HeldQueue final : public ReadQueue, private ReadSink {
 public:
  HeldQueue(std::unique_ptr<ReadQueue> queue, Hold& hold) : queue_(std::move(queue)), hold_(hold) {}

  [[nodiscard]] std::uint32_t depth() const noexcept override { return queue_->depth(); }
  [[nodiscard]] std::uint32_t in_flight() const noexcept override { return in_flight_; }

  void Submit(const ReadRequest& request) noexcept override {
    TIERCEL_CHECK(in_flight_ < depth());
    ++in_flight_;
    hold_.in_flight.fetch_add(1);
    requests_.push_back(request);
    ReadRequest inner = request;
    inner.tag = requests_.size() - 1;
    queue_->Submit(inner);
  }

  void Flush() noexcept override { queue_->Flush(); }

  void Run(ReadSink& sink, std::chrono::nanoseconds timeout) noexcept override {
    const bool due = released_.load() && !held_.empty();
    queue_->Run(*this, due ? std::chrono::nanoseconds::zero() : timeout);
    if (!released_.load()) return;  // After a wake or a completion, which is kept.
    for (Held& held : std::exchange(held_, {})) {
      --in_flight_;
      hold_.in_flight.fetch_sub(1);
      if (held.completion.os_error == 0) {
        held.completion.blocks = held.blocks;
        held.completion.bytes = held.completion.blocks.subspan(held.skip_bytes, held.size_bytes);
      }
      sink.OnRead(held.completion);
    }
  }

  void Wake() noexcept override {
    if (hold_.closing.load()) released_.store(true);
    queue_->Wake();
  }

 private:
  struct Held {
    ReadCompletion completion;
    std::vector<std::byte> blocks;
    std::size_t skip_bytes = 0;
    std::size_t size_bytes = 0;
  };

  void OnRead(const ReadCompletion& completion) noexcept override {
    Held held{
        .completion = {.tag = requests_[completion.tag].tag, .os_error = completion.os_error}};
    held.blocks.assign(completion.blocks.begin(), completion.blocks.end());
    if (completion.os_error == 0) {
      held.skip_bytes =
          static_cast<std::size_t>(completion.bytes.data() - completion.blocks.data());
    }
    held.size_bytes = completion.bytes.size();
    held_.push_back(std::move(held));
  }

  std::unique_ptr<ReadQueue> queue_;
  Hold& hold_;
  std::vector<ReadRequest> requests_;  ///< By the inner tag; a held queue has few.
  std::vector<Held> held_;
  std::uint32_t in_flight_ = 0;
  std::atomic<bool> released_{false};
};

}  // namespace

Result<std::unique_ptr<ReadQueue>> HeldDevice::NewQueue() {
  Result<std::unique_ptr<ReadQueue>> queue = device_->NewQueue();
  if (!queue.ok()) return std::move(queue).TakeStatus();
  return std::unique_ptr<ReadQueue>(std::make_unique<HeldQueue>(std::move(queue).value(), hold_));
}

}  // namespace tiercel::testing
