// Goal: the verbs work on GGUF models as on all others, and make-checkpoint makes them.
// Method: the built program on small made models, whole and split; a trace of raw ids that
// the file's own token map turns into classes.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/scratch_dir.h"
#include "tests/tools/run_tiercel.h"

namespace tiercel::testing {
namespace {

using Json = nlohmann::json;

constexpr const char* kV41 = "deepseek-v4.1-flash";

void MakeSmallGguf(const std::string& path, const std::string& type, int split = 1) {
  MakeSmallCheckpoint(path, kV41,
                      {"--format", "gguf", "--type", type, "--split", std::to_string(split)});
}

TEST(CliGgufTest, EveryTypeIsMadeInspectedAndVerified) {
  const ScratchDir scratch;
  struct Case {
    const char* type;
    const char* row_format;
    int row_bytes;
  };
  for (const Case& c : {Case{"f32", "fp32", 1024},
                        {"f16", "fp16", 512},
                        {"bf16", "bf16", 512},
                        {"q8_0", "q8_0", 272},
                        {"q4_k", "q4_k", 144},
                        {"q3_k", "q3_k", 110},
                        {"q2_k", "q2_k", 84}}) {
    SCOPED_TRACE(c.type);
    const std::string path = scratch.File(c.type);
    MakeSmallGguf(path, c.type);
    const Json inspected = RunTiercel({"inspect", path, "--json"}).Json();
    EXPECT_EQ(inspected.at("layout"), "gguf");
    EXPECT_EQ(inspected.at("layers")[0].at("row_format"), c.row_format);
    EXPECT_EQ(inspected.at("layers")[0].at("row_bytes"), c.row_bytes);
    EXPECT_EQ(inspected.at("token_map").at("entries"), 129280);
    EXPECT_EQ(inspected.at("token_map").at("classes"), 99092);
    EXPECT_TRUE(inspected.at("notes").empty());
    EXPECT_EQ(inspected.at("synthetic_seed"), 7);
    EXPECT_EQ(RunTiercel({"verify", path}).exit_code, 0);
    const ProgramRun sample = RunTiercel({"verify", path, "--sample", "2000"});
    EXPECT_EQ(sample.exit_code, 0) << sample.err;
    EXPECT_NE(sample.out.find(": 0 rows differ, 0 unreadable"), std::string::npos) << sample.out;
  }
}

TEST(CliGgufTest, ASplitModelIsOpenedByAnyPartAndDamageIsFound) {
  const ScratchDir scratch;
  const std::string path = scratch.File("split");
  MakeSmallGguf(path, "q4_k", 3);
  const Json whole = RunTiercel({"inspect", path, "--json"}).Json();
  for (int part = 1; part <= 3; ++part) {
    const std::string file = fmt::format("{}/model-{:05}-of-00003.gguf", path, part);
    const Json inspected = RunTiercel({"inspect", file, "--json"}).Json();
    EXPECT_EQ(inspected.at("layers"), whole.at("layers"));
  }
  const RowPlace place = FindRow(whole, 14, 77).back();
  FlipBit(place.file, place.offset + 100);
  const ProgramRun verified = RunTiercel({"verify", path, "--json"});
  EXPECT_EQ(verified.exit_code, 1);
  EXPECT_EQ(verified.Json().at("rows_different"), 1);
  std::filesystem::remove(path + "/model-00002-of-00003.gguf");
  const ProgramRun missing = RunTiercel({"inspect", path});
  EXPECT_EQ(missing.exit_code, 3);
  EXPECT_NE(missing.err.find("model-00002-of-00003.gguf is not there"), std::string::npos)
      << missing.err;
}

TEST(CliGgufTest, TokensGoThroughTheFilesMap) {
  const ScratchDir scratch;
  const std::string path = scratch.File("model");
  MakeSmallGguf(path, "q8_0");
  // Ids of which the last ones are merged with the first by the made map.
  std::vector<std::int32_t> raw;
  std::vector<std::int32_t> compressed;
  for (int i = 0; i < 200; ++i) {
    raw.push_back(99092 + 7 * i);
    compressed.push_back(7 * i);
  }
  const std::string raw_path = scratch.Write("raw.u32", Bytes32(raw));
  const std::string compressed_path = scratch.Write("compressed.u32", Bytes32(compressed));
  const std::string offsets = scratch.Write("offsets.u64", Bytes64({0, 120, 200}));
  const std::string file = path + "/model.gguf";
  const auto hash = [&](const std::string& tokens, bool is_compressed) {
    std::vector<std::string> arguments = {"hash", "--config", file,   "--layer",
                                          "1",    "--tokens", tokens, "--json"};
    if (is_compressed) arguments.emplace_back("--compressed");
    return RunTiercel(arguments).Json().at("rows");
  };
  const Json rows = hash(raw_path, false);
  EXPECT_EQ(rows, hash(compressed_path, true));
  EXPECT_EQ(rows.size(), 200U);

  for (const bool is_compressed : {false, true}) {
    std::vector<std::string> arguments = {
        "replay",    path,    "--tokens", is_compressed ? compressed_path : raw_path,
        "--offsets", offsets, "--dram",   "32MiB",
        "--verify",  "--json"};
    if (is_compressed) arguments.emplace_back("--compressed");
    const ProgramRun replay = RunTiercel(arguments);
    EXPECT_EQ(replay.exit_code, 0) << replay.err;
    EXPECT_EQ(replay.Json().at("rows_checked"), 200 * 48);
    EXPECT_EQ(replay.Json().at("rows_different"), 0);
  }
  const ProgramRun curve = RunTiercel({"curve", raw_path, "--offsets", offsets, "--config", file,
                                       "--sizes", "1MiB", "--policies", "lru"});
  EXPECT_EQ(curve.exit_code, 0) << curve.err;
}

TEST(CliGgufTest, AMapOfTheCallersGoesIn) {
  const ScratchDir scratch;
  std::vector<std::int32_t> classes;
  for (int i = 0; i < 1000; ++i) classes.push_back(i < 900 ? i : 899 - i % 10);
  const std::string map = scratch.Write("map.u32", Bytes32(classes));
  const std::string path = scratch.File("model");
  MakeSmallCheckpoint(path, kV41, {"--format", "gguf", "--token-map", map});
  const Json inspected = RunTiercel({"inspect", path, "--json"}).Json();
  EXPECT_EQ(inspected.at("token_map").at("entries"), 1000);
  EXPECT_EQ(inspected.at("token_map").at("classes"), 900);
  EXPECT_EQ(inspected.at("recipe").at("compressed_vocab_size"), 900);
  EXPECT_TRUE(inspected.at("notes").empty());
}

TEST(CliGgufTest, WrongOptionsAreUsageErrors) {
  const ScratchDir scratch;
  const std::string path = scratch.File("model");
  const auto exit_code = [&](const std::string& like, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"make-checkpoint", "--like", like, "--shrink",
                                          "20000",           "--out",  path};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTiercel(arguments).exit_code;
  };
  EXPECT_EQ(exit_code(kV41, {"--format", "ggml"}), 2);
  EXPECT_EQ(exit_code(kV41, {"--format", "gguf", "--type", "q5_k"}), 2);
  EXPECT_EQ(exit_code(kV41, {"--format", "gguf", "--split", "0"}), 2);
  EXPECT_EQ(exit_code(kV41, {"--type", "q8_0"}), 2);
  EXPECT_EQ(exit_code(kV41, {"--split", "2"}), 2);
  EXPECT_EQ(exit_code("engram-demo", {"--format", "gguf"}), 2);
  EXPECT_EQ(exit_code(kV41, {"--format", "gguf", "--token-map", scratch.File("none")}), 3);
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace tiercel::testing
