// Goal: every engine keeps the contract of io/device.h, so that the store can tell
//       none from another: io_uring, pread, memory, and the fault device without faults.
// Method: one suite, run for each of them over the same files, whose every byte is a
//       function of (file, offset). Sizes of the files are no multiple of any block.
//       A seed is printed; TIERCEL_TEST_SEED repeats it.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <semaphore>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "io/device.h"
#include "tests/io/device_test_support.h"
#include "tests/support/fault_device.h"
#include "tests/support/scratch_dir.h"

namespace tiercel::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

enum class Kind {
  kUring,
  kUringBuffered,
  kUringSubmissionPoll,
  kUringIoPoll,
  kPread,
  kPreadBuffered,
  kMemory,
  kMemoryBlocks,
  kFaultless,
};

std::string KindName(const ::testing::TestParamInfo<Kind>& info) {
  switch (info.param) {
    case Kind::kUring:
      return "Uring";
    case Kind::kUringBuffered:
      return "UringBuffered";
    case Kind::kUringSubmissionPoll:
      return "UringSubmissionPoll";
    case Kind::kUringIoPoll:
      return "UringIoPoll";
    case Kind::kPread:
      return "Pread";
    case Kind::kPreadBuffered:
      return "PreadBuffered";
    case Kind::kMemory:
      return "Memory";
    case Kind::kMemoryBlocks:
      return "MemoryBlocks";
    case Kind::kFaultless:
      return "Faultless";
  }
  return "unknown";
}

class DeviceContractTest : public ::testing::TestWithParam<Kind> {
 protected:
  /// A device over files of `sizes`; null and a skip if the kernel has no io_uring.
  std::unique_ptr<Device> Open(const std::vector<std::uint64_t>& sizes, DeviceOptions options) {
    std::vector<std::vector<std::byte>> contents;
    std::vector<std::string> paths;
    for (std::uint32_t file = 0; file < sizes.size(); ++file) {
      contents.push_back(PatternBytes(file, 0, sizes[file]));
      if (in_memory()) continue;
      paths.push_back(scratch_.Write(
          "file" + std::to_string(file),
          {reinterpret_cast<const char*>(contents.back().data()), contents.back().size()}));
    }
    options.direct = GetParam() != Kind::kUringBuffered && GetParam() != Kind::kPreadBuffered;
    options.submission_poll = GetParam() == Kind::kUringSubmissionPoll;
    options.io_poll = GetParam() == Kind::kUringIoPoll;
    if (GetParam() == Kind::kMemoryBlocks) options.block_bytes = 64;
    switch (GetParam()) {
      case Kind::kUring:
      case Kind::kUringBuffered:
      case Kind::kUringSubmissionPoll:
      case Kind::kUringIoPoll:
        return Take(OpenUringDevice(paths, options));
      case Kind::kPread:
      case Kind::kPreadBuffered:
        return Take(OpenPreadDevice(paths, options));
      case Kind::kMemory:
      case Kind::kMemoryBlocks:
        return NewMemoryDevice(std::move(contents), options);
      case Kind::kFaultless:
        return std::make_unique<FaultDevice>(NewMemoryDevice(std::move(contents), options),
                                             FaultOptions{});
    }
    return nullptr;
  }

  static std::unique_ptr<ReadQueue> NewQueue(Device& device) {
    Result<std::unique_ptr<ReadQueue>> queue = device.NewQueue();
    if (!queue.ok()) {
      ADD_FAILURE() << queue.status().ToString();
      return nullptr;
    }
    return std::move(queue).value();
  }

  static bool in_memory() {
    return GetParam() == Kind::kMemory || GetParam() == Kind::kMemoryBlocks ||
           GetParam() == Kind::kFaultless;
  }

  ScratchDir scratch_;

 private:
  std::unique_ptr<Device> Take(Result<std::unique_ptr<Device>> device) {
    if (device.ok()) return std::move(device).value();
    skip_reason_ = device.status().ToString();
    // Few disks can be polled, and the device says so instead of failing each read.
    const bool unpolled =
        GetParam() == Kind::kUringIoPoll && device.status().os_error() == EOPNOTSUPP;
    if (device.status().code() != StatusCode::kUnavailable && !unpolled) {
      ADD_FAILURE() << skip_reason_;
    }
    return nullptr;
  }

