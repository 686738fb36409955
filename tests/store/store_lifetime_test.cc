// Goal: a store can be destroyed while its reads are in flight: it waits for them, lets
// none of them touch memory that is gone or is the caller's again, and leaves no file
// open. 1,000 times in all, io_uring and pread.
//
// Method: a lookup that is refused in its second window leaves the reads of its first in
// flight, with nobody who waits for them. A HeldDevice keeps them there until the store's
// destructor has begun. ASan, LeakSanitizer and TSan see the rest. What the readers of a
// shared cache are told of the end is looked at by the queues, as they go.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "io/device.h"
#include "store/store_impl.h"
#include "tests/store/held_device.h"
#include "tests/support/forwarding_device.h"
#include "tests/support/made_checkpoint.h"
#include "tiercel/shared_cache.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

constexpr int kRounds = 500;  // Two engines: 1,000 stores.

/// More than the 512 groups of a lookup's first window, at 3 orders a token.
constexpr std::size_t kTokensOfAWindow = 171;

std::ptrdiff_t OpenDescriptors() {
  const std::filesystem::directory_iterator files("/proc/self/fd");
  return std::distance(begin(files), end(files));
}

class StoreLifetimeTest : public ::testing::TestWithParam<DeviceEngine> {
 protected:
  Result<std::unique_ptr<Store>> Open(const StoreOptions& options, Hold& hold) {
    return OpenStoreOn(
        made_.info(), options,
        [&](const std::vector<std::string>& paths,
            const DeviceOptions& device) -> Result<OpenedDevice> {
          auto base = GetParam() == DeviceEngine::kUring ? OpenUringDevice(paths, device)
                                                         : OpenPreadDevice(paths, device);
          if (!base.ok()) return std::move(base).TakeStatus();
          return OpenedDevice{.device = std::make_unique<HeldDevice>(std::move(base).value(), hold),
                              .fallback_reason = ""};
        });
  }

  const MadeCheckpoint made_{MadeCheckpoint::Options{}};
};

TEST_P(StoreLifetimeTest, DestroyedWithReadsInFlight) {
  Prng prng(1);
  std::vector<std::int32_t> tokens = made_.RandomTokens(1, kTokensOfAWindow + 8);
  tokens.back() = 1 << 30;  // No token: what comes after the first window is refused.
  const TokenRun run = {.history = {}, .tokens = tokens};
  const std::size_t row_count = tokens.size() * made_.info().recipe.column_count();
  std::vector<std::byte> rows(row_count * made_.info().layers[0].shape.row_size_bytes());
  std::vector<RowStatus> row_status(row_count);
  const LayerOutput output = {.layer_id = 1, .rows = rows, .row_status = row_status};
  std::ptrdiff_t descriptors = 0;
  std::uint64_t in_flight = 0;
  for (int round = 0; round < kRounds; ++round) {
    if (round == 1) descriptors = OpenDescriptors();  // What one round leaves, all may leave.
    StoreOptions options;
    options.dram_budget_bytes = std::uint64_t{16} << 20;
    options.io_thread_count = static_cast<std::uint32_t>(1 + prng.Below(2));
    options.queue_depth = static_cast<std::uint32_t>(1 + prng.Below(16));
    options.scales = ScalePlacement::kDisk;
    options.log = [](std::string_view /*line*/) {};
    Hold hold;
    Result<std::unique_ptr<Store>> store = Open(options, hold);
    if (!store.ok() && store.status().code() == StatusCode::kUnavailable) {
      GTEST_SKIP() << "no io_uring here: " << store.status().ToString();
    }
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    // The lookup may be over before an I/O thread has taken one of its fetches.
    while (hold.in_flight.load() == 0) {
      ASSERT_EQ(store.value()->Lookup({&run, 1}, {&output, 1}).code(),
                StatusCode::kInvalidArgument);
      std::this_thread::yield();
    }
    in_flight += hold.in_flight.load();
    std::memset(rows.data(), 0xC5, rows.size());
    hold.closing.store(true);
    std::move(store).value().reset();
    ASSERT_EQ(hold.in_flight.load(), 0U);
    ASSERT_TRUE(rows[0] == std::byte{0xC5} &&
                std::memcmp(rows.data(), rows.data() + 1, rows.size() - 1) == 0)
        << "a read wrote to the caller's memory after its lookup was refused";
  }
  EXPECT_GE(in_flight, static_cast<std::uint64_t>(kRounds));
  EXPECT_EQ(OpenDescriptors(), descriptors);
}

