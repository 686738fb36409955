// Goal: `tiercel serve-bench` runs both of its arms on a small table, reports what
// docs/cli.md lists, and refuses what does not fit.
// Method: the built program with steps of a millisecond; figures are looked at for what
// must hold on any machine, not for their size.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/prng.h"
#include "tests/support/scratch_dir.h"
#include "tests/tools/run_tiercel.h"

namespace tiercel::testing {
namespace {

using Json = nlohmann::json;

class CliServeBenchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    MakeSmallCheckpoint(path_);
    Prng prng(5);
    std::vector<std::int32_t> tokens;
    std::vector<std::uint64_t> offsets = {0};
    for (int document = 0; document < 8; ++document) {
      for (int i = 0; i < 2000; ++i) {
        tokens.push_back(static_cast<std::int32_t>(prng.Below(20) * prng.Below(25)));
      }
      offsets.push_back(tokens.size());
    }
    scratch_.Write("tokens.u32", Bytes32(tokens));
    scratch_.Write("offsets.u64", Bytes64(offsets));
  }

  ProgramRun Serve(const std::vector<std::string>& more, const std::string& steps = "20") const {
    std::vector<std::string> arguments = {"serve-bench",
                                          path_,
                                          "--tokens",
                                          scratch_.File("tokens.u32"),
                                          "--offsets",
                                          scratch_.File("offsets.u64"),
                                          "--compressed",
                                          "--dram",
                                          "32MiB",
                                          "--step-ms",
                                          "1",
                                          "--steps",
                                          steps,
                                          "--rounds",
                                          "2",
                                          "--warm-tokens",
                                          "1000",
                                          "--streams",
                                          "4"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTiercel(arguments);
  }

  ScratchDir scratch_;
  const std::string path_ = scratch_.File("checkpoint");
};

TEST_F(CliServeBenchTest, ReportsBothArmsAndTheIdeal) {
  const ProgramRun run = Serve({"--prefill-tokens", "500", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = run.Json();
  for (const char* arm : {"alone", "beside_prefill"}) {
    SCOPED_TRACE(arm);
    EXPECT_EQ(json.at(arm).at("steps"), 20);
    ASSERT_EQ(json.at(arm).at("layers").size(), 2U);
    EXPECT_EQ(json.at(arm).at("layers")[1].at("layer"), 14);
    EXPECT_GE(json.at(arm).at("step_seconds").get<double>(), 0.001);
    EXPECT_GE(json.at(arm).at("loss").get<double>(), 0.0);
    for (const Json& layer : json.at(arm).at("exposed").at("layers")) {
      EXPECT_LE(layer.at("p50_ns"), layer.at("p99_ns"));
      EXPECT_LE(layer.at("p99_ns"), layer.at("max_ns"));
    }
  }
  const double ideal = json.at("ideal").at("step").at("mean_ns").get<double>();
  for (const char* key : {"twice_the_iops", "twice_the_dram", "a_step_earlier"}) {
    EXPECT_LE(json.at("ideal_if").at(key).at("step").at("mean_ns").get<double>(), ideal) << key;
  }
  EXPECT_GT(json.at("disk_reads_per_second").get<double>(), 0.0);
  EXPECT_GT(json.at("prefill").at("device_reads").get<std::uint64_t>(), 0U);
}

TEST_F(CliServeBenchTest, TextNamesEngineAndLayers) {
  const ProgramRun run = Serve({});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  for (const char* part : {"serve-bench: 4 streams", "engine", "decode alone", "layer 14: late in",
                           "ideal: as many reads, bare queue"}) {
    EXPECT_NE(run.out.find(part), std::string::npos) << part << "\n" << run.out;
  }
}

TEST_F(CliServeBenchTest, RefusesWhatDoesNotFit) {
  EXPECT_EQ(Serve({"--blocks", "10"}).exit_code, 2);  // Layer 14 is none of them.
  const ProgramRun no_layer = Serve({"--layers", "3"});
  EXPECT_EQ(no_layer.exit_code, 3);
  EXPECT_NE(no_layer.err.find("layer 3 has no table"), std::string::npos) << no_layer.err;
  const ProgramRun short_trace = Serve({}, "100000");
  EXPECT_EQ(short_trace.exit_code, 3);
  EXPECT_NE(short_trace.err.find("before the last step"), std::string::npos) << short_trace.err;
}

}  // namespace
}  // namespace tiercel::testing
