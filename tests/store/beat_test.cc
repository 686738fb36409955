// Goal: reads at a beat are expected when they come next, for a little while; what comes
// without one is never waited for awake.

#include "store/beat.h"

#include <gtest/gtest.h>

namespace tiercel {
namespace {

constexpr std::uint64_t kMs = 1'000'000;

bool None(const Beat::Window& window) {
  return window.end_ns == 0;
}

TEST(BeatTest, ExpectsTheNextOfABeat) {
  Beat beat;
  for (std::uint64_t i = 1; i <= 5; ++i) beat.Came(1000 * kMs + i * 30 * kMs);
  const Beat::Window window = beat.Next(1160 * kMs);
  EXPECT_LT(window.begin_ns, 1180 * kMs);
  EXPECT_GT(window.end_ns, 1180 * kMs);
  EXPECT_LT(window.end_ns - window.begin_ns, kMs);
  EXPECT_TRUE(None(beat.Next(window.end_ns)));  // It did not come: nothing is expected.
}

TEST(BeatTest, WidensWithTheJitterUpToALimit) {
  Beat beat;
  for (const std::uint64_t time_us : std::initializer_list<std::uint64_t>{
           1'000'000, 1'030'000, 1'060'800, 1'090'000, 1'120'000}) {
    beat.Came(time_us * 1000);
  }
  const Beat::Window window = beat.Next(1121 * kMs);
  EXPECT_LT(window.begin_ns, 1'149'200'000U);  // The shortest interval had 29.2 ms,
  EXPECT_GT(window.end_ns, 1'150'800'000U);    // the longest 30.8.
  beat.Came(1160 * kMs);                       // 40 ms: no beat any more.
  EXPECT_TRUE(None(beat.Next(1161 * kMs)));
}

TEST(BeatTest, NeedsFourIntervals) {
  Beat beat;
  EXPECT_TRUE(None(beat.Next(kMs)));
  for (std::uint64_t i = 1; i <= 4; ++i) {
    beat.Came(10'000 * kMs + i * 30 * kMs);  // The first interval is from nowhere.
    EXPECT_TRUE(None(beat.Next(10'000 * kMs + i * 30 * kMs + 1)));
  }
}

TEST(BeatTest, ManyTicketsOfAStepAreOneBeat) {
  Beat beat;
  for (std::uint64_t i = 1; i <= 6; ++i) {
    for (std::uint64_t ticket = 0; ticket < 8; ++ticket) {
      beat.Came(1000 * kMs + i * 10 * kMs + ticket * kMs / 10);
    }
  }
  EXPECT_GT(beat.Next(1065 * kMs).end_ns, 1070 * kMs);
}

TEST(BeatTest, TooSlowOrTooFastIsNoBeat) {
  Beat slow;
  for (std::uint64_t i = 1; i <= 6; ++i) slow.Came(i * 300 * kMs);
  EXPECT_TRUE(None(slow.Next(1801 * kMs)));
  Beat fast;
  for (std::uint64_t i = 1; i <= 60; ++i) fast.Came(1000 * kMs + i * kMs / 2);
  EXPECT_TRUE(None(fast.Next(1030 * kMs)));  // It would be awake for a quarter of the time.
}

}  // namespace
}  // namespace tiercel
