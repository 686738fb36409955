// Goal: a copy with a choice of stores is a memcpy, wherever it begins and ends, and the
// choice follows what the kernel says of the caches.
//
// Method: all lengths and places about a few lines of 64 B, with bytes around the
// destination that must stay as they are; directories as /sys has them, whole and broken.

#include "base/copy_bytes.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/scratch_dir.h"

namespace tiercel {
namespace {

class CopyBytesTest : public ::testing::TestWithParam<CopyStores> {};

TEST_P(CopyBytesTest, CopiesAllLengthsToAllPlacesInALine) {
  constexpr std::size_t kAroundBytes = 64;
  std::vector<std::byte> source(1024);
  for (std::size_t i = 0; i < source.size(); ++i) source[i] = static_cast<std::byte>(i * 37 + 1);
  for (const std::size_t size_bytes : {0, 1, 7, 8, 15, 63, 64, 65, 127, 128, 129, 200, 264, 700}) {
    for (std::size_t place = 0; place < 64; ++place) {
      for (const std::size_t from : {0, 1, 8, 16}) {
        std::vector<std::byte> output(kAroundBytes + place + size_bytes + kAroundBytes,
                                      std::byte{0xEE});
        std::vector<std::byte> expected = output;
        std::byte* const destination = output.data() + kAroundBytes + place;
        CopyBytes(destination, source.data() + from, size_bytes, GetParam());
        EndCopies(GetParam());
        for (std::size_t i = 0; i < size_bytes; ++i) {
          expected[kAroundBytes + place + i] = source[from + i];
        }
        ASSERT_EQ(output, expected) << size_bytes << " B from " << from << " to " << place;
      }
    }
  }
}

TEST_P(CopyBytesTest, AnotherThreadSeesWhatWasCopiedBeforeItWasTold) {
  constexpr std::size_t kSizeBytes = 2112;
  constexpr int kRounds = 2000;
  std::vector<std::byte> output(kSizeBytes);
  std::atomic<int> told = 0;
  std::atomic<int> seen = 0;
  std::uint64_t wrong = 0;
  std::thread reader([&] {
    for (int round = 1; round <= kRounds; ++round) {
      while (told.load(std::memory_order_acquire) != round) std::this_thread::yield();
      for (const std::byte byte : output) wrong += byte != static_cast<std::byte>(round) ? 1 : 0;
      seen.store(round, std::memory_order_release);
    }
  });
  for (int round = 1; round <= kRounds; ++round) {
    const std::vector<std::byte> source(kSizeBytes, static_cast<std::byte>(round));
    CopyBytes(output.data(), source.data(), kSizeBytes, GetParam());
    EndCopies(GetParam());
    told.store(round, std::memory_order_release);
    while (seen.load(std::memory_order_acquire) != round) std::this_thread::yield();
  }
  reader.join();
  EXPECT_EQ(wrong, 0);
}

INSTANTIATE_TEST_SUITE_P(Stores, CopyBytesTest,
                         ::testing::Values(CopyStores::kCached, CopyStores::kNonTemporal),
                         [](const ::testing::TestParamInfo<CopyStores>& stores) {
                           return stores.param == CopyStores::kCached ? "Cached" : "NonTemporal";
                         });

class LargestCacheTest : public ::testing::Test {
 protected:
  void Write(const std::string& index, const std::string& size) {
    std::filesystem::create_directory(directory_.File(index));
    directory_.Write(index + "/size", size);
  }
  [[nodiscard]] std::uint64_t Read() const { return ReadLargestCacheBytes(directory_.path()); }

  testing::ScratchDir directory_;
  static constexpr std::uint64_t kUnknown = std::numeric_limits<std::uint64_t>::max();
};

TEST_F(LargestCacheTest, IsTheLargestOfThoseTheKernelLists) {
  Write("index0", "32K\n");
  Write("index1", "64K\n");
  Write("index2", "512K\n");
  Write("index3", "8192K\n");
  EXPECT_EQ(Read(), 8192U << 10);
}

TEST_F(LargestCacheTest, IsUnknownWhereNothingIsToldOrUnderstood) {
  EXPECT_EQ(Read(), kUnknown);
  Write("index0", "");
  Write("index1", "32");
  Write("index2", "big");
  Write("index3", "8M\n");
  EXPECT_EQ(Read(), kUnknown);
}

TEST(StoresForOutput, SmallOutputsGoThroughTheCache) {
  EXPECT_EQ(StoresForOutput(0), CopyStores::kCached);
  EXPECT_EQ(StoresForOutput(2112), CopyStores::kCached);
}

TEST(StoresForOutput, OutputsAsLargeAsTheLargestCacheGoPastIt) {
  const std::uint64_t cache_bytes = ReadLargestCacheBytes();
  EXPECT_EQ(StoresForOutput(cache_bytes - 1), CopyStores::kCached);
  EXPECT_EQ(StoresForOutput(cache_bytes), CopyStores::kNonTemporal);
}

}  // namespace
}  // namespace tiercel
