// Goal: the fault device does what it says, so that tests that lean on it mean
//       something: the same seed gives the same faults, each kind happens and is
//       counted, and it can be switched off.
// Method: over a memory device, all reads one after another or a full queue at a time.

#include "tests/support/fault_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "io/device.h"
#include "tests/io/device_test_support.h"

namespace tiercel::testing {
namespace {

constexpr std::uint64_t kFileSize = 1 << 20;
constexpr std::uint32_t kReadSize = 264;

std::unique_ptr<FaultDevice> Make(const FaultOptions& options, std::uint32_t depth = 16) {
  std::vector<std::vector<std::byte>> files;
  files.push_back(PatternBytes(0, 0, kFileSize));
  return std::make_unique<FaultDevice>(
      NewMemoryDevice(std::move(files), {.depth = depth, .read_size_bytes_max = kReadSize}),
      options);
}

struct Outcome {
  int os_error = 0;
  bool is_pattern = false;
  bool operator==(const Outcome&) const = default;
};

/// Reads rows 0, 1, 2, ... and keeps what became of each, and in which order.
class Recorder final : public ReadSink {
 public:
  explicit Recorder(std::uint32_t read_count) : outcomes(read_count) {}

  void OnRead(const ReadCompletion& completion) noexcept override {
    order.push_back(completion.tag);
    outcomes[completion.tag] = {
        .os_error = completion.os_error,
        .is_pattern =
            completion.os_error == 0 && IsPattern(0, completion.tag * kReadSize, completion.bytes)};
  }

  std::vector<Outcome> outcomes;
  std::vector<std::uint64_t> order;
};

Recorder ReadAll(Device& device, std::uint32_t read_count) {
  Recorder recorder(read_count);
  auto queue = device.NewQueue();
  EXPECT_TRUE(queue.ok());
  for (std::uint64_t tag = 0; tag < read_count; ++tag) {
    while (queue.value()->in_flight() == queue.value()->depth()) {
      queue.value()->Run(recorder, std::chrono::seconds(10));
    }
    queue.value()->Submit({.size_bytes = kReadSize, .offset_bytes = tag * kReadSize, .tag = tag});
  }
  while (queue.value()->in_flight() > 0) {
    queue.value()->Run(recorder, std::chrono::seconds(10));
  }
  EXPECT_EQ(recorder.order.size(), read_count);
  return recorder;
}

const FaultOptions kAll = {
    .seed = 42, .io_error = 0.05, .no_data = 0.05, .bit_flip = 0.05, .delay = 0.2, .reorder = true};

TEST(FaultDeviceTest, SameSeedSameFaults) {
  const auto first = Make(kAll);
  const auto second = Make(kAll);
  const Recorder a = ReadAll(*first, 2000);
  const Recorder b = ReadAll(*second, 2000);
  EXPECT_EQ(a.outcomes, b.outcomes);
  EXPECT_EQ(a.order, b.order);

  FaultOptions other = kAll;
  other.seed = 43;
  const auto third = Make(other);
  EXPECT_NE(a.outcomes, ReadAll(*third, 2000).outcomes);
}

TEST(FaultDeviceTest, EachKindHappensAndIsCounted) {
  const auto device = Make(kAll);
  const Recorder recorder = ReadAll(*device, 2000);
  std::uint64_t io_errors = 0;
  std::uint64_t no_data = 0;
  std::uint64_t flips = 0;
  for (const Outcome& outcome : recorder.outcomes) {
    io_errors += outcome.os_error == EIO ? 1 : 0;
    no_data += outcome.os_error == ENODATA ? 1 : 0;
    flips += outcome.os_error == 0 && !outcome.is_pattern ? 1 : 0;
  }
  const FaultCounts counts = device->counts();
  EXPECT_EQ(counts.reads, 2000U);
  EXPECT_EQ(counts.io_errors, io_errors);
  EXPECT_EQ(counts.no_data, no_data);
  EXPECT_EQ(counts.bit_flips, flips);
  // 2,000 reads at 5 %: 100 expected; 50 is five deviations off.
  EXPECT_GT(io_errors, 50U);
  EXPECT_GT(no_data, 50U);
  EXPECT_GT(flips, 50U);
  EXPECT_GT(counts.delays, 200U);
  EXPECT_GT(counts.reorders, 100U);
  EXPECT_EQ(counts.bad_range_errors, 0U);
}

TEST(FaultDeviceTest, DelayedReadsAreOvertaken) {
  const auto device = Make({.seed = 5, .delay = 0.3});
  const Recorder recorder = ReadAll(*device, 500);
  EXPECT_FALSE(std::is_sorted(recorder.order.begin(), recorder.order.end()));
  EXPECT_GT(device->counts().delays, 50U);
  for (const Outcome& outcome : recorder.outcomes) EXPECT_TRUE(outcome.is_pattern);
}

TEST(FaultDeviceTest, BadRangesFailAlways) {
  // Bytes [1000, 1100) lie in rows 3 (792 to 1055) and 4 (1056 to 1319).
  const auto device =
      Make({.bad_ranges = {{.file_index = 0, .offset_bytes = 1000, .size_bytes = 100}}});
  for (int round = 0; round < 3; ++round) {
    const Recorder recorder = ReadAll(*device, 10);
    for (std::uint32_t row = 0; row < 10; ++row) {
      EXPECT_EQ(recorder.outcomes[row].os_error, row == 3 || row == 4 ? EIO : 0) << row;
    }
  }
  EXPECT_EQ(device->counts().bad_range_errors, 6U);
}

TEST(FaultDeviceTest, SwitchedOffItIsFaultless) {
  const auto device = Make(kAll);
  device->set_enabled(false);
  for (const Outcome& outcome : ReadAll(*device, 1000).outcomes) EXPECT_TRUE(outcome.is_pattern);
  EXPECT_EQ(device->counts().io_errors, 0U);
  EXPECT_EQ(device->counts().bit_flips, 0U);
  device->set_enabled(true);
  static_cast<void>(ReadAll(*device, 1000));
  EXPECT_GT(device->counts().io_errors, 0U);
}

TEST(FaultDeviceTest, QueuesDrawFromStreamsOfTheirOwn) {
  const auto device = Make(kAll);
  const Recorder first = ReadAll(*device, 1000);
  const Recorder second = ReadAll(*device, 1000);
  EXPECT_NE(first.outcomes, second.outcomes);
}

}  // namespace
}  // namespace tiercel::testing
