// Goal: nothing is reused while a reader that may have found it is inside; readers
// never wait; writers never wait for them.
//
// Method: a reader is held inside by the test itself, at the level of ReaderEpochs and
// of a GroupPool whose every slot is churned meanwhile; then it leaves.

#include "cache/reader_epochs.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "cache/group_pool.h"
#include "tests/cache/group_cache_test_support.h"

namespace tiercel::testing {
namespace {

TEST(ReaderEpochsTest, AReaderHoldsBackTheEpochsFromItsEntryOn) {
  ReaderEpochs epochs;
  const std::uint64_t before = epochs.CloseEpoch();
  EXPECT_GT(epochs.OldestEpoch(), before);
  const std::uint32_t cell = epochs.Enter();
  EXPECT_GT(epochs.OldestEpoch(), before) << "it entered after the unlinking";
  const std::uint64_t during = epochs.CloseEpoch();
  EXPECT_LE(epochs.OldestEpoch(), during);
  epochs.CloseEpoch();
  EXPECT_LE(epochs.OldestEpoch(), during);
  epochs.Leave(cell);
  EXPECT_GT(epochs.OldestEpoch(), during);
}

TEST(ReaderEpochsTest, MoreReadersThanCellsShareThemAndAllCount) {
  ReaderEpochs epochs;
  std::vector<std::uint32_t> cells;
  std::vector<std::uint64_t> closed;
  for (std::uint32_t i = 0; i < 3 * ReaderEpochs::kCellCount; ++i) {
    cells.push_back(epochs.Enter());
    closed.push_back(epochs.CloseEpoch());
  }
  EXPECT_LE(epochs.OldestEpoch(), closed.front());
  for (std::size_t i = 0; i + 1 < cells.size(); ++i) epochs.Leave(cells[i]);
  EXPECT_LE(epochs.OldestEpoch(), closed.back()) << "one reader is still inside";
  epochs.Leave(cells.back());
  EXPECT_GT(epochs.OldestEpoch(), closed.back());
}

TEST(GroupPoolTest, APinnedReaderKeepsItsBytesAndStopsNoOtherReader) {
  ReaderEpochs epochs;
  std::vector<WriteCounters> counters(1);
  constexpr std::uint32_t kSize = 256;
  Result<std::unique_ptr<GroupPool>> made =
      GroupPool::Create(kSize, 1 << 20, PolicyOptions{}, epochs, counters);
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  GroupPool& pool = *made.value();
  std::vector<std::byte> bytes(kSize);
  const auto insert = [&](std::uint64_t key) {
    FillGroup(0, key, bytes);
    return pool.Insert(0, key, bytes.data());
  };
  const auto find = [&](std::uint64_t key) { return pool.index().Find(HashGroup(0, key), 0, key); };
  for (std::uint64_t key = 0; key < pool.slot_count(); ++key) ASSERT_TRUE(insert(key));

  // The reader finds all groups, and has not copied them yet.
  const std::uint32_t cell = epochs.Enter();
  std::vector<std::uint32_t> slots;
  for (std::uint64_t key = 0; key < pool.slot_count(); ++key) slots.push_back(find(key));

  std::uint64_t declined = 0;
  for (std::uint64_t key = 0; key < 4 * pool.slot_count(); ++key) {
    declined += insert(1'000'000 + key) ? 0 : 1;
  }
  EXPECT_GT(declined, 3 * pool.slot_count()) << "slots were reused under the reader";
  EXPECT_GT(counters[0].evictions.load(), 0u) << "nothing was unlinked under the reader";
  EXPECT_LT(counters[0].evictions.load(), pool.slot_count() / 2) << "evicted for nothing";
  for (std::uint64_t key = 0; key < pool.slot_count(); ++key) {
    ASSERT_EQ(WrongByte(0, key, {pool.group(slots[key]), kSize}), -1) << "key " << key;
  }
  epochs.Leave(cell);

  EXPECT_TRUE(insert(2'000'000)) << "slots come free when the reader has left";
  for (std::uint64_t key = 0; key < pool.slot_count(); ++key) {
    EXPECT_TRUE(insert(3'000'000 + key));
  }
}

TEST(GroupPoolTest, ReadersThatStayLongSeeNoReuse) {
  // Readers copy twice with a pause between: the bytes may not change in a stay.
  ReaderEpochs epochs;
  std::vector<WriteCounters> counters(1);
  constexpr std::uint32_t kSize = 128;
  Result<std::unique_ptr<GroupPool>> made =
      GroupPool::Create(kSize, 1 << 17, PolicyOptions{}, epochs, counters);
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  GroupPool& pool = *made.value();
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> found_count{0};
  std::atomic<std::uint64_t> wrong_count{0};
  const auto read = [&](std::uint64_t seed) {
    Prng prng(seed);
    while (!stop) {
      const ReaderPin pin(epochs);
      std::vector<std::pair<std::uint64_t, std::uint32_t>> found;
      for (int i = 0; i < 64; ++i) {
        const std::uint64_t key = prng.Below(2000);
        const std::uint32_t slot = pool.index().Find(HashGroup(0, key), 0, key);
        if (slot != GroupIndex::kNoSlot) found.emplace_back(key, slot);
      }
      std::this_thread::yield();
      for (const auto& [key, slot] : found) {
        ++found_count;
        if (WrongByte(0, key, {pool.group(slot), kSize}) != -1) ++wrong_count;
      }
    }
  };
  std::vector<std::thread> readers;
  for (std::uint64_t seed = 1; seed <= 3; ++seed) readers.emplace_back(read, seed);
  Prng prng(9);
  std::vector<std::byte> bytes(kSize);
  while (counters[0].evictions.load() < 20'000 || found_count < 10'000) {
    const std::uint64_t key = prng.Below(2000);
    FillGroup(0, key, bytes);
    pool.Insert(0, key, bytes.data());
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(wrong_count, 0u);
}

}  // namespace
}  // namespace tiercel::testing