 protected:
  std::string skip_reason_;
};

#define OPEN_OR_SKIP(device, ...)                     \
  std::unique_ptr<Device> device = Open(__VA_ARGS__); \
  if (device == nullptr) GTEST_SKIP() << "not to be had here: " << skip_reason_

/// Submits requests one by one and checks each completion against the pattern.
class CheckingSink final : public ReadSink {
 public:
  CheckingSink(ReadQueue& queue, std::vector<std::uint64_t> file_sizes,
               const Device* device = nullptr)
      : queue_(queue), file_sizes_(std::move(file_sizes)), device_(device) {}

  /// REQUIRES: tags are distinct among those in flight.
  void Submit(const ReadRequest& request) {
    open_.emplace(request.tag, request);
    queue_.Submit(request);
  }

  void OnRead(const ReadCompletion& completion) noexcept override {
    ++completed;
    const auto found = open_.find(completion.tag);
    ASSERT_NE(found, open_.end()) << "tag " << completion.tag << " came twice or from nowhere";
    const ReadRequest request = found->second;
    open_.erase(found);
    EXPECT_EQ(queue_.in_flight(), open_.size());
    const std::uint64_t size_bytes = file_sizes_[request.file_index];
    const bool in_file = request.offset_bytes <= size_bytes &&
                         request.size_bytes <= size_bytes - request.offset_bytes;
    if (in_file) {
      ASSERT_EQ(completion.os_error, 0) << request.offset_bytes << " " << request.size_bytes;
      ASSERT_EQ(completion.bytes.size(), request.size_bytes);
      EXPECT_TRUE(IsPattern(request.file_index, request.offset_bytes, completion.bytes))
          << request.offset_bytes << " " << request.size_bytes;
      if (device_ != nullptr) CheckBlocks(request, completion);
    } else {
      ++past_end;
      EXPECT_EQ(completion.os_error, ENODATA) << request.offset_bytes << " " << request.size_bytes;
      EXPECT_TRUE(completion.bytes.empty());
      EXPECT_TRUE(completion.blocks.empty());
    }
    if (refill) refill();
  }

  /// Runs until nothing is in flight.
  void Drain() {
    while (queue_.in_flight() > 0) queue_.Run(*this, seconds(10));
  }

  std::uint64_t completed = 0;
  std::uint64_t past_end = 0;
  std::function<void()> refill;

 private:
  /// The blocks are the file's bytes too, and end where they say or where the file does.
  void CheckBlocks(const ReadRequest& request, const ReadCompletion& completion) const {
    const BlockSpan blocks = device_->Blocks(request);
    EXPECT_EQ(completion.blocks.data() + blocks.skip_bytes, completion.bytes.data());
    EXPECT_EQ(completion.blocks.size(),
              std::min<std::uint64_t>(blocks.size_bytes,
                                      file_sizes_[request.file_index] - blocks.offset_bytes));
    EXPECT_TRUE(IsPattern(request.file_index, blocks.offset_bytes, completion.blocks));
  }

  ReadQueue& queue_;
  const std::vector<std::uint64_t> file_sizes_;
  const Device* const device_;  ///< Null: blocks are not looked at.
  std::unordered_map<std::uint64_t, ReadRequest> open_;
};

