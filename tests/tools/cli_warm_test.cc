// Goal: a hot set goes from `replay --save-hot-set` through `warm` and `replay --hot-set`
// as docs/cli.md says, a bad one is told of with the right exit code, and `--metrics`,
// `--numa` and `--hugetlb` do what they say.
// Method: the built program on a small made checkpoint and a seeded trace.

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "base/prng.h"
#include "tests/support/scratch_dir.h"
#include "tests/tools/run_tiercel.h"

namespace tiercel::testing {
namespace {

using Json = nlohmann::json;

class CliWarmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    MakeSmallCheckpoint(path_);
    Prng prng(5);
    std::vector<std::int32_t> tokens(1500);
    for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(prng.Below(90000));
    scratch_.Write("tokens.u32", Bytes32(tokens));
    scratch_.Write("offsets.u64", Bytes64({0, tokens.size()}));
  }

  ProgramRun Replay(const std::vector<std::string>& more) const {
    std::vector<std::string> arguments = {"replay",       path_,
                                          "--tokens",     scratch_.File("tokens.u32"),
                                          "--offsets",    scratch_.File("offsets.u64"),
                                          "--compressed", "--dram",
                                          "64MiB"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTiercel(arguments);
  }

  ScratchDir scratch_;
  const std::string path_ = scratch_.File("checkpoint");
  const std::string hot_ = scratch_.File("hot");
};

TEST_F(CliWarmTest, WhatWasSavedMakesTheNextRunWarm) {
  for (const bool keys : {false, true}) {
    std::vector<std::string> arguments = {"--json", "--save-hot-set", hot_};
    if (keys) arguments.emplace_back("--save-hot-set-keys");
    const ProgramRun first = Replay(arguments);
    ASSERT_EQ(first.exit_code, 0) << first.err;
    EXPECT_LT(first.Json().at("dram_hit_rate"), 0.5);

    const Json info = RunTiercel({"warm", "--info", hot_, "--json"}).Json();
    EXPECT_EQ(info.at("image"), !keys);
    EXPECT_GT(info.at("groups"), 0);
    EXPECT_EQ(info.at("file_bytes"), std::filesystem::file_size(hot_));
    EXPECT_EQ(info.at("spaces").size(), 6U);

    const Json warm =
        RunTiercel({"warm", path_, "--hot-set", hot_, "--dram", "64MiB", "--json"}).Json();
    EXPECT_EQ(warm.at("state"), "loaded");
    EXPECT_EQ(warm.at("groups_loaded"), info.at("groups"));
    EXPECT_GT(warm.at("seconds"), 0.0);
    EXPECT_GT(warm.at("bytes_per_second"), 0.0);

    const ProgramRun again =
        Replay({"--json", "--verify", "--hot-set", hot_, "--hot-set-wait", "--pin", "0.1"});
    ASSERT_EQ(again.exit_code, 0) << again.err;
    EXPECT_EQ(again.Json().at("dram_hit_rate"), 1.0);
    EXPECT_EQ(again.Json().at("rows_different"), 0);
    EXPECT_GT(again.Json().at("hot_set").at("groups_pinned"), 0);

    const ProgramRun beside = Replay({"--verify", "--hot-set", hot_, "--hot-set-keys"});
    EXPECT_EQ(beside.exit_code, 0) << beside.err;
    EXPECT_NE(beside.out.find("hot set"), std::string::npos) << beside.out;
    EXPECT_NE(beside.out.find("0 rows differ"), std::string::npos) << beside.out;
  }
}

TEST_F(CliWarmTest, ABadFileIsToldOf) {
  ASSERT_EQ(Replay({"--save-hot-set", hot_}).exit_code, 0);
  const std::vector<std::string> warm = {"warm", path_, "--hot-set", hot_, "--dram", "64MiB"};
  // A damaged block is a finding; the others are loaded.
  FlipBit(hot_, 8192 + 5000);
  const ProgramRun damaged = RunTiercel(warm);
  EXPECT_EQ(damaged.exit_code, 1);
  EXPECT_NE(damaged.err.find("CORRUPTION"), std::string::npos) << damaged.err;
  EXPECT_NE(damaged.err.find("block 0 of"), std::string::npos) << damaged.err;
  EXPECT_NE(damaged.out.find("DAMAGED"), std::string::npos) << damaged.out;
  // A damaged header, or none, is a failure.
  FlipBit(hot_, 40);
  EXPECT_EQ(RunTiercel(warm).exit_code, 3);
  EXPECT_EQ(RunTiercel({"warm", "--info", hot_}).exit_code, 3);
  EXPECT_EQ(RunTiercel({"warm", "--info", scratch_.File("none")}).exit_code, 3);
}

TEST_F(CliWarmTest, AShardServesItsHeadsAndHasAHotSetOfItsOwn) {
  const ProgramRun run = Replay({"--shard", "1/3", "--json", "--verify", "--save-hot-set", hot_});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.Json().at("shard"), "1/3");
  EXPECT_EQ(run.Json().at("rows"), 1500 * 2 * 9);  // Heads 1, 4 and 7 of three orders.
  EXPECT_EQ(run.Json().at("rows_checked"), 1500 * 2 * 9);
  EXPECT_EQ(run.Json().at("rows_different"), 0);
  const ProgramRun text = Replay({"--shard", "2/3"});
  EXPECT_NE(text.out.find("shard 2/3, 6 columns"), std::string::npos) << text.out;
  EXPECT_EQ(RunTiercel({"warm", "--info", hot_, "--json"}).Json().at("shard"), "1/3");
  const ProgramRun info = RunTiercel({"warm", "--info", hot_});
  EXPECT_NE(info.out.find("shard 1/3"), std::string::npos) << info.out;

