// Goal: `tiercel replay` serves a trace through every engine and checks every row,
// reports what docs/cli.md lists, and refuses traces that do not fit.
// Method: the built program on a small made checkpoint and a seeded trace that
// repeats itself, with empty documents, short ones and dead tokens in it.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/prng.h"
#include "tests/support/scratch_dir.h"
#include "tests/tools/run_tiercel.h"

namespace tiercel::testing {
namespace {

using Json = nlohmann::json;

constexpr std::int32_t kMapEntries = 500;

class CliReplayTest : public ::testing::Test {
 protected:
  void SetUp() override {
    MakeSmallCheckpoint(path_);
    WriteTrace();
  }

  void WriteTrace() {
    Prng prng(5);
    for (int document = 0; document < 40; ++document) {
      const std::uint64_t length = document % 7 == 3 ? 0 : prng.Below(300) + 1;
      for (std::uint64_t i = 0; i < length; ++i) {
        // Two small numbers multiplied: a few ids are common, most are rare.
        const std::uint64_t id = prng.Below(20) * prng.Below(25);
        tokens_.push_back(prng.Below(50) == 0 ? -1 : static_cast<std::int32_t>(id));
      }
      offsets_.push_back(tokens_.size());
    }
    std::vector<std::int32_t> map(kMapEntries);
    for (std::int32_t i = 0; i < kMapEntries; ++i) map[static_cast<std::size_t>(i)] = i / 2;
    scratch_.Write("tokens.u32.zst", Compress(Bytes32(tokens_)));
    scratch_.Write("offsets.u64", Bytes64(offsets_));
    scratch_.Write("map.u32", Bytes32(map));
  }