TEST_P(DeviceContractTest, ReadsAnyAlignmentAndSizeUpToTheEndOfTheFile) {
  constexpr std::uint64_t kSize = 3 * 4096 + 1234;
  OPEN_OR_SKIP(device, {kSize}, {.depth = 16, .read_size_bytes_max = 9000});
  const auto queue = NewQueue(*device);
  CheckingSink sink(*queue, {kSize}, device.get());
  std::uint64_t tag = 0;
  const auto read = [&](std::uint64_t offset_bytes, std::uint32_t size_bytes) {
    while (queue->in_flight() == queue->depth()) queue->Run(sink, seconds(10));
    sink.Submit({.size_bytes = size_bytes, .offset_bytes = offset_bytes, .tag = tag++});
  };
  for (const std::uint64_t base : {0U, 511U, 512U, 4095U, 4096U, 4097U, 8191U, 12288U}) {
    for (const std::uint32_t size : {1U, 2U, 264U, 511U, 512U, 513U, 4095U, 4096U, 4097U, 9000U}) {
      read(base, size);
    }
  }
  // Around the end, which is not at a block: just inside, just outside, far outside.
  for (std::uint32_t size = 1; size <= 1300; size += 13) {
    read(kSize - size, size);
    read(kSize - size + 1, size);
  }
  read(kSize, 1);
  read(kSize + 1'000'000, 264);
  read(std::numeric_limits<std::uint64_t>::max() - 100, 264);
  read(std::uint64_t{1} << 63, 264);
  read((std::uint64_t{1} << 63) - 100, 264);
  sink.Drain();
  EXPECT_EQ(sink.completed, tag);
  EXPECT_GE(sink.past_end, 100U);
}

TEST_P(DeviceContractTest, ReadsOfOneMebibyte) {
  constexpr std::uint32_t kMebibyte = 1U << 20;
  OPEN_OR_SKIP(device, {3 * kMebibyte + 1}, {.depth = 2, .read_size_bytes_max = kMebibyte});
  EXPECT_EQ(device->read_size_bytes_max(), kMebibyte);
  const auto queue = NewQueue(*device);
  CheckingSink sink(*queue, {3 * kMebibyte + 1});
  sink.Submit({.size_bytes = kMebibyte, .offset_bytes = 4095, .tag = 1});
  sink.Submit({.size_bytes = kMebibyte, .offset_bytes = 2 * kMebibyte + 1, .tag = 2});
  sink.Drain();
  EXPECT_EQ(sink.completed, 2U);
  EXPECT_EQ(sink.past_end, 0U);
}