  const std::vector<std::string> warm = {"warm",   path_,   "--hot-set", hot_,
                                         "--dram", "64MiB", "--shard"};
  const auto with = [&warm](const char* shard) {
    std::vector<std::string> arguments = warm;
    arguments.emplace_back(shard);
    return RunTiercel(arguments);
  };
  EXPECT_EQ(with("1/3").exit_code, 0);
  const ProgramRun other = with("0/3");
  EXPECT_EQ(other.exit_code, 3);
  EXPECT_NE(other.err.find("head shard 1/3"), std::string::npos) << other.err;
  const ProgramRun many = with("0/9");
  EXPECT_EQ(many.exit_code, 3);
  EXPECT_NE(many.err.find("8 heads"), std::string::npos) << many.err;
  for (const char* shard : {"3/3", "0/0", "1", "1/", "/3", "-1/3", "a/b", ""}) {
    EXPECT_EQ(with(shard).exit_code, 2) << shard;
  }
  // Any row of the table can be looked at through any shard.
  const ProgramRun rows =
      RunTiercel({"lookup", path_, "--layer", "1", "--rows", "0-99", "--shard", "3/4", "--json"});
  EXPECT_EQ(rows.exit_code, 0) << rows.err;
  EXPECT_EQ(rows.Json().at("shard"), "3/4");
}

TEST_F(CliWarmTest, OptionsThatDoNotGoTogetherAreRefused) {
  EXPECT_EQ(RunTiercel({"warm"}).exit_code, 2);
  EXPECT_EQ(RunTiercel({"warm", path_}).exit_code, 2);
  EXPECT_EQ(RunTiercel({"warm", path_, "--info", hot_}).exit_code, 2);
  EXPECT_EQ(RunTiercel({"warm", path_, "--hot-set", hot_, "--pin", "1.5"}).exit_code, 2);
  EXPECT_EQ(Replay({"--numa", "everywhere"}).exit_code, 2);
}

TEST_F(CliWarmTest, MetricsAreWritten) {
  const std::string metrics = scratch_.File("tiercel.prom");
  ASSERT_EQ(Replay({"--metrics", metrics}).exit_code, 0);
  std::ifstream file(metrics);
  std::ostringstream text;
  text << file.rdbuf();
  // Its grammar is metrics_test's.
  EXPECT_NE(text.str().find("\ntiercel_groups_total{layer=\"1\",order=\"2\"} 1500\n"),
            std::string::npos)
      << text.str();
  EXPECT_FALSE(std::filesystem::exists(metrics + ".tmp"));
  const ProgramRun nowhere = Replay({"--metrics", scratch_.File("no/tiercel.prom")});
  EXPECT_EQ(nowhere.exit_code, 3);
  EXPECT_NE(nowhere.err.find("no/tiercel.prom"), std::string::npos) << nowhere.err;
}

TEST_F(CliWarmTest, MemoryIsWhereItWasAskedFor) {
  for (const char* numa : {"none", "interleave", "0"}) {
    const ProgramRun run = Replay({"--numa", numa, "--limit", "100", "--verify"});
    if (run.exit_code == 3 && std::string(numa) == "0") {
      EXPECT_NE(run.err.find("UNAVAILABLE"), std::string::npos) << run.err;  // No hwloc.
      continue;
    }
    EXPECT_EQ(run.exit_code, 0) << run.err;
  }
  const ProgramRun nowhere = Replay({"--numa", "4000"});
  EXPECT_EQ(nowhere.exit_code, 3);
  EXPECT_NE(nowhere.err.find("NUMA node 4000"), std::string::npos) << nowhere.err;
  const ProgramRun huge = Replay({"--hugetlb", "--limit", "100"});
  if (huge.exit_code == 0) {
    EXPECT_NE(huge.out.find("hugetlb"), std::string::npos) << huge.out;
  } else {
    EXPECT_EQ(huge.exit_code, 3);
    EXPECT_NE(huge.err.find("sysctl -w vm.nr_hugepages="), std::string::npos) << huge.err;
  }
}

}  // namespace
}  // namespace tiercel::testing
