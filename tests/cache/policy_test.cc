// Goal: the policy learns which groups are worth their slot, forgets it under drift, lets
// a first touch displace nothing that is in use, and keeps what waiting prompts will read
// before all else, the soonest longest.
// Method: the policy over slots without bytes, driven by made-up streams by seed.
// TIERCEL_TEST_SEED repeats one.

#include "cache/policy.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdlib>
#include <unordered_map>
#include <vector>

#include "cache/group_hash.h"

namespace tiercel::testing {
namespace {

std::uint64_t Seed() {
  const char* const text = std::getenv("TIERCEL_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 0) : 20261124;
}

struct alignas(64) Line {
  std::byte bytes[64];
};

/// A cache without bytes.
class Cache {
 public:
  explicit Cache(std::uint32_t slot_count, const PolicyOptions& options = {})
      : records_(slot_count),
        workspace_(Policy::WorkspaceBytes(slot_count, options) / sizeof(Line)),
        policy_(records_, std::as_writable_bytes(std::span(workspace_)), options) {}

  /// Reads a group, and takes it in if it is missing. Whether it was there.
  bool Read(std::uint64_t key, std::uint32_t space = 0) {
    const std::uint64_t hash = HashGroup(space, key);
    if (const auto found = slots_.find(hash); found != slots_.end()) {
      policy_.CountUse(records_[found->second]);
      return true;
    }
    std::uint32_t slot = used_;
    if (used_ < records_.size()) {
      ++used_;
    } else {
      slot = policy_.Evict();
      slots_.erase(HashGroup(records_[slot].space, records_[slot].key));
    }
    records_[slot].key = key;
    records_[slot].space = static_cast<std::uint8_t>(space);
    (void)policy_.Add(slot, hash);
    slots_[hash] = slot;
    return false;
  }
  bool Expect(std::uint64_t key, std::uint64_t time) {
    return policy_.Expect(HashGroup(0, key), SlotOf(key), time);
  }
  bool Release(std::uint64_t key) { return policy_.Release(HashGroup(0, key), SlotOf(key)); }
  [[nodiscard]] bool Has(std::uint64_t key) const { return SlotOf(key) != Policy::kNoSlot; }
  [[nodiscard]] Policy& policy() { return policy_; }

 private:
  [[nodiscard]] std::uint32_t SlotOf(std::uint64_t key) const {
    const auto found = slots_.find(HashGroup(0, key));
    return found == slots_.end() ? Policy::kNoSlot : found->second;
  }
  std::vector<SlotRecord> records_;
  std::vector<Line> workspace_;
  Policy policy_;
  std::unordered_map<std::uint64_t, std::uint32_t> slots_;
  std::uint32_t used_ = 0;
};

constexpr std::uint32_t kSlots = 2000;
constexpr std::uint64_t kNew = std::uint64_t{1} << 40;  // Keys from here on are read once.

TEST(PolicyTest, AFirstTouchDisplacesNothingThatIsInUse) {
  // Between two uses of a hot group come twice as many new groups as there are slots: LRU
  // would never hit.
  SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << Seed());
  Cache cache(kSlots);
  Prng prng(Seed());
  for (int round = 0; round < 3; ++round) {
    for (std::uint64_t key = 0; key < kSlots / 2; ++key) cache.Read(key);
  }
  std::uint64_t reads = 0;
  std::uint64_t hits = 0;
  for (std::uint64_t i = 0; i < 40 * kSlots; ++i) {
    cache.Read(kNew + i);
    if (i % 4 != 0) continue;
    const bool hit = cache.Read(prng.Below(kSlots / 2));
    if (i < 20 * kSlots) continue;
    ++reads;
    hits += hit ? 1 : 0;
  }
  EXPECT_GT(hits, reads * 3 / 4);
}

TEST(PolicyTest, LearnsWhichSpaceEarnsMore) {
  // Groups of space 0 come back after 1.2 turnovers of the slots, those of space 1 never.
  PolicyOptions options;
  options.space_count = 2;
  Cache cache(40'000, options);
  std::uint64_t reads = 0;
  std::uint64_t hits = 0;
  for (std::uint64_t i = 0; i < 1'000'000; ++i) {
    const bool hit = cache.Read(i % 24'000, 0);
    cache.Read(kNew + i, 1);
    if (i < 500'000) continue;
    ++reads;
    hits += hit ? 1 : 0;
  }
  EXPECT_GT(hits, reads * 3 / 4);
}

TEST(PolicyTest, ForgetsWhatIsNoLongerUsed) {
  Cache cache(kSlots);
  for (std::uint64_t phase = 0; phase < 4; ++phase) {
    std::uint64_t late_hits = 0;
    for (int round = 0; round < 20; ++round) {
      for (std::uint64_t key = 0; key < kSlots * 3 / 4; ++key) {
        const bool hit = cache.Read(phase * 1'000'000 + key);
        late_hits += round == 19 && hit ? 1 : 0;
      }
    }
    EXPECT_GT(late_hits, kSlots * 3 / 4 * 9 / 10) << "phase " << phase;
  }
}

TEST(PolicyTest, ExpectedGroupsOutliveAllOthers) {
  Cache cache(kSlots, {.expected_groups_max = kSlots});
  for (std::uint64_t key = 0; key < kSlots; ++key) {
    cache.Read(key);
    // Those that nobody waits for are used more.
    for (std::uint64_t use = 0; use < key % 2 * 5; ++use) cache.Read(key);
  }
  for (std::uint64_t key = 0; key < kSlots - 2; ++key) {
    if (key % 2 == 0 || key > kSlots / 2) {
      ASSERT_TRUE(cache.Expect(key, key));
    }
  }
  for (std::uint64_t i = 0; i < 10 * kSlots; ++i) cache.Read(kNew + i);
  for (std::uint64_t key = 0; key < kSlots - 2; ++key) {
    if (key % 2 == 0 || key > kSlots / 2) {
      EXPECT_TRUE(cache.Has(key)) << key;
    }
  }
  // What is released goes like any other.
  for (std::uint64_t key = 0; key < kSlots / 2; key += 2) EXPECT_TRUE(cache.Release(key));
  for (std::uint64_t i = 0; i < 20 * kSlots; ++i) cache.Read(2 * kNew + i);
  std::uint64_t kept = 0;
  for (std::uint64_t key = 0; key < kSlots / 2; key += 2) kept += cache.Has(key) ? 1 : 0;
  EXPECT_LT(kept, kSlots / 40);
}

TEST(PolicyTest, WhereAllAreExpectedTheLatestGoFirst) {
  PolicyOptions options;
  options.expected_groups_max = 2 * kSlots;
  options.expected_span = 2 * kSlots;
  Cache cache(kSlots, options);
  for (std::uint64_t key = 0; key < 2 * kSlots; ++key) ASSERT_TRUE(cache.Expect(key, key));
  for (std::uint64_t key = 0; key < 2 * kSlots; ++key) cache.Read(key);
  std::uint64_t kept = 0;
  for (std::uint64_t key = 0; key < kSlots * 3 / 4; ++key) kept += cache.Has(key) ? 1 : 0;
  EXPECT_GT(kept, kSlots * 3 / 4 * 95 / 100);
}

TEST(PolicyTest, AMissOfAnExpectedGroupIsKept) {
  Cache cache(kSlots, {.expected_groups_max = 100});
  for (std::uint64_t i = 0; i < 2 * kSlots; ++i) cache.Read(kNew + i);
  for (std::uint64_t key = 0; key < 100; ++key) {
    ASSERT_TRUE(cache.Expect(key, 5));
    EXPECT_FALSE(cache.Read(key));
  }
  EXPECT_FALSE(cache.Expect(100, 5)) << "full";
  for (std::uint64_t i = 0; i < 5 * kSlots; ++i) cache.Read(2 * kNew + i);
  for (std::uint64_t key = 0; key < 100; ++key) {
    EXPECT_TRUE(cache.Has(key));
    EXPECT_TRUE(cache.Release(key));
  }
  EXPECT_EQ(cache.policy().expected_count(), 0u);
  EXPECT_FALSE(cache.Release(0));
}

}  // namespace
}  // namespace tiercel::testing
