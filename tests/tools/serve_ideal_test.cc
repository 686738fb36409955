// Goal: exposed waits are counted as a model would feel them: a layer's wait puts the
// later ones off, and what-ifs change what they say.

#include "tools/serve_ideal.h"

#include <gtest/gtest.h>

namespace tiercel::tools {
namespace {

using std::chrono::microseconds;

/// Two layers, at blocks 1 and 3 of 4 blocks of 100 us.
ServeOptions Options() {
  ServeOptions options;
  options.step_time = microseconds(400);
  options.block_count = 4;
  options.layer_ids = {1, 3};
  return options;
}

ServeArm ArmOf(std::uint64_t first_us, std::uint64_t second_us) {
  ServeArm arm;
  arm.layers = {{{.exposed_ns = 7, .burst_ns = first_us * 1000}},
                {{.exposed_ns = 5, .burst_ns = second_us * 1000}}};
  arm.start_ns = {1};
  return arm;
}

TEST(ServeIdealTest, WhatIsInPlaceInTimeIsNotWaitedFor) {
  const ServeExposed exposed = IdealExposed(ArmOf(100, 300), Options());
  EXPECT_EQ(exposed.layers[0].max_ns, 0U);
  EXPECT_EQ(exposed.layers[1].max_ns, 0U);
  EXPECT_EQ(exposed.step.max_ns, 0U);
}

TEST(ServeIdealTest, AWaitPutsLaterLayersOff) {
  // The first waits 50 us, so the second is asked for at 350 us.
  const ServeExposed exposed = IdealExposed(ArmOf(150, 370), Options());
  EXPECT_EQ(exposed.layers[0].max_ns, 50'000U);
  EXPECT_EQ(exposed.layers[1].max_ns, 20'000U);
  EXPECT_EQ(exposed.step.max_ns, 70'000U);
}

TEST(ServeIdealTest, WhatIfsScaleReadsAndStartEarlier) {
  const ServeArm arm = ArmOf(150, 370);
  EXPECT_EQ(IdealExposed(arm, Options(), {.read_time = 0.5}).step.max_ns, 0U);
  EXPECT_EQ(IdealExposed(arm, Options(), {.reads = 0.8}).step.max_ns, 20'000U);
  EXPECT_EQ(IdealExposed(arm, Options(), {.head_start = microseconds(60)}).step.max_ns, 10'000U);
}

TEST(ServeIdealTest, TimesAreSortedAndMeant) {
  const ServeTimes times = MeasureTimes({5, 1, 3});
  EXPECT_EQ(times.p50_ns, 3U);
  EXPECT_EQ(times.p99_ns, 5U);
  EXPECT_EQ(times.max_ns, 5U);
  EXPECT_DOUBLE_EQ(times.mean_ns, 3.0);
  EXPECT_EQ(MeasureTimes({}).max_ns, 0U);
  EXPECT_EQ(MeasuredExposed(ArmOf(0, 0)).step.max_ns, 12U);
}

}  // namespace
}  // namespace tiercel::tools
