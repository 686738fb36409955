// Goal: a replay serves every token of every document once and in order, stream by
// stream as docs/cli.md says, and its summary of step times and counters is exact.
// Method: small traces whose schedule is written out, and random ones against the
// properties that every schedule has.

#include "tools/replay_schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/prng.h"
#include "tools/replay_report.h"

namespace tiercel::tools {
namespace {

/// "0+64 64+10 | ..." : begin+count of each chunk, steps parted by bars.
std::string Describe(const std::vector<std::uint64_t>& offsets,
                     const ReplayScheduleOptions& options) {
  ReplaySchedule schedule(offsets, options);
  std::vector<ReplayChunk> chunks;
  std::string text;
  while (schedule.Next(chunks)) {
    if (!text.empty()) text += " |";
    for (const ReplayChunk& chunk : chunks) {
      text += (text.empty() ? "" : " ") + std::to_string(chunk.begin) + "+" +
              std::to_string(chunk.end - chunk.begin);
    }
  }
  EXPECT_TRUE(chunks.empty()) << "the end leaves no chunk behind";
  return text;
}

TEST(ReplaySchedule, StreamsTakeTurns) {
  // Documents of 5, 2, 0 and 3 tokens, two streams, chunks of 2.
  const std::vector<std::uint64_t> offsets = {0, 5, 7, 7, 10};
  EXPECT_EQ(Describe(offsets, {.stream_count = 2, .chunk_tokens = 2}),
            "0+2 | 5+2 | 2+2 | 7+2 | 4+1 | 9+1");
}

TEST(ReplaySchedule, DecodeStepsAllStreamsTogether) {
  const std::vector<std::uint64_t> offsets = {0, 3, 4, 6};
  EXPECT_EQ(Describe(offsets, {.mode = ReplayMode::kDecode, .stream_count = 2, .chunk_tokens = 1}),
            "0+1 3+1 | 1+1 4+1 | 2+1 5+1");
}

TEST(ReplaySchedule, StopsAtTheLimit) {
  const std::vector<std::uint64_t> offsets = {0, 100, 200};
  const ReplayScheduleOptions options = {.stream_count = 2, .chunk_tokens = 64, .token_limit = 130};
  EXPECT_EQ(Describe(offsets, options), "0+64 | 100+64 | 64+2");
  const ReplayExtent extent = MeasureSchedule(offsets, options);
  EXPECT_EQ(extent.token_count, 130U);
  EXPECT_EQ(extent.step_count, 3U);
  EXPECT_EQ(extent.position_end, 164U);
}

TEST(ReplaySchedule, ServesNothingOfNothing) {
  const std::vector<std::uint64_t> offsets = {0, 0, 0};
  EXPECT_EQ(Describe(offsets, {}), "");
}

TEST(ReplaySchedule, ServesEveryTokenOnceAndInOrder) {
  Prng prng(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::uint64_t> offsets = {0};
    for (std::uint64_t n = prng.Below(20) + 1; n > 0; --n) {
      offsets.push_back(offsets.back() + prng.Below(50));
    }
    const ReplayScheduleOptions options = {
        .mode = round % 2 == 0 ? ReplayMode::kPrefill : ReplayMode::kDecode,
        .stream_count = static_cast<std::uint32_t>(prng.Below(6) + 1),
        .chunk_tokens = static_cast<std::uint32_t>(prng.Below(9) + 1)};
    ReplaySchedule schedule(offsets, options);
    std::vector<ReplayChunk> chunks;
    std::vector<std::uint64_t> next(offsets.begin(), offsets.end());
    while (schedule.Next(chunks)) {
      for (const ReplayChunk& chunk : chunks) {
        // The last document that begins there: those before it are empty.
        const auto after = std::upper_bound(offsets.begin(), offsets.end(), chunk.document_begin);
        const auto document = static_cast<std::size_t>(after - offsets.begin()) - 1;
        ASSERT_EQ(offsets[document], chunk.document_begin) << "round " << round;
        ASSERT_EQ(chunk.begin, next[document]) << "round " << round;
        ASSERT_LT(chunk.begin, chunk.end);
        ASSERT_LE(chunk.end - chunk.begin, options.chunk_tokens);
        ASSERT_LE(chunk.end, offsets[document + 1]);
        next[document] = chunk.end;
      }
      ASSERT_LE(chunks.size(), options.stream_count);
    }
    for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
      ASSERT_EQ(next[i], offsets[i + 1]) << "round " << round << ", document " << i;
    }
    ASSERT_EQ(schedule.token_count(), offsets.back());
  }
}

TEST(ReplayReport, PercentilesAreNearestRanks) {
  std::vector<std::uint64_t> steps;
  for (std::uint64_t i = 1000; i > 0; --i) steps.push_back(i);
  StepTimes times = MeasureSteps(steps);
  EXPECT_EQ(times.p50_ns, 500U);
  EXPECT_EQ(times.p99_ns, 990U);
  EXPECT_EQ(times.p999_ns, 999U);
  EXPECT_EQ(times.max_ns, 1000U);
  std::vector<std::uint64_t> one = {42};
  times = MeasureSteps(one);
  EXPECT_EQ(times.p50_ns, 42U);
  EXPECT_EQ(times.p999_ns, 42U);
  EXPECT_EQ(MeasureSteps({}).max_ns, 0U);
}

TEST(ReplayReport, DifferencesTakeCountersButNotLevels) {
  StoreStats before;
  before.device_reads = 10;
  before.orders.push_back({.layer_id = 1, .order = 2, .groups = 100, .dram_hits = 40});
  StoreStats after;
  after.device_reads = 25;
  after.cache_bytes = 77;
  after.orders.push_back(
      {.layer_id = 1, .order = 2, .groups = 150, .dram_hits = 85, .cache_resident_groups = 9});
  const StoreStats difference = Difference(after, before);
  EXPECT_EQ(difference.device_reads, 15U);
  EXPECT_EQ(difference.orders[0].groups, 50U);
  EXPECT_EQ(difference.orders[0].dram_hits, 45U);
  EXPECT_EQ(difference.orders[0].cache_resident_groups, 9U);
  EXPECT_EQ(difference.cache_bytes, 77U);
}

TEST(ReplayReport, SaysWhatWasFound) {
  ReplayReport report;
  report.layer_ids = {1};
  report.column_count = 24;
  report.verified = true;
  report.token_count = 10;
  report.rows_checked = 240;
  EXPECT_NE(ReportText(report).find(" 0 rows differ"), std::string::npos);
  report.rows_different = 10;
  report.findings = {"layer 1 row 7 differs"};
  const std::string text = ReportText(report);
  EXPECT_EQ(text.find("0 rows differ"), std::string::npos) << "\"10 rows differ\" would hold it";
  EXPECT_NE(text.find("10 DIFFERENT rows"), std::string::npos);
  EXPECT_NE(text.find("layer 1 row 7 differs"), std::string::npos);
  report.verified = false;
  EXPECT_EQ(ReportText(report).find("rows differ"), std::string::npos)
      << "what was not checked is not claimed";
}

}  // namespace
}  // namespace tiercel::tools
