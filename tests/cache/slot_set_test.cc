// Goal: a slot set has what was put in, and finds the next member from any slot.
// Method: seeded operations beside a std::set, at sizes around the borders of its levels.

#include "cache/slot_set.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <set>
#include <vector>

#include "base/prng.h"

namespace tiercel::testing {
namespace {

std::uint64_t Seed() {
  const char* const text = std::getenv("TIERCEL_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 0) : 20261124;
}

TEST(SlotSetTest, AgreesWithASet) {
  SCOPED_TRACE(::testing::Message() << "TIERCEL_TEST_SEED=" << Seed());
  for (const std::uint32_t slot_count : {1U, 63U, 64U, 65U, 4096U, 4097U, 300'000U}) {
    SCOPED_TRACE(slot_count);
    std::vector<std::uint64_t> words(SlotSet::WordCount(slot_count));
    SlotSet slots(words, slot_count);
    std::set<std::uint32_t> model;
    Prng prng(Seed() + slot_count);
    for (int i = 0; i < 20'000; ++i) {
      const auto slot = static_cast<std::uint32_t>(prng.Below(slot_count));
      // Few members at first and at last, so that whole words are empty.
      if (prng.Below(4) < (i / 5000 % 2 == 0 ? 1U : 3U)) {
        slots.Insert(slot);
        model.insert(slot);
      } else {
        slots.Remove(slot);
        model.erase(slot);
      }
      ASSERT_EQ(slots.count(), model.size());
      if (model.empty()) continue;
      const auto from = static_cast<std::uint32_t>(prng.Below(slot_count));
      const auto next = model.lower_bound(from);
      ASSERT_EQ(slots.NextFrom(from), next == model.end() ? *model.begin() : *next);
      ASSERT_EQ(slots.Has(from), model.contains(from));
    }
  }
}

TEST(SlotSetTest, NoSlotsNeedNoMemory) {
  EXPECT_EQ(SlotSet::WordCount(0), 0u);
}

}  // namespace
}  // namespace tiercel::testing