  ProgramRun Replay(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {"replay",      path_,
                                          "--tokens",    scratch_.File("tokens.u32.zst"),
                                          "--offsets",   scratch_.File("offsets.u64"),
                                          "--token-map", scratch_.File("map.u32"),
                                          "--dram",      "16MiB"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTiercel(arguments);
  }

  std::uint64_t DeadCount() const {
    return static_cast<std::uint64_t>(std::count(tokens_.begin(), tokens_.end(), -1));
  }

  ScratchDir scratch_;
  const std::string path_ = scratch_.File("checkpoint");
  std::vector<std::int32_t> tokens_;
  std::vector<std::uint64_t> offsets_ = {0};
};

TEST_F(CliReplayTest, EveryRowIsRightThroughEveryEngine) {
  for (const char* engine : {"auto", "uring", "pread"}) {
    const ProgramRun run = Replay({"--engine", engine, "--verify", "--json"});
    if (std::string(engine) == "uring" && run.exit_code == 3) {
      EXPECT_NE(run.err.find("UNAVAILABLE"), std::string::npos) << run.err;
      continue;
    }
    ASSERT_EQ(run.exit_code, 0) << engine << ": " << run.err;
    const Json json = run.Json();
    EXPECT_EQ(json.at("tokens"), tokens_.size());
    EXPECT_EQ(json.at("rows_checked"), tokens_.size() * 48);
    EXPECT_EQ(json.at("rows_different"), 0);
    EXPECT_EQ(json.at("rows_failed"), 0);
    EXPECT_EQ(json.at("groups"), (tokens_.size() - DeadCount()) * 6) << "3 orders, 2 tables";
    EXPECT_GT(json.at("dram_hit_rate"), 0.0) << "the trace repeats itself";
    EXPECT_NEAR(json.at("dram_hit_rate").get<double>() + json.at("joined_share").get<double>() +
                    json.at("fetched_share").get<double>(),
                1.0, 1e-9);
  }
}

TEST_F(CliReplayTest, JsonHoldsEveryFigure) {
  const Json json = Replay({"--json"}).Json();
  for (const char* key : {"tokens",
                          "seconds",
                          "wall_seconds",
                          "tokens_per_second",
                          "rows_per_second",
                          "device_reads",
                          "device_read_bytes",
                          "device_reads_per_token",
                          "device_read_bytes_per_token",
                          "dram_hit_rate",
                          "joined_share",
                          "fetched_share",
                          "orders",
                          "layer_orders",
                          "unique_rows_per_token",
                          "step_us",
                          "resident_bytes",
                          "resident_peak_bytes",
                          "dram_budget_bytes",
                          "cache_bytes",
                          "engine",
                          "engine_description",
                          "engine_fallback",
                          "queue_depth",
                          "read_block_bytes",
                          "disk_profile",
                          "cache_description",
                          "rows_checked",
                          "rows_different",
                          "rows_failed",
                          "streams",
                          "chunk",
                          "mode",
                          "layers"}) {
    EXPECT_TRUE(json.contains(key)) << key;
  }
  EXPECT_EQ(json.at("orders").size(), 3U);
  EXPECT_EQ(json.at("layer_orders").size(), 6U);
  EXPECT_EQ(json.at("dram_budget_bytes"), 16 << 20);
  EXPECT_LE(json.at("unique_rows_per_token"), 48.0);
  EXPECT_GT(json.at("unique_rows_per_token"), 1.0);
  const Json& step = json.at("step_us");
  EXPECT_LE(step.at("p50"), step.at("p99"));
  EXPECT_LE(step.at("p99"), step.at("p99.9"));
  EXPECT_LE(step.at("p99.9"), step.at("max"));
  EXPECT_FALSE(json.at("verified").get<bool>());
  EXPECT_EQ(json.at("rows_checked"), 0);
}

TEST_F(CliReplayTest, TheTextSaysWhetherRowsDiffer) {
  const ProgramRun run = Replay({"--verify"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_NE(run.out.find("0 rows differ"), std::string::npos) << run.out;
  EXPECT_NE(run.out.find("4-grams"), std::string::npos) << run.out;
  EXPECT_EQ(run.out.find('\r'), std::string::npos) << "a progress bar strayed into stdout";
}

TEST_F(CliReplayTest, DecodeServesTheSameRows) {
  const ProgramRun run = Replay({"--mode", "decode", "--streams", "5", "--verify", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = run.Json();
  EXPECT_EQ(json.at("tokens"), tokens_.size());
  EXPECT_EQ(json.at("rows_checked"), tokens_.size() * 48);
  EXPECT_EQ(json.at("rows_different"), 0);
  EXPECT_EQ(json.at("chunk"), 1);
  EXPECT_GE(json.at("steps"), tokens_.size() / 5);
}

TEST_F(CliReplayTest, LimitsLayersAndWarmUp) {
  const Json json = Replay({"--limit", "1000", "--layers", "14", "--warm-fraction", "0.5",
                            "--streams", "3", "--chunk", "10", "--verify", "--json"})
                        .Json();
  EXPECT_EQ(json.at("layers"), Json({14}));
  EXPECT_GE(json.at("warm_tokens"), 500);
  EXPECT_LT(json.at("warm_tokens"), 510);
  EXPECT_EQ(json.at("tokens").get<int>() + json.at("warm_tokens").get<int>(), 1000);
  EXPECT_EQ(json.at("rows_checked"), 1000 * 24) << "rows of the warm-up are checked as well";
  EXPECT_LE(json.at("groups"), json.at("tokens").get<std::uint64_t>() * 3)
      << "counters are of the part after the warm-up";
  EXPECT_EQ(json.at("rows_different"), 0);
}

TEST_F(CliReplayTest, FindsDamage) {
  const Json inspected = RunTiercel({"inspect", path_, "--json"}).Json();
  const auto rows = inspected.at("layers")[0].at("rows").get<std::uint64_t>();
  for (std::uint64_t row = 0; row < rows; row += 3) {
    const RowPlace place = FindRow(inspected, 1, row).front();
    FlipBit(place.file, place.offset);
  }
  const ProgramRun run = Replay({"--verify"});
  EXPECT_EQ(run.exit_code, 1) << run.err;
  EXPECT_NE(run.out.find("DIFFERENT rows"), std::string::npos) << run.out;
  EXPECT_EQ(run.out.find("0 rows differ"), std::string::npos) << run.out;
  const Json json = Replay({"--verify", "--json"}).Json();
  EXPECT_GT(json.at("rows_different"), 0);
  ASSERT_FALSE(json.at("findings").empty());
  EXPECT_EQ(json.at("findings")[0].get<std::string>().find("layer 1 row "), 0U);
  EXPECT_EQ(Replay({}).exit_code, 0) << "without --verify nobody can know";
}

TEST_F(CliReplayTest, RefusesTracesThatDoNotFit) {
  tokens_[1234] = kMapEntries;
  scratch_.Write("tokens.u32.zst", Compress(Bytes32(tokens_)));
  ProgramRun run = Replay({"--limit", "10"});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_NE(run.err.find("token 500 at position 1234"), std::string::npos) << run.err;

  tokens_.erase(tokens_.begin() + 1234);
  scratch_.Write("tokens.u32.zst", Compress(Bytes32(tokens_)));
  run = Replay({"--limit", "10"});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_NE(run.err.find("do not belong together"), std::string::npos) << run.err;

  const std::string packed = Compress(Bytes32(tokens_));
  scratch_.Write("tokens.u32.zst", packed.substr(0, packed.size() / 2));
  run = Replay({"--limit", "10"});
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_NE(run.err.find("CORRUPTION"), std::string::npos) << run.err;
  EXPECT_EQ(run.out, "");
}

TEST_F(CliReplayTest, RefusesAMapAndABudgetThatDoNotFit) {
  ProgramRun run = Replay({"--dram", "1MiB"});
  EXPECT_EQ(run.exit_code, 2) << "given twice: " << run.err;
  run = RunTiercel({"replay", path_, "--tokens", scratch_.File("tokens.u32.zst"), "--offsets",
                    scratch_.File("offsets.u64"), "--dram", "16MiB"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_NE(run.err.find("--token-map"), std::string::npos) << run.err;
  run = RunTiercel({"replay", path_, "--tokens", scratch_.File("tokens.u32.zst"), "--offsets",
                    scratch_.File("offsets.u64"), "--token-map", scratch_.File("map.u32"), "--dram",
                    "1MiB"});
  EXPECT_EQ(run.exit_code, 3) << "16 MiB is the least: " << run.err;
  run = Replay({"--layers", "2"});
  EXPECT_EQ(run.exit_code, 3) << "layer 2 has no table";
  EXPECT_NE(run.err.find("NOT_FOUND"), std::string::npos) << run.err;
}

TEST(CliReplayQwen, NeedsNoMap) {
  const ScratchDir scratch;
  const std::string path = scratch.File("qwen");
  MakeSmallCheckpoint(path, "qwen3.8-flash-next", {"--fp8"});
  std::vector<std::int32_t> tokens;
  for (int i = 0; i < 2000; ++i) tokens.push_back(i % 100 == 99 ? 248044 : i * i % 331);
  const ProgramRun run = RunTiercel(
      {"replay", path, "--tokens", scratch.Write("t", Bytes32(tokens)), "--offsets",
       scratch.Write("o", Bytes64({0, 700, 2000})), "--dram", "16MiB", "--verify", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.Json().at("rows_checked"), 2000 * 16);
  EXPECT_EQ(run.Json().at("rows_different"), 0);
  EXPECT_EQ(run.Json().at("orders").size(), 2U);
}

}  // namespace
}  // namespace tiercel::testing
