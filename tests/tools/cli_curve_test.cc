// Goal: `tiercel curve` and `tiercel plan` tell what a trace and a machine come to, print
// what docs/cli.md lists, and refuse what makes no sense with the documented exit codes.
// Method: the built program on the real sample trace and on a small made one.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/scratch_dir.h"
#include "tests/tools/run_tiercel.h"
#include "tiercel/disk_profile.h"

namespace tiercel::testing {
namespace {

using Json = nlohmann::json;

const std::string kTrace = TIERCEL_SOURCE_DIR "/tests/data/sample_trace.tokens.u32.zst";
const std::string kMap = TIERCEL_SOURCE_DIR "/tests/data/token_map_v3.u32";

ProgramRun RunCurve(const std::vector<std::string>& more, const std::string& trace = kTrace) {
  std::vector<std::string> arguments = {"curve", trace, "--token-map", kMap};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunTiercel(arguments);
}

ProgramRun RunV41Curve(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"--like", "deepseek-v4.1-flash"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunCurve(arguments);
}

ProgramRun RunPlan(const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"plan", "--like", "deepseek-v4.1-flash"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return RunTiercel(arguments);
}

void ExpectRefused(const ProgramRun& run, int exit_code, const std::string& words) {
  EXPECT_EQ(run.exit_code, exit_code) << run.err;
  EXPECT_NE(run.err.find(words), std::string::npos) << run.err << " lacks: " << words;
  EXPECT_EQ(run.out, "");
}

const Json& PolicyOf(const Json& curve, const std::string& name) {
  for (const Json& line : curve.at("policies")) {
    if (line.at("policy") == name) return line.at("points");
  }
  ADD_FAILURE() << "no policy " << name;
  return curve;
}

TEST(CliCurveTest, TellsEveryPolicyOnRealText) {
  const ProgramRun run = RunV41Curve({"--sizes", "32MiB,256MiB", "--limit", "300000", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = run.Json();
  EXPECT_EQ(json.at("sample_fraction"), 1.0) << "a small trace is simulated whole";
  EXPECT_EQ(json.at("tokens").get<int>() + json.at("warm_tokens").get<int>(), 300'000);
  EXPECT_EQ(json.at("rows_per_token"), 48);
  EXPECT_EQ(json.at("row_bytes"), 264);
  EXPECT_EQ(json.at("ngram_bytes"), 4224);
  EXPECT_GT(json.at("unique_ngrams"), 100'000);
  const Json& best = PolicyOf(json, "opt");
  for (const char* name : {"lru", "s3fifo", "tinylfu", "ours", "topk"}) {
    const Json& points = PolicyOf(json, name);
    ASSERT_EQ(points.size(), 2U) << name;
    for (std::size_t i = 0; i < 2; ++i) {
      const double rate = points[i].at("hit_rate");
      EXPECT_GT(rate, 0.2) << name;
      EXPECT_LE(rate, best[i].at("hit_rate").get<double>()) << name;
      EXPECT_NEAR(points[i].at("reads_per_token").get<double>(), 48 * (1 - rate), 1e-6) << name;
      ASSERT_EQ(points[i].at("orders").size(), 3U);
      EXPECT_EQ(points[i].at("orders")[0].at("order"), 2);
      EXPECT_GT(points[i].at("orders")[0].at("hit_rate"), points[i].at("orders")[2].at("hit_rate"))
          << "2-grams repeat more than 4-grams";
    }
    EXPECT_GE(points[1].at("hit_rate"), points[0].at("hit_rate")) << name;
    EXPECT_EQ(points[0].at("bytes"), 32 << 20);
  }
  EXPECT_LT(PolicyOf(json, "ours")[0].at("ngrams"), PolicyOf(json, "lru")[0].at("ngrams"));
}

TEST(CliCurveTest, ASampleSaysHowFarItMayBeOff) {
  const std::vector<std::string> common = {"--sizes",    "256MiB", "--limit", "400000",
                                           "--policies", "lru",    "--json"};
  std::vector<std::string> sampled = common;
  sampled.insert(sampled.end(), {"--sample", "0.2"});
  const Json exact_json = RunV41Curve(common).Json();
  const Json sampled_json = RunV41Curve(sampled).Json();
  const Json exact = PolicyOf(exact_json, "lru")[0];
  const Json sample = PolicyOf(sampled_json, "lru")[0];
  EXPECT_EQ(sampled_json.at("slices"), 8);
  EXPECT_EQ(exact.at("standard_error"), 0.0);
  const double error = sample.at("standard_error");
  EXPECT_GT(error, 0.0);
  EXPECT_LT(error, 0.01);
  EXPECT_NEAR(sample.at("hit_rate").get<double>(), exact.at("hit_rate").get<double>(),
              4 * error + 0.003);
}

TEST(CliCurveTest, PrintsATableAndDrawsIt) {
  const ScratchDir scratch;
  const std::string svg = scratch.File("curve.svg");
  const ProgramRun run = RunV41Curve({"--sizes", "64MiB,128MiB,256MiB", "--limit", "100000",
                                      "--policies", "lru,ours", "--orders", "--svg", svg});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  for (const char* words : {"hit rate", "64.0 MiB", "67,108,864", "lru", "ours", "4-grams", "reads",
                            "all n-grams: exact"}) {
    EXPECT_NE(run.out.find(words), std::string::npos) << words << " is not in\n" << run.out;
  }
  EXPECT_EQ(run.out.find("s3fifo"), std::string::npos);
  EXPECT_EQ(run.out.find('\r'), std::string::npos) << "a progress bar strayed into stdout";
  std::ifstream file(svg);
  std::ostringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str().rfind("<svg", 0), 0U);
  for (const char* words : {"128 MiB", "LRU", "Tiercel", "Hit rate"}) {
    EXPECT_NE(text.str().find(words), std::string::npos) << words;
  }
}

TEST(CliCurveTest, AConfigAndAModelAgree) {
  const ScratchDir scratch;
  MakeSmallCheckpoint(scratch.File("v41"));
  const std::vector<std::string> more = {"--sizes",    "64MiB", "--limit", "100000",
                                         "--policies", "lru",   "--json"};
  std::vector<std::string> with_config = {"--config", scratch.File("v41") + "/config.json"};
  with_config.insert(with_config.end(), more.begin(), more.end());
  const ProgramRun run = RunCurve(with_config);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(PolicyOf(run.Json(), "lru"), PolicyOf(RunV41Curve(more).Json(), "lru"))
      << "an n-gram is an n-gram, whatever the size of the table";
}

TEST(CliCurveTest, RefusesWhatMakesNoSense) {
  ExpectRefused(RunV41Curve({"--policies", "lru,clock"}), 2, "'clock' is not a policy");
  ExpectRefused(RunV41Curve({"--sizes", "1GiB,large"}), 2, "'large' is not a size");
  ExpectRefused(RunV41Curve({"--sample", "0"}), 2, "--sample");
  ExpectRefused(RunV41Curve({"--warm-fraction", "1"}), 2, "--warm-fraction");
  ExpectRefused(RunCurve({}), 2, "--like MODEL");
  ExpectRefused(RunCurve({"--like", "gpt"}), 2, "'gpt' is not a model");
  ExpectRefused(RunTiercel({"curve", kTrace, "--like", "deepseek-v4.1-flash"}), 2, "--token-map");
  ExpectRefused(RunV41Curve({"--known-trace", "--known-tokens", "10"}), 2, "--known-t");
  ExpectRefused(RunV41Curve({"--known-trace", "--policies", "cache"}), 3, "trace_known");
  ExpectRefused(RunV41Curve({"--sizes", "4000"}), 3, "INVALID_ARGUMENT");
  ExpectRefused(RunV41Curve({"--sizes", "16MiB", "--sample", "0.01"}), 3, "larger sample");
  ExpectRefused(RunV41Curve({"--limit", "9", "--policies", "ours", "--sizes", "10KB"}), 3,
                "RESOURCE_EXHAUSTED");
}

TEST(CliCurveTest, RefusesDamagedTraces) {
  const ScratchDir scratch;
  const std::vector<std::string> model = {"--like", "deepseek-v4.1-flash"};
  ExpectRefused(RunCurve(model, scratch.File("none")), 3, "NOT_FOUND");
  scratch.Write("a.offsets.u64", Bytes64({0, 3}));
  const std::string trace = scratch.Write("a.tokens.u32", Bytes32({1, 2, 128'815}));
  ExpectRefused(RunCurve(model, trace), 3, "token 128815 at position 2 is not below 128815");
  scratch.Write("a.tokens.u32", Bytes32({1, 2}));
  ExpectRefused(RunCurve(model, trace), 3, "do not belong together");
  scratch.Write("a.tokens.u32", Bytes32({1, 2, 3}) + "x");
  ExpectRefused(RunCurve(model, trace), 3, "left over");
  scratch.Write("a.tokens.u32", Bytes32({1, 2, 3}));
  scratch.Write("a.offsets.u64", Bytes64({0, 4, 3}));
  ExpectRefused(RunCurve(model, trace), 3, "offset 2 is 3");
  scratch.Write("a.offsets.u64", Bytes64({0, 3}));
  const std::string packed = Compress(Bytes32(std::vector<std::int32_t>(5'000, 7)));
  scratch.Write("a.tokens.u32", packed.substr(0, packed.size() - 3));
  ExpectRefused(RunCurve(model, trace), 3, "CORRUPTION");
  const std::string named_else = scratch.Write("tokens.bin", Bytes32({1, 2, 3}));
  ExpectRefused(RunCurve(model, named_else), 3, "--offsets");
  const ProgramRun run = RunCurve({"--like", "deepseek-v4.1-flash", "--sizes", "1MiB", "--offsets",
                                   scratch.File("a.offsets.u64"), "--warm-fraction", "0"},
                                  named_else);
  EXPECT_EQ(run.exit_code, 0) << run.err;
}

TEST(CliPlanTest, MoreMemoryAndMoreReadsServeMore) {
  const Json plan = RunPlan({"--dram", "16GiB", "--iops", "100000", "--json"}).Json();
  const Json& points = plan.at("points");
  ASSERT_EQ(points.size(), 7U);
  for (std::size_t i = 1; i < points.size(); ++i) {
    EXPECT_EQ(points[i].at("dram_bytes"), 2 * points[i - 1].at("dram_bytes").get<std::uint64_t>());
    EXPECT_GE(points[i].at("tokens_per_second"), points[i - 1].at("tokens_per_second"));
  }
  EXPECT_GT(points[3].at("tokens_per_second"), points[0].at("tokens_per_second"));
  EXPECT_EQ(points[3], plan.at("plan"));
  EXPECT_EQ(plan.at("plan").at("bound"), "disk");
  EXPECT_NEAR(plan.at("plan").at("tokens_per_second").get<double>() *
                  plan.at("plan").at("reads_per_token").get<double>(),
              100'000, 1.0);
  // 6.1 GB of scales: in memory from 12 GiB on, and below it each row is read in two parts.
  EXPECT_GT(points[3].at("resident_scale_bytes"), 6'000'000'000);
  EXPECT_EQ(points[2].at("resident_scale_bytes"), 0);
  EXPECT_NEAR(points[2].at("reads_per_token").get<double>(),
              2 * 48 * (1 - points[2].at("hit_rate").get<double>()), 1e-6);

  const Json fast = RunPlan({"--dram", "16GiB", "--iops", "1e8", "--json"}).Json();
  EXPECT_EQ(fast.at("plan").at("bound"), "cpu");
  EXPECT_GT(fast.at("plan").at("tokens_per_second"), plan.at("plan").at("tokens_per_second"));
}

TEST(CliPlanTest, SaysWhichMemoryATargetNeeds) {
  const ProgramRun run =
      RunPlan({"--dram", "16GiB", "--iops", "200000", "--target-tokens-per-s", "12000", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json target = run.Json().at("target");
  EXPECT_GE(target.at("tokens_per_second"), 12'000.0);
  const std::string a_little_less =
      std::to_string(target.at("dram_bytes").get<std::uint64_t>() / 100 * 95);
  const Json less = RunPlan({"--dram", a_little_less, "--iops", "200000", "--json"}).Json();
  EXPECT_LT(less.at("plan").at("tokens_per_second"), 12'000.0);

  const ProgramRun beyond =
      RunPlan({"--dram", "16GiB", "--iops", "200000", "--target-tokens-per-s", "1000000"});
  EXPECT_EQ(beyond.exit_code, 0) << beyond.err;
  EXPECT_NE(beyond.out.find("OUT OF REACH"), std::string::npos) << beyond.out;
  EXPECT_NE(beyond.out.find("built in"), std::string::npos) << beyond.out;
}

TEST(CliPlanTest, TakesATraceAndAProfile) {
  const ScratchDir scratch;
  const DiskProfile disk = {.disk = {.name = "x", .description = "a disk"},
                            .engine = "io_uring",
                            .engine_fallback = "",
                            .block_bytes = 4096,
                            .queue_depth = 64,
                            .points = {{4096, 64, 228'428.0, 270'000, 410'000, 672'000, 2'620.0}}};
  const std::string profile = scratch.Write("disk.json", DiskProfileJson(disk));
  const ProgramRun run = RunPlan({"--dram", "16MiB", "--disk-profile", profile, "--trace", kTrace,
                                  "--token-map", kMap, "--scales", "disk", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = run.Json();
  EXPECT_EQ(json.at("iops"), 228428.0);
  EXPECT_EQ(json.at("cpu_ns_per_read"), 2620.0);
  EXPECT_NE(json.at("hit_rates_of").get<std::string>().find("sample_trace"), std::string::npos);
  const Json curve = RunV41Curve({"--sizes", "16MiB", "--policies", "ours", "--json"}).Json();
  EXPECT_NEAR(json.at("plan").at("hit_rate").get<double>(),
              PolicyOf(curve, "ours")[0].at("hit_rate").get<double>(), 1e-6);
}

TEST(CliPlanTest, RefusesWhatMakesNoSense) {
  ExpectRefused(RunPlan({"--iops", "1000"}), 2, "--dram");
  ExpectRefused(RunPlan({"--dram", "1GiB"}), 2, "--iops");
  ExpectRefused(RunPlan({"--dram", "1GiB", "--iops", "0"}), 2, "--iops");
  ExpectRefused(RunPlan({"--dram", "1MiB", "--iops", "1000"}), 2, "16MiB");
  ExpectRefused(RunPlan({"--dram", "1GiB", "--iops", "1000", "--scales", "hbm"}), 2, "--scales");
  ExpectRefused(RunPlan({"--dram", "1GiB", "--iops", "1000", "--scales", "resident"}), 3,
                "do not hold the scales");
  ExpectRefused(RunPlan({"--dram", "1GiB", "--disk-profile", "/none"}), 3, "NOT_FOUND");
  ExpectRefused(
      RunPlan({"--dram", "1GiB", "--iops", "1000", "--trace", "/none", "--token-map", kMap}), 3,
      "NOT_FOUND");
}

}  // namespace
}  // namespace tiercel::testing