TEST_P(DeviceContractTest, ReadSizeCountsWholeBlocks) {
  OPEN_OR_SKIP(device, {100'000}, {});
  for (const std::uint64_t offset : {0U, 1U, 4000U, 4096U, 8191U}) {
    const std::uint64_t size =
        device->Blocks({.size_bytes = 264, .offset_bytes = offset}).size_bytes;
    EXPECT_GE(size, 264U);
    EXPECT_LE(size, 2U * 65536);
    if (GetParam() == Kind::kMemory || GetParam() == Kind::kFaultless) {
      EXPECT_EQ(size, 264U);
    }
  }
  EXPECT_GT(device->queue_size_bytes(), 0U);
  EXPECT_FALSE(device->description().empty());
}

TEST_P(DeviceContractTest, HundredThousandRandomReadsOverManyFilesRefilledFromOnRead) {
  constexpr std::uint64_t kReads = 100'000;
  const std::uint64_t seed = TestSeed();
  SCOPED_TRACE("TIERCEL_TEST_SEED=" + std::to_string(seed));
  Prng prng(seed);
  std::vector<std::uint64_t> sizes;
  for (int i = 0; i < 40; ++i) sizes.push_back(10'000 + prng.Below(100'000));
  OPEN_OR_SKIP(device, sizes, {.depth = 64, .read_size_bytes_max = 4096});
  const auto queue = NewQueue(*device);
  CheckingSink sink(*queue, sizes);
  std::uint64_t submitted = 0;
  sink.refill = [&] {
    while (submitted < kReads && queue->in_flight() < queue->depth()) {
      const auto file = static_cast<std::uint32_t>(prng.Below(sizes.size()));
      const auto size = static_cast<std::uint32_t>(1 + prng.Below(4096));
      // One in about 40 goes past the end.
      sink.Submit({.file_index = file,
                   .size_bytes = size,
                   .offset_bytes = prng.Below(sizes[file] - 1000),
                   .tag = submitted++});
    }
  };
  sink.refill();
  EXPECT_EQ(queue->in_flight(), queue->depth());
  sink.Drain();
  EXPECT_EQ(sink.completed, kReads);
  EXPECT_GT(sink.past_end, 0U);
  EXPECT_LT(sink.past_end, kReads / 4);
}

TEST_P(DeviceContractTest, DepthOfOneTakesARefillWhileItsOnlyReadIsReported) {
  OPEN_OR_SKIP(device, {50'000}, {.depth = 1, .read_size_bytes_max = 512});
  const auto queue = NewQueue(*device);
  EXPECT_EQ(queue->depth(), 1U);
  CheckingSink sink(*queue, {50'000});
  std::uint64_t submitted = 0;
  sink.refill = [&] {
    if (submitted == 500) return;
    sink.Submit({.size_bytes = 264, .offset_bytes = submitted * 99, .tag = submitted});
    ++submitted;
    EXPECT_EQ(queue->in_flight(), 1U);
  };
  sink.refill();
  sink.Drain();
  EXPECT_EQ(sink.completed, 500U);
}

TEST_P(DeviceContractTest, BytesStayAsTheyAreUntilOnReadReturns) {
  OPEN_OR_SKIP(device, {50'000}, {.depth = 1, .read_size_bytes_max = 512});
  const auto queue = NewQueue(*device);
  // Refills first and compares afterwards: the refill must not take the same buffer.
  class Sink final : public ReadSink {
   public:
    explicit Sink(ReadQueue& queue) : queue_(queue) {}
    void OnRead(const ReadCompletion& completion) noexcept override {
      const std::uint64_t offset = completion.tag;
      if (count_++ < 100) {
        queue_.Submit({.size_bytes = 264, .offset_bytes = offset + 300, .tag = offset + 300});
      }
      good_ += IsPattern(0, offset, completion.bytes) ? 1 : 0;
    }
    int count_ = 0;
    int good_ = 0;

   private:
    ReadQueue& queue_;
  };
  Sink sink(*queue);
  queue->Submit({.size_bytes = 264, .offset_bytes = 0, .tag = 0});
  while (queue->in_flight() > 0) queue->Run(sink, seconds(10));
  EXPECT_EQ(sink.count_, 101);
  EXPECT_EQ(sink.good_, 101);
}

TEST_P(DeviceContractTest, RunWithNothingInFlightReturnsAfterTheTimeout) {
  OPEN_OR_SKIP(device, {5000}, {});
  const auto queue = NewQueue(*device);
  CheckingSink sink(*queue, {5000});
  const auto begin = std::chrono::steady_clock::now();
  queue->Run(sink, milliseconds(20));
  // Not sooner; how much later is the scheduler's affair.
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(20));
  queue->Run(sink, milliseconds(0));
  EXPECT_EQ(sink.completed, 0U);
}

TEST_P(DeviceContractTest, RunSleepsWhileItWaits) {
  OPEN_OR_SKIP(device, {5000}, {});
  const auto queue = NewQueue(*device);
  CheckingSink sink(*queue, {5000});
  const auto begin = ThreadCpuTime();
  queue->Run(sink, milliseconds(300));
  // A thread that spins would use all of the 300 ms.
  EXPECT_LT(ThreadCpuTime() - begin, milliseconds(100));
}

TEST_P(DeviceContractTest, WakeBeforeRunIsNotLost) {
  OPEN_OR_SKIP(device, {5000}, {});
  const auto queue = NewQueue(*device);
  CheckingSink sink(*queue, {5000});
  for (int i = 0; i < 100; ++i) {
    queue->Wake();
    queue->Run(sink, std::chrono::hours(1));  // Hangs if the wake is lost.
  }
}

TEST_P(DeviceContractTest, WakeFromAnotherThreadEndsTheWait) {
  constexpr int kRounds = 2000;
  OPEN_OR_SKIP(device, {5000}, {.depth = 4});
  const auto queue = NewQueue(*device);
  CheckingSink sink(*queue, {5000});
  std::atomic<int> work{0};
  std::binary_semaphore taken{0};
  std::thread waker([&] {
    for (int i = 1; i <= kRounds; ++i) {
      work.store(i);
      queue->Wake();
      taken.acquire();
    }
  });
  int seen = 0;
  std::uint64_t reads = 0;
  while (seen < kRounds) {
    if (work.load() == seen) {
      // Hangs if a wake is lost; some rounds have a read under way as well.
      queue->Run(sink, std::chrono::hours(1));
      continue;
    }
    seen = work.load();
    if (seen % 3 == 0 && queue->in_flight() < queue->depth()) {
      sink.Submit({.size_bytes = 100, .offset_bytes = 7, .tag = reads++});
    }
    taken.release();
  }
  waker.join();
  sink.Drain();
  EXPECT_EQ(sink.completed, reads);
}

TEST_P(DeviceContractTest, DestroysQueuesWithReadsInFlight) {
  constexpr std::uint64_t kSize = 1 << 20;
  // pread makes and joins its threads each time: fewer rounds.
  const bool pread = GetParam() == Kind::kPread || GetParam() == Kind::kPreadBuffered;
  const std::uint64_t rounds = pread ? 250 : 1000;
  OPEN_OR_SKIP(device, {kSize}, {.depth = 8, .read_size_bytes_max = 4096});
  Prng prng(TestSeed());
  std::ptrdiff_t descriptors = 0;
  std::uint64_t in_flight = 0;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    if (round == 1) descriptors = OpenDescriptors();  // What one round leaves, all may leave.
    const auto queue = NewQueue(*device);
    ASSERT_NE(queue, nullptr);
    CheckingSink sink(*queue, {kSize});
    for (std::uint64_t tag = 0; tag < 8; ++tag) {
      sink.Submit({.size_bytes = 4096, .offset_bytes = prng.Below(kSize - 4096), .tag = tag});
    }
    // Some queues go with reads that the kernel never saw, some with reads under way.
    if (round % 4 != 0) queue->Run(sink, milliseconds(0));
    if (round % 4 == 2 && queue->in_flight() > 0) queue->Run(sink, seconds(10));
    in_flight += queue->in_flight();
  }
  EXPECT_GE(in_flight, rounds / 4 * 8);  // Of the rounds that the kernel never saw alone.
  EXPECT_EQ(OpenDescriptors(), descriptors);
}

TEST_P(DeviceContractTest, QueueIsMadeHereUsedThereAndDestroyedHere) {
  constexpr std::uint64_t kSize = 1 << 20;
  OPEN_OR_SKIP(device, {kSize}, {.depth = 8, .read_size_bytes_max = 4096});
  for (int round = 0; round < 20; ++round) {
    auto queue = NewQueue(*device);
    ASSERT_NE(queue, nullptr);
    std::thread owner([&] {
      CheckingSink sink(*queue, {kSize});
      for (std::uint64_t tag = 0; tag < 100; ++tag) {
        while (queue->in_flight() == queue->depth()) queue->Run(sink, seconds(10));
        sink.Submit({.size_bytes = 1000, .offset_bytes = tag * 1001, .tag = tag});
      }
      // Every other round leaves reads under way.
      if (round % 2 == 0) sink.Drain();
    });
    owner.join();
    queue.reset();
  }
}

TEST_P(DeviceContractTest, QueuesOfManyThreadsDoNotDisturbEachOther) {
  constexpr std::uint64_t kSize = 1 << 20;
  OPEN_OR_SKIP(device, {kSize}, {.depth = 8, .read_size_bytes_max = 4096});
  std::vector<std::thread> threads;
  std::atomic<std::uint64_t> completed{0};
  for (std::uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const auto queue = NewQueue(*device);
      CheckingSink sink(*queue, {kSize});
      Prng prng(TestSeed() + t);
      for (std::uint64_t tag = 0; tag < 2000; ++tag) {
        while (queue->in_flight() == queue->depth()) queue->Run(sink, seconds(10));
        sink.Submit({.size_bytes = 264, .offset_bytes = prng.Below(kSize - 264), .tag = tag});
      }
      sink.Drain();
      completed += sink.completed;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(completed.load(), 4U * 2000);
}

INSTANTIATE_TEST_SUITE_P(Engines, DeviceContractTest,
                         ::testing::Values(Kind::kUring, Kind::kUringBuffered,
                                           Kind::kUringSubmissionPoll, Kind::kUringIoPoll,
                                           Kind::kPread, Kind::kPreadBuffered, Kind::kMemory,
                                           Kind::kMemoryBlocks, Kind::kFaultless),
                         KindName);

}  // namespace
}  // namespace tiercel::testing
