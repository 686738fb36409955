// tiercel pack, unpack, diff and verify on packed tables and sidecars.

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/scratch_dir.h"
#include "tests/tools/run_tiercel.h"

namespace tiercel::testing {
namespace {

using Json = nlohmann::json;

class CliPackTest : public ::testing::Test {
 protected:
  void SetUp() override {
    MakeSmallCheckpoint(path_);
    const ProgramRun run = RunTiercel({"pack", path_, "--out", packed_, "--json"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    report_ = run.Json();
  }

  ScratchDir scratch_;
  const std::string path_ = scratch_.File("checkpoint");
  const std::string packed_ = scratch_.File("packed");
  Json report_;
};

TEST_F(CliPackTest, GoesRoundAndDiffSeesNoDifference) {
  EXPECT_EQ(report_.at("files"), 3);
  EXPECT_EQ(report_.at("resumed_bytes"), 0);
  EXPECT_EQ(report_.at("bytes_written"), report_.at("file_bytes"));
  const Json inspected = RunTiercel({"inspect", packed_, "--json"}).Json();
  EXPECT_EQ(inspected.at("layout"), "packed");
  const std::string unpacked = scratch_.File("unpacked");
  EXPECT_EQ(RunTiercel({"unpack", packed_, "--out", unpacked}).exit_code, 0);
  for (const std::vector<std::string>& pair :
       std::vector<std::vector<std::string>>{{path_, packed_}, {packed_, unpacked}}) {
    const ProgramRun diff = RunTiercel({"diff", pair[0], pair[1], "--json"});
    EXPECT_EQ(diff.exit_code, 0) << diff.err;
    const Json json = diff.Json();
    for (const Json& layer : json.at("layers")) {
      EXPECT_EQ(layer.at("rows_different"), 0);
      EXPECT_GT(layer.at("rows_compared"), 0);
    }
  }
  const std::string again = scratch_.File("again");
  EXPECT_EQ(RunTiercel({"pack", packed_, "--out", again}).exit_code, 0);
  const ProgramRun by_digest = RunTiercel({"diff", packed_, again});
  EXPECT_EQ(by_digest.exit_code, 0) << by_digest.err;
  EXPECT_NE(by_digest.out.find("by the digests"), std::string::npos) << by_digest.out;
  const ProgramRun read = RunTiercel({"diff", packed_, again, "--read-all"});
  EXPECT_NE(read.out.find("0 rows differ"), std::string::npos) << read.out;
}

TEST_F(CliPackTest, DiffNamesTheRowsThatDiffer) {
  const Json inspected = RunTiercel({"inspect", path_, "--json"}).Json();
  FlipBit(FindRow(inspected, 14, 123).front().file, FindRow(inspected, 14, 123).front().offset);
  const ProgramRun diff = RunTiercel({"diff", path_, packed_, "--json"});
  EXPECT_EQ(diff.exit_code, 1) << diff.err;
  EXPECT_EQ(diff.Json().at("layers")[0].at("rows_different"), 0);
  EXPECT_EQ(diff.Json().at("layers")[1].at("rows"), Json::array({123}));
  const std::string other = scratch_.File("other");
  MakeSmallCheckpoint(other, "engram-demo");
  const ProgramRun not_alike = RunTiercel({"diff", path_, other});
  EXPECT_EQ(not_alike.exit_code, 3);
  EXPECT_NE(not_alike.err.find("cannot be compared"), std::string::npos) << not_alike.err;
}

TEST_F(CliPackTest, VerifyFindsDamageInAPackedTable) {
  const std::string file = packed_ + "/gen-000001/layer-14.rows";
  FlipBit(file, 3 * 4096 + 2000);  // In a row.
  FlipBit(file, 5 * 4096 + 3);     // In a page's header: its 15 rows are lost.
  const ProgramRun run = RunTiercel({"verify", packed_, "--json"});
  EXPECT_EQ(run.exit_code, 1) << run.err;
  EXPECT_EQ(run.Json().at("rows_corrupt"), 16);
  EXPECT_EQ(run.Json().at("damaged_frames"), 1);
  EXPECT_EQ(run.Json().at("checks"), Json::array({"page checksums", "generator"}));
  const ProgramRun text = RunTiercel({"verify", packed_});
  EXPECT_NE(text.out.find("16 CORRUPT"), std::string::npos) << text.out;
}

TEST_F(CliPackTest, ASidecarTellsDamageInPlace) {
  const ProgramRun made = RunTiercel({"verify", path_, "--write-checksums", "--json"});
  EXPECT_EQ(made.exit_code, 0) << made.err;
  EXPECT_EQ(made.Json().at("checksums"), path_ + "/tiercel.checksums");
  EXPECT_EQ(RunTiercel({"verify", path_, "--write-checksums"}).exit_code, 3);
  EXPECT_EQ(RunTiercel({"verify", path_, "--write-checksums", "--sample", "5"}).exit_code, 2);
  // As if nobody knew what made it: the sidecar alone tells.
  std::filesystem::remove(path_ + "/tiercel_synthetic.json");
  const ProgramRun whole = RunTiercel({"verify", path_, "--json"});
  EXPECT_EQ(whole.exit_code, 0) << whole.err;
  EXPECT_EQ(whole.Json().at("checks"), Json::array({"checksum sidecar"}));
  const Json inspected = RunTiercel({"inspect", path_, "--json"}).Json();
  FlipBit(FindRow(inspected, 1, 50).front().file, FindRow(inspected, 1, 50).front().offset);
  const ProgramRun run = RunTiercel({"verify", path_, "--json"});
  EXPECT_EQ(run.exit_code, 1) << run.err;
  EXPECT_GT(run.Json().at("rows_corrupt"), 0);
  const ProgramRun off = RunTiercel({"verify", path_, "--checksums", "off"});
  EXPECT_EQ(off.exit_code, 0) << off.err;
  EXPECT_NE(off.out.find("nothing to check rows against"), std::string::npos) << off.out;
  EXPECT_EQ(RunTiercel({"verify", path_, "--checksums", "maybe"}).exit_code, 2);
}

TEST_F(CliPackTest, WhatCannotBeDoneIsSaid) {
  EXPECT_EQ(RunTiercel({"pack", path_, "--out", packed_}).exit_code, 3);
  EXPECT_EQ(RunTiercel({"pack", path_, "--out", scratch_.File("x"), "--layers", "7"}).exit_code, 3);
  EXPECT_EQ(RunTiercel({"pack", path_, "--out", scratch_.File("x"), "--shard", "8/8"}).exit_code,
            2);
  EXPECT_EQ(RunTiercel({"unpack", path_, "--out", scratch_.File("y")}).exit_code, 3);
  const ProgramRun gone = RunTiercel({"pack", scratch_.File("nowhere"), "--out", "/var/tmp/z"});
  EXPECT_EQ(gone.exit_code, 3);
  EXPECT_NE(gone.err.find("nowhere"), std::string::npos) << gone.err;
}

}  // namespace
}  // namespace tiercel::testing
