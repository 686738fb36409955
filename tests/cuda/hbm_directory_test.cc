// Goal: a slot is found only while its bytes are good, and is never lent while work in
// flight may read it.
//
// Method: seeded random operations beside a model: a map of what is resident, counts of
// pins, what is lent. After every step each slot is in one state alone.

#include "cuda/hbm_directory.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "base/prng.h"

namespace tiercel {
namespace {

using Group = std::pair<std::uint32_t, std::uint64_t>;  // Space and key.

std::unique_ptr<HbmDirectory> MakeDirectory(std::uint64_t slot_count, std::uint32_t space_count) {
  Result<std::unique_ptr<HbmDirectory>> directory = HbmDirectory::Create(slot_count, space_count);
  EXPECT_TRUE(directory.ok()) << directory.status().ToString();
  return std::move(directory).value();
}

TEST(HbmDirectoryTest, SizesOutOfRangeAreRefused) {
  EXPECT_EQ(HbmDirectory::Create(15, 1).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(HbmDirectory::Create(std::uint64_t{1} << 31, 1).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(HbmDirectory::Create(16, 0).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(HbmDirectory::Create(16, 257).status().code(), StatusCode::kInvalidArgument);
}

TEST(HbmDirectoryTest, AGroupIsFoundOnceItIsPublished) {
  const auto directory = MakeDirectory(16, 2);
  const std::uint32_t slot = directory->Take(1);
  ASSERT_NE(slot, HbmDirectory::kNoSlot);
  EXPECT_EQ(directory->Use(1, 7), HbmDirectory::kNoSlot);
  EXPECT_TRUE(directory->Publish(slot, 1, 7));
  EXPECT_EQ(directory->Use(1, 7), slot);
  EXPECT_EQ(directory->Use(0, 7), HbmDirectory::kNoSlot);
  EXPECT_EQ(directory->stats(1).insertions, 1U);
}

TEST(HbmDirectoryTest, AGroupThatCameTwiceIsKeptOnce) {
  const auto directory = MakeDirectory(16, 1);
  const std::uint32_t first = directory->Take(0);
  const std::uint32_t second = directory->Take(0);
  EXPECT_TRUE(directory->Publish(first, 0, 7));
  EXPECT_FALSE(directory->Publish(second, 0, 7));
  EXPECT_EQ(directory->Find(0, 7), first);
  EXPECT_EQ(directory->free_count(), 15U);
}

TEST(HbmDirectoryTest, APinnedSlotThatIsEvictedIsFreeOnlyAfterTheLastPin) {
  const auto directory = MakeDirectory(16, 1);
  for (std::uint64_t key = 0; key < 16; ++key) {
    const std::uint32_t slot = directory->Take(0);
    ASSERT_TRUE(directory->Publish(slot, 0, key));
    directory->Pin(slot);
    directory->Pin(slot);
  }
  // All are in flight: each offer evicts one and gets none.
  for (int i = 0; i < 16; ++i) EXPECT_EQ(directory->Take(0), HbmDirectory::kNoSlot);
  EXPECT_EQ(directory->stats(0).evictions, 16U);
  EXPECT_EQ(directory->stats(0).rejections, 16U);
  EXPECT_EQ(directory->in_flight_count(), 16U);
  for (std::uint64_t key = 0; key < 16; ++key) {
    EXPECT_EQ(directory->Find(0, key), HbmDirectory::kNoSlot);
  }
  directory->Unpin(3);
  EXPECT_EQ(directory->Take(0), HbmDirectory::kNoSlot);
  directory->Unpin(3);
  EXPECT_EQ(directory->Take(0), 3U);
}

TEST(HbmDirectoryTest, WhatIsRemovedIsFreeOnceNothingReadsItAndMayComeBack) {
  const auto directory = MakeDirectory(16, 2);
  for (std::uint64_t key = 0; key < 16; ++key) {
    ASSERT_TRUE(directory->Publish(directory->Take(key % 2), key % 2, key));
  }
  directory->Pin(directory->Find(0, 4));
  const auto small_even = [](std::uint32_t space, std::uint64_t key) {
    return space == 0 && key < 8;
  };
  directory->RemoveIf(0, 10, small_even);
  directory->RemoveIf(10, 1000, small_even);
  directory->RemoveIf(5000, 10, [](std::uint32_t, std::uint64_t) { return true; });
  for (std::uint64_t key = 0; key < 16; ++key) {
    EXPECT_EQ(directory->Find(key % 2, key) == HbmDirectory::kNoSlot, small_even(key % 2, key));
  }
  EXPECT_EQ(directory->stats(0).removals, 4U);
  EXPECT_EQ(directory->stats(0).evictions, 0U);
  EXPECT_EQ(directory->free_count(), 3U);
  EXPECT_EQ(directory->in_flight_count(), 1U);
  const std::uint32_t slot = directory->Take(0);
  EXPECT_TRUE(directory->Publish(slot, 0, 4));  // While the old one is read still.
  EXPECT_EQ(directory->Find(0, 4), slot);
}

TEST(HbmDirectoryTest, AMirrorHoldsWhatWentUntilItWasTold) {
  const auto directory = MakeDirectory(16, 1);
  ASSERT_TRUE(directory->Publish(directory->Take(0), 0, 100));
  directory->LogChanges();
  ASSERT_EQ(directory->TakeChanges().size(), 1U);  // What was there before.
  for (std::uint64_t key = 1; key < 16; ++key) {
    ASSERT_TRUE(directory->Publish(directory->Take(0), 0, key));
  }
  EXPECT_EQ(directory->Take(0), HbmDirectory::kNoSlot);  // Evicts one, which must wait.
  const std::vector<HbmChange> changes = directory->TakeChanges();
  ASSERT_EQ(changes.size(), 16U);
  EXPECT_TRUE(changes.front().added);
  EXPECT_FALSE(changes.back().added);
  directory->Unpin(changes.back().slot);
  EXPECT_EQ(directory->Take(0), changes.back().slot);
}

/// What must be true of a directory, kept by other means.
struct DirectoryModel {
  std::map<Group, std::uint32_t> resident;
  std::map<std::uint32_t, std::uint32_t> pins;
  std::set<std::uint32_t> lent;
};

/// Forgets what the directory has evicted since; returns how much that was.
std::size_t DropEvicted(const HbmDirectory& directory, DirectoryModel& model) {
  return std::erase_if(model.resident, [&](const auto& entry) {
    return directory.Find(entry.first.first, entry.first.second) == HbmDirectory::kNoSlot;
  });
}

void TakeAndCheck(HbmDirectory& directory, DirectoryModel& model, std::uint32_t space) {
  const std::uint32_t slot = directory.Take(space);
  EXPECT_LE(DropEvicted(directory, model), 1U);
  if (slot == HbmDirectory::kNoSlot) return;
  EXPECT_FALSE(model.pins.contains(slot)) << "slot " << slot << " is in flight";
  EXPECT_TRUE(model.lent.insert(slot).second) << "slot " << slot << " is lent already";
  for (const auto& [group, resident] : model.resident) EXPECT_NE(resident, slot);
}

void PublishOrReturn(HbmDirectory& directory, DirectoryModel& model, Prng& prng,
                     const Group& group) {
  auto chosen = model.lent.begin();
  std::advance(chosen, static_cast<std::ptrdiff_t>(prng.Below(model.lent.size())));
  const std::uint32_t slot = *chosen;
  model.lent.erase(chosen);
  if (prng.Below(4) == 0) return directory.Return(slot);
  const bool published = directory.Publish(slot, group.first, group.second);
  EXPECT_EQ(published, !model.resident.contains(group));
  if (published) model.resident[group] = slot;
}

void RemoveSome(HbmDirectory& directory, DirectoryModel& model, Prng& prng) {
  const std::uint64_t rest = prng.Below(7);
  const auto chosen = [rest](std::uint32_t space, std::uint64_t key) {
    return (space + key) % 7 == rest;
  };
  const auto first = static_cast<std::uint32_t>(prng.Below(directory.slot_count()));
  const auto count = static_cast<std::uint32_t>(prng.Below(2 * directory.slot_count()));
  directory.RemoveIf(first, count, chosen);
  std::erase_if(model.resident, [&](const auto& entry) {
    const std::uint32_t slot = entry.second;
    const bool removed =
        chosen(entry.first.first, entry.first.second) && slot >= first && slot - first < count;
    EXPECT_EQ(directory.Find(entry.first.first, entry.first.second),
              removed ? HbmDirectory::kNoSlot : slot);
    return removed;
  });
}

TEST(HbmDirectoryTest, RandomOperationsAgreeWithTheModel) {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE(::testing::Message() << "seed " << seed);
    Prng prng(seed);
    const std::uint32_t slot_count = 16 + static_cast<std::uint32_t>(prng.Below(100));
    const auto directory = MakeDirectory(slot_count, 3);
    DirectoryModel model;
    std::uint64_t hits = 0;
    for (int step = 0; step < 30000; ++step) {
      const Group group = {static_cast<std::uint32_t>(prng.Below(3)), prng.Below(slot_count)};
      if (prng.Below(200) == 0) RemoveSome(*directory, model, prng);
      switch (prng.Below(4)) {
        case 0: {
          const std::uint32_t slot = directory->Use(group.first, group.second);
          const auto known = model.resident.find(group);
          ASSERT_EQ(slot, known == model.resident.end() ? HbmDirectory::kNoSlot : known->second);
          if (slot == HbmDirectory::kNoSlot) break;
          ++hits;
          directory->Pin(slot);
          ++model.pins[slot];
          break;
        }
        case 1:
          if (!model.pins.empty()) {
            auto pin = model.pins.begin();
            std::advance(pin, static_cast<std::ptrdiff_t>(prng.Below(model.pins.size())));
            directory->Unpin(pin->first);
            if (--pin->second == 0) model.pins.erase(pin);
          }
          break;
        case 2:
          if (model.lent.size() < slot_count / 2) TakeAndCheck(*directory, model, group.first);
          break;
        default:
          if (!model.lent.empty()) PublishOrReturn(*directory, model, prng, group);
      }
      ASSERT_EQ(directory->in_flight_count(), model.pins.size() + model.lent.size());
      if (HasFailure()) return;
    }
    EXPECT_GT(hits, 100U);
    EXPECT_GT(directory->stats(0).evictions, 100U);
    EXPECT_GT(directory->stats(0).rejections, 0U);
    EXPECT_GT(directory->stats(0).removals, 0U);
  }
}

}  // namespace
}  // namespace tiercel