/// Says when it goes, with the I/O thread that it is of.
class PartingQueue final : public ReadQueue {
 public:
  PartingQueue(std::unique_ptr<ReadQueue> queue, std::function<void()> parting)
      : queue_(std::move(queue)), parting_(std::move(parting)) {}
  ~PartingQueue() override { parting_(); }

  [[nodiscard]] std::uint32_t depth() const noexcept override { return queue_->depth(); }
  [[nodiscard]] std::uint32_t in_flight() const noexcept override { return queue_->in_flight(); }
  void Submit(const ReadRequest& request) noexcept override { queue_->Submit(request); }
  void Flush() noexcept override { queue_->Flush(); }
  void Run(ReadSink& sink, std::chrono::nanoseconds timeout) noexcept override {
    queue_->Run(sink, timeout);
  }
  void Wake() noexcept override { queue_->Wake(); }

 private:
  std::unique_ptr<ReadQueue> queue_;
  std::function<void()> parting_;
};

class PartingDevice final : public ForwardingDevice {
 public:
  PartingDevice(std::unique_ptr<Device> device, std::function<void()> parting)
      : ForwardingDevice(std::move(device)), parting_(std::move(parting)) {}

  [[nodiscard]] Result<std::unique_ptr<ReadQueue>> NewQueue() override {
    Result<std::unique_ptr<ReadQueue>> queue = device_->NewQueue();
    if (!queue.ok()) return std::move(queue).TakeStatus();
    return std::unique_ptr<ReadQueue>(
        std::make_unique<PartingQueue>(std::move(queue).value(), parting_));
  }

 private:
  std::function<void()> parting_;
};

TEST(SharedStoreLifetimeTest, ItsCacheIsToldClosedWhenNobodyInsertsAnyMore) {
  const MadeCheckpoint made({});
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{16} << 20;
  options.io_thread_count = 2;
  options.scales = ScalePlacement::kDisk;
  options.memory.shared = true;
  options.log = [](std::string_view /*line*/) {};
  std::optional<SharedCache> cache;
  std::atomic<int> open = 0;
  std::atomic<int> closed = 0;
  const auto parting = [&] { ++(cache.has_value() && cache->WriterClosed() ? closed : open); };
  Result<std::unique_ptr<Store>> store =
      OpenStoreOn(made.info(), options,
                  [&](const std::vector<std::string>& paths,
                      const DeviceOptions& device) -> Result<OpenedDevice> {
                    Result<std::unique_ptr<Device>> base = OpenPreadDevice(paths, device);
                    if (!base.ok()) return std::move(base).TakeStatus();
                    return OpenedDevice{
                        .device = std::make_unique<PartingDevice>(std::move(base).value(), parting),
                        .fallback_reason = ""};
                  });
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  const Result<int> descriptor = store.value()->ShareCache();
  ASSERT_TRUE(descriptor.ok());
  Result<SharedCache> opened = SharedCache::Open(descriptor.value(), made.info());
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  cache.emplace(std::move(opened).value());
  std::move(store).value().reset();
  EXPECT_TRUE(cache->WriterClosed());
  EXPECT_EQ(open.load(), 2);
  EXPECT_EQ(closed.load(), 0);
}

INSTANTIATE_TEST_SUITE_P(Engines, StoreLifetimeTest,
                         ::testing::Values(DeviceEngine::kUring, DeviceEngine::kPread),
                         [](const auto& test) {
                           return test.param == DeviceEngine::kUring ? "Uring" : "Pread";
                         });

}  // namespace
}  // namespace tiercel::testing
