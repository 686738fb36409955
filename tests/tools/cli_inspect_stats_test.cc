// Goal: `inspect --stats` tells what the rows of a table are, by column, in every format.
// Method: the built program on made checkpoints, and on ones with rows that were overwritten at
// places that `inspect` names.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/support/scratch_dir.h"
#include "tests/tools/run_tiercel.h"

namespace tiercel::testing {
namespace {

using Json = nlohmann::json;

/// Writes `bytes` over the stored bytes of one part of a row.
void Overwrite(const RowPlace& place, const std::string& bytes) {
  std::FILE* const file = std::fopen(place.file.c_str(), "r+b");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(std::fseek(file, static_cast<long>(place.offset), SEEK_SET), 0);
  ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), file), bytes.size());
  ASSERT_EQ(std::fclose(file), 0);
}

TEST(CliInspectStatsTest, EveryRowOfEveryFormat) {
  const ScratchDir scratch;
  struct Case {
    std::string model;
    std::vector<std::string> more;
    bool has_scales;
  };
  const std::vector<Case> cases = {
      {"deepseek-v4.1-flash", {}, true},
      {"qwen3.8-flash-next", {}, false},
      {"qwen3.8-flash-next", {"--fp8"}, false},
      {"engram-demo", {}, false},
      {"deepseek-v4.1-flash", {"--format", "gguf", "--type", "q3_k"}, true},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(cases[i].model);
    const std::string path = scratch.File(fmt::format("made{}", i));
    MakeSmallCheckpoint(path, cases[i].model, cases[i].more);
    const ProgramRun run = RunTiercel({"inspect", path, "--stats", "--sample", "0", "--json"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Json json = run.Json();
    const Json& layers = json.at("stats").at("layers");
    ASSERT_EQ(layers.size(), json.at("layers").size());
    for (std::size_t layer = 0; layer < layers.size(); ++layer) {
      const Json& primes = json.at("layers")[layer].at("primes");
      const Json& columns = layers[layer].at("columns");
      ASSERT_EQ(columns.size(), primes.size());
      std::uint64_t row_count = 0;
      for (std::size_t column = 0; column < columns.size(); ++column) {
        EXPECT_EQ(columns[column].at("rows"), primes[column]);
        row_count += primes[column].get<std::uint64_t>();
        std::uint64_t norms = 0;
        for (const Json& bucket : columns[column].at("norms")) {
          norms += bucket.at("rows").get<std::uint64_t>();
        }
        EXPECT_EQ(columns[column].at("rows"), norms) << "every made row has a norm";
        EXPECT_LE(columns[column].at("norm_min"), columns[column].at("norm_max"));
        EXPECT_EQ(columns[column].at("scale_min").is_number(), cases[i].has_scales);
      }
      EXPECT_EQ(layers[layer].at("all").at("rows"), row_count);
      EXPECT_EQ(layers[layer].at("all").at("zero"), 0);
      EXPECT_EQ(layers[layer].at("all").at("nan"), 0);
      EXPECT_EQ(layers[layer].at("all").at("inf"), 0);
    }
  }
}

TEST(CliInspectStatsTest, CountsZerosNansAndInfinitiesWhereTheyAre) {
  const ScratchDir scratch;
  const std::string path = scratch.File("made");
  MakeSmallCheckpoint(path, "engram-demo");  // float32, 64 values a row.
  const Json inspected = RunTiercel({"inspect", path, "--json"}).Json();
  const Json& offsets = inspected.at("layers")[1].at("offsets");
  const auto row = [&](std::size_t column, std::uint64_t i) {
    return FindRow(inspected, 15, offsets[column].get<std::uint64_t>() + i).back();
  };
  Overwrite(row(0, 0), std::string(256, '\0'));
  Overwrite(row(0, 5), std::string(256, '\0'));
  Overwrite(row(3, 1), std::string("\0\0\xC0\x7F", 4));
  Overwrite(row(9, 2), std::string("\0\0\x80\xFF", 4));
  const ProgramRun run = RunTiercel({"inspect", path, "--stats", "--sample", "0", "--json"});
  EXPECT_EQ(run.exit_code, 1) << "NaN and infinities are findings";
  const Json layers = run.Json().at("stats").at("layers");
  const Json& columns = layers[1].at("columns");
  EXPECT_EQ(columns[0].at("zero"), 2);
  EXPECT_EQ(columns[3].at("nan"), 1);
  EXPECT_EQ(columns[9].at("inf"), 1);
  EXPECT_EQ(columns[9].at("order"), 3);
  EXPECT_EQ(columns[9].at("head"), 1);
  EXPECT_EQ(layers[1].at("all").at("zero"), 2);
  EXPECT_EQ(layers[1].at("all").at("nan"), 1);
  EXPECT_EQ(layers[0].at("all").at("zero"), 0);
}

TEST(CliInspectStatsTest, ASampleTextAndADrawing) {
  const ScratchDir scratch;
  const std::string path = scratch.File("made");
  MakeSmallCheckpoint(path, "deepseek-v4.1-flash");
  const std::string svg = scratch.File("norms.svg");
  const ProgramRun run = RunTiercel({"inspect", path, "--stats", "--sample", "2400", "--svg", svg});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_NE(run.out.find("row statistics of 2,400 rows a layer"), std::string::npos) << run.out;
  EXPECT_NE(run.out.find("4-gram 7"), std::string::npos) << run.out;
  std::ifstream file(svg);
  const std::string drawing{std::istreambuf_iterator<char>(file), {}};
  EXPECT_NE(drawing.find("<svg"), std::string::npos);
  EXPECT_NE(drawing.find("Row norms of layer 14"), std::string::npos);
  EXPECT_NE(drawing.find("4-grams"), std::string::npos);
  const auto sampled = [&path](const char* seed) {
    return RunTiercel({"inspect", path, "--stats", "--sample", "2400", "--seed", seed, "--json"})
        .Json()
        .at("stats")
        .at("layers");
  };
  EXPECT_EQ(sampled("1")[0].at("all").at("rows"), 2400);
  EXPECT_EQ(sampled("1"), sampled("1"));
  EXPECT_NE(sampled("1"), sampled("2"));
}

TEST(CliInspectStatsTest, APackedShardHasItsHeadsAlone) {
  const ScratchDir scratch;
  const std::string path = scratch.File("made");
  MakeSmallCheckpoint(path, "deepseek-v4.1-flash", {"--format", "gguf", "--type", "q4_k"});
  const std::string packed = scratch.File("packed");
  const ProgramRun pack = RunTiercel({"pack", path, "--out", packed, "--shard", "1/4"});
  ASSERT_EQ(pack.exit_code, 0) << pack.err;
  const auto stats = [](const std::string& of) {
    return RunTiercel({"inspect", of, "--stats", "--sample", "0", "--json"}).Json().at("stats");
  };
  const Json whole = stats(path).at("layers")[0].at("columns");
  const Json shard = stats(packed).at("layers")[0].at("columns");
  ASSERT_EQ(shard.size(), 6U) << "heads 1 and 5 of three orders";
  for (std::size_t i = 0; i < shard.size(); ++i) {
    EXPECT_EQ(shard[i], whole[i / 2 * 8 + (i % 2 == 0 ? 1 : 5)]);
  }
}

TEST(CliInspectStatsTest, WrongOptionsAndPaths) {
  const ScratchDir scratch;
  const std::string path = scratch.File("made");
  MakeSmallCheckpoint(path, "deepseek-v4.1-flash", {"--format", "gguf", "--type", "q2_k"});
  EXPECT_EQ(RunTiercel({"inspect", path, "--svg", scratch.File("x.svg")}).exit_code, 2);
  EXPECT_EQ(RunTiercel({"inspect", path, "--sample", "5"}).exit_code, 2);
  EXPECT_EQ(RunTiercel({"inspect", scratch.File("none"), "--stats"}).exit_code, 3);
  const ProgramRun nowhere = RunTiercel(
      {"inspect", path, "--stats", "--sample", "240", "--svg", scratch.File("no/such/x.svg")});
  EXPECT_EQ(nowhere.exit_code, 3) << nowhere.err;
}

}  // namespace
}  // namespace tiercel::testing
