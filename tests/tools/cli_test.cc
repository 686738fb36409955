// Goal: the verbs that tell about a model (hash, token-map, inspect, lookup,
// make-checkpoint) do what docs/cli.md says, with its exit codes, and stdout holds
// their output alone.
// Method: the built program as a child process on small made checkpoints, compared
// with the library's public functions and with the golden vectors.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/scratch_dir.h"
#include "tests/tools/run_tiercel.h"
#include "tiercel/synthetic.h"
#include "tiercel/token_map.h"
#include "tools/token_file.h"

namespace tiercel::testing {
namespace {

using Json = nlohmann::json;

constexpr int kOk = 0;
constexpr int kFindings = 1;
constexpr int kUsage = 2;
constexpr int kFailure = 3;

TEST(Cli, HelpAndVersionGoToStdout) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"--help"}, {"replay", "--help"}, {"--version"}}) {
    const ProgramRun run = RunTiercel(arguments);
    EXPECT_EQ(run.exit_code, kOk) << arguments[0];
    EXPECT_NE(run.out.find("tiercel"), std::string::npos);
    EXPECT_EQ(run.err, "");
  }
}

TEST(Cli, UsageErrorsDoNothing) {
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"frobnicate"},
      {"inspect"},
      {"inspect", "--no-such-option", "x"},
      {"hash", "--config", "x", "--layer", "one", "--tokens", "-", "--json"},
      {"hash", "--config", "x", "--layer", "1", "--tokens", "-"},
      {"token-map", "x"},
      {"lookup", "x", "--layer", "1", "--rows", "1,,2"},
      {"lookup", "x", "--layer", "1", "--rows", "1", "--format", "octal"},
      {"lookup", "x", "--layer", "1", "--rows", "1", "--format", "raw", "--json"},
      {"make-checkpoint", "--like", "gpt-2", "--out", "/nowhere/x"},
      {"make-checkpoint", "--like", "engram-demo", "--out", "/nowhere/x", "--shrink", "0"},
      {"make-checkpoint", "--like", "engram-demo", "--out", "/nowhere/x", "--fp8"},
      {"verify", "x", "--sample", "0"},
      {"verify", "x", "--dram", "lots"},
      {"verify", "x", "--engine", "mmap"},
      {"replay", "x", "--tokens", "t", "--offsets", "o", "--token-map", "m"},
      {"replay", "x", "--tokens", "t", "--offsets", "o", "--token-map", "m", "--dram", "1GiBs"},
      {"replay", "x", "--tokens", "t", "--offsets", "o", "--dram", "1GiB", "--streams", "0"},
      {"replay", "x", "--tokens", "t", "--offsets", "o", "--dram", "1GiB", "--mode", "both"},
      {"replay", "x", "--tokens", "t", "--offsets", "o", "--dram", "1GiB", "--chunk", "4096",
       "--mode", "decode"},
  };
  for (const std::vector<std::string>& arguments : cases) {
    const ProgramRun run = RunTiercel(arguments);
    const std::string line = fmt::format("{}", fmt::join(arguments, " "));
    EXPECT_EQ(run.exit_code, kUsage) << line << "\n" << run.err;
    EXPECT_EQ(run.out, "") << line;
    EXPECT_EQ(run.err.find("tiercel"), 0U) << line << "\n" << run.err;
  }
}

TEST(Cli, MissingFilesAreFailuresWithAName) {
  const std::vector<std::vector<std::string>> cases = {
      {"inspect", "/nowhere/x"},
      {"verify", "/nowhere/x"},
      {"lookup", "/nowhere/x", "--layer", "1", "--rows", "0"},
      {"token-map", "/nowhere/x", "--out", "/nowhere/y"},
      {"hash", "--config", "/nowhere/x", "--layer", "1", "--tokens", "-", "--compressed", "--json"},
      {"replay", "/nowhere/x", "--tokens", "t", "--offsets", "o", "--token-map", "m", "--dram",
       "1GiB"},
      {"make-checkpoint", "--like", "engram-demo", "--shrink", "1000", "--out", "/nowhere/x/y"},
  };
  for (const std::vector<std::string>& arguments : cases) {
    const ProgramRun run = RunTiercel(arguments);
    EXPECT_EQ(run.exit_code, kFailure) << arguments[0] << "\n" << run.err;
    EXPECT_EQ(run.out, "") << arguments[0];
    EXPECT_EQ(run.err.find("tiercel " + arguments[0] + ": NOT_FOUND: "), 0U) << run.err;
    EXPECT_NE(run.err.find("/nowhere"), std::string::npos) << run.err;
  }
}

/// Row ids that `hash` wrote, 64-bit little-endian.
std::vector<std::uint64_t> Words64(const std::string& bytes) {
  std::vector<std::uint64_t> words(bytes.size() / sizeof(std::uint64_t));
  std::memcpy(words.data(), bytes.data(), words.size() * sizeof(std::uint64_t));
  return words;
}

TEST(CliHash, EqualsTheGoldenRows) {
  const Json golden = Json::parse(ReadSourceFile("tests/data/golden/v41_engram.json"));
  const ScratchDir scratch;
  const std::string config = scratch.Write("config.json", golden.at("config").dump());
  for (const Json& entry : golden.at("cases")) {
    const auto ids = entry.at("compressed_ids_dead_is_minus1").get<std::vector<std::int32_t>>();
    const std::string tokens = scratch.Write("tokens.i32", Bytes32(ids));
    for (const auto& [layer, expected] : entry.at("layers").items()) {
      const std::vector<std::string> arguments = {"hash", "--config", config, "--layer",
                                                  layer,  "--tokens", tokens, "--compressed"};
      const auto with = [&arguments](std::vector<std::string> more) {
        more.insert(more.begin(), arguments.begin(), arguments.end());
        return more;
      };
      const ProgramRun json = RunTiercel(with({"--json"}));
      ASSERT_EQ(json.exit_code, kOk) << json.err;
      EXPECT_EQ(json.Json().at("rows"), expected.at("rows")) << entry.at("name");
      EXPECT_EQ(json.Json().at("tokens"), ids.size());

      std::vector<std::uint64_t> flat;
      for (const Json& row : expected.at("rows")) {
        for (const Json& id : row) flat.push_back(id.get<std::uint64_t>());
      }
      const ProgramRun piped = RunTiercel(with({"--out", "-"}));
      EXPECT_EQ(Words64(piped.out), flat) << entry.at("name") << " on stdout";
      const std::string out = scratch.File("rows.i64");
      ASSERT_EQ(RunTiercel(with({"--out", out})).exit_code, kOk);
      EXPECT_EQ(Words64(tools::ReadText(out, 1 << 20).value()), flat) << entry.at("name");
    }
  }
}

TEST(CliHash, ReadsStdinAndMapsRawTokens) {
  const Json golden = Json::parse(ReadSourceFile("tests/data/golden/v41_engram.json"));
  const ScratchDir scratch;
  const std::string config = scratch.Write("config.json", golden.at("config").dump());
  // Raw ids 3 and 4 are of one class, and so are 0 and 2.
  const std::string map = scratch.Write("map.u32", Bytes32({0, 1, 0, 2, 2, 3}));
  const ProgramRun raw = RunTiercel({"hash", "--config", config, "--layer", "14", "--tokens", "-",
                                     "--token-map", map, "--out", "-"},
                                    Bytes32({4, 3, -1, 2, 5}));
  ASSERT_EQ(raw.exit_code, kOk) << raw.err;
  const ProgramRun compressed = RunTiercel(
      {"hash", "--config", config, "--layer", "14", "--tokens", "-", "--compressed", "--out", "-"},
      Bytes32({2, 2, -1, 0, 3}));
  ASSERT_EQ(compressed.exit_code, kOk) << compressed.err;
  EXPECT_EQ(raw.out.size(), 5U * 24 * 8);
  EXPECT_EQ(raw.out, compressed.out);
}

TEST(CliHash, RefusesWhatItCannotHash) {
  const Json golden = Json::parse(ReadSourceFile("tests/data/golden/v41_engram.json"));
  const ScratchDir scratch;
  const std::string config = scratch.Write("config.json", golden.at("config").dump());
  const auto hash = [&config](const std::string& layer, const std::string& bytes) {
    return RunTiercel(
        {"hash", "--config", config, "--layer", layer, "--tokens", "-", "--compressed", "--json"},
        bytes);
  };
  EXPECT_EQ(hash("2", Bytes32({1})).exit_code, kFailure) << "layer 2 has no table";
  EXPECT_EQ(hash("1", Bytes32({99092})).exit_code, kFailure) << "one above the last class";
  EXPECT_EQ(hash("1", "12345").exit_code, kFailure) << "no whole number of tokens";
  EXPECT_EQ(hash("1", "").exit_code, kOk) << "no tokens, no rows";
  const ProgramRun raw = RunTiercel(
      {"hash", "--config", config, "--layer", "1", "--tokens", "-", "--json"}, Bytes32({1}));
  EXPECT_EQ(raw.exit_code, kUsage) << "raw or compressed? It must be said";
  EXPECT_NE(raw.err.find("--token-map"), std::string::npos) << raw.err;
}

TEST(CliTokenMap, MapsTheDeepSeekTokenizer) {
  const ScratchDir scratch;
  const std::string out = scratch.File("map.u32");
  const std::string tokenizer = TIERCEL_SOURCE_DIR "/tests/data/tokenizer_deepseek_v3.json.zst";
  const ProgramRun run = RunTiercel({"token-map", tokenizer, "--out", out});
  ASSERT_EQ(run.exit_code, kOk) << run.err;
  EXPECT_NE(run.out.find("128,815 entries, 98,627 classes (23.44 % fewer)"), std::string::npos)
      << run.out;
  const Result<TokenMap> map = TokenMap::Load(out);
  ASSERT_TRUE(map.ok()) << map.status().ToString();
  EXPECT_EQ(map.value().class_count(), 98627U);
  const Json json = RunTiercel({"token-map", tokenizer, "--out", out, "--json"}).Json();
  EXPECT_EQ(json.at("entries"), 128815);
  EXPECT_EQ(json.at("classes"), 98627);
}

TEST(CliTokenMap, RefusesWhatIsNoTokenizer) {
  const ScratchDir scratch;
  const std::string out = scratch.File("map.u32");
  for (const std::string& text : {std::string("{}"), std::string("not JSON"), std::string()}) {
    const ProgramRun run = RunTiercel({"token-map", scratch.Write("t.json", text), "--out", out});
    EXPECT_EQ(run.exit_code, kFailure) << text;
    EXPECT_NE(run.err.find("INVALID_ARGUMENT"), std::string::npos) << run.err;
    EXPECT_FALSE(std::filesystem::exists(out));
  }
}

class CliCheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override { MakeSmallCheckpoint(path_); }

  ScratchDir scratch_;
  const std::string path_ = scratch_.File("checkpoint");
};

TEST_F(CliCheckpointTest, InspectTellsAll) {
  const ProgramRun run = RunTiercel({"inspect", path_, "--json"});
  ASSERT_EQ(run.exit_code, kOk) << run.err;
  const Json json = run.Json();
  const CheckpointInfo info = InspectCheckpoint(path_).value();
  EXPECT_EQ(json.at("layout"), "deepseek-v4.1");
  EXPECT_EQ(json.at("synthetic_seed"), 7);
  EXPECT_EQ(json.at("recipe").at("columns"), 24);
  EXPECT_EQ(json.at("total_bytes"), info.table_bytes);
  EXPECT_EQ(json.at("files").size(), info.files.size());
  ASSERT_EQ(json.at("layers").size(), 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    const Json& layer = json.at("layers")[i];
    EXPECT_EQ(layer.at("layer"), info.layers[i].layer_id);
    EXPECT_EQ(layer.at("rows"), info.layers[i].row_count);
    EXPECT_EQ(layer.at("primes"), Json(info.recipe.layers[i].head_sizes));
    EXPECT_EQ(layer.at("offsets"), Json(info.recipe.layers[i].offsets));
    EXPECT_EQ(layer.at("multipliers"), Json(info.recipe.layers[i].multipliers));
    EXPECT_EQ(layer.at("row_format"), "e4m3-block32");
    EXPECT_EQ(layer.at("row_bytes"), 264);
    ASSERT_EQ(layer.at("parts").size(), 2U);
    EXPECT_EQ(layer.at("parts")[0].at("row_bytes"), 256);
    EXPECT_EQ(layer.at("parts")[1].at("row_bytes"), 8);
  }
  const ProgramRun text = RunTiercel({"inspect", path_});
  EXPECT_EQ(text.exit_code, kOk);
  EXPECT_NE(text.out.find("engram.embed.weight"), std::string::npos) << "it says what it matched";
  EXPECT_NE(text.out.find("layers       1, 14"), std::string::npos) << text.out;
}

TEST_F(CliCheckpointTest, LookupPrintsRows) {
  const CheckpointInfo info = InspectCheckpoint(path_).value();
  const LayerTable& table = info.layers[1];
  const std::vector<std::uint64_t> ids = {0, 17, table.row_count - 1};
  const std::string list = fmt::format("{}", fmt::join(ids, ","));
  std::string raw;
  std::string hex;
  Json values = Json::array();
  for (const std::uint64_t id : ids) {
    std::vector<std::byte> row(table.shape.row_size_bytes());
    SyntheticRow(7, table.layer_id, RowId{id}, table.shape, row);
    raw.append(reinterpret_cast<const char*>(row.data()), row.size());
    hex += fmt::format("{}  {:02x}\n", id, fmt::join(std::as_bytes(std::span(row)), ""));
    std::vector<float> floats(table.shape.value_count);
    DequantizeToFloat(table.shape, row, floats);
    values.push_back(floats);
  }
  const std::vector<std::string> lookup = {"lookup", path_, "--layer", "14", "--rows", list};
  const auto with = [&lookup](std::vector<std::string> more) {
    more.insert(more.begin(), lookup.begin(), lookup.end());
    return RunTiercel(more);
  };
  const ProgramRun run = with({});
  EXPECT_EQ(run.exit_code, kOk) << run.err;
  EXPECT_EQ(run.out, hex);
  EXPECT_NE(run.err.find("tiercel lookup: row 17: OK"), std::string::npos) << run.err;
  EXPECT_EQ(with({"--format", "raw"}).out, raw);
  const Json json = with({"--format", "float", "--json"}).Json();
  for (std::size_t i = 0; i < ids.size(); ++i) {
    EXPECT_EQ(json.at("rows")[i].at("row"), ids[i]);
    EXPECT_EQ(json.at("rows")[i].at("values").get<std::vector<float>>(),
              values[i].get<std::vector<float>>());
  }
}

TEST_F(CliCheckpointTest, LookupMarksRowsThatAreNotThere) {
  const std::uint64_t row_count = InspectCheckpoint(path_).value().layers[0].row_count;
  const std::string list = fmt::format("3,{},4", row_count);
  const ProgramRun run = RunTiercel({"lookup", path_, "--layer", "1", "--rows", list, "--json"});
  EXPECT_EQ(run.exit_code, kFindings) << run.err;
  const Json rows = run.Json().at("rows");
  EXPECT_EQ(rows[0].at("status"), "OK");
  EXPECT_EQ(rows[1].at("status"), "OUT_OF_RANGE");
  EXPECT_FALSE(rows[1].contains("hex")) << "no bytes of a row that is not there";
  EXPECT_EQ(rows[2].at("status"), "OK");
  EXPECT_NE(run.err.find(fmt::format("row {}: OUT_OF_RANGE", row_count)), std::string::npos);
  const ProgramRun raw =
      RunTiercel({"lookup", path_, "--layer", "1", "--rows", list, "--format", "raw"});
  EXPECT_EQ(raw.exit_code, kFindings);
  EXPECT_EQ(raw.out.substr(264, 264), std::string(264, '\0')) << "its place is kept, with zeros";
  EXPECT_EQ(RunTiercel({"lookup", path_, "--layer", "2", "--rows", "0"}).exit_code, kFailure);
}

TEST_F(CliCheckpointTest, MakeCheckpointOverwritesNothing) {
  const ProgramRun run = RunTiercel(
      {"make-checkpoint", "--like", "deepseek-v4.1-flash", "--shrink", "20000", "--out", path_});
  EXPECT_EQ(run.exit_code, kFailure);
  EXPECT_EQ(run.err.find("tiercel make-checkpoint: ALREADY_EXISTS"), 0U) << run.err;
  EXPECT_EQ(RunTiercel({"verify", path_}).exit_code, kOk) << "what was there is unharmed";
}

TEST(CliMakeCheckpoint, ReportsWhatItWrote) {
  const ScratchDir scratch;
  const std::string out = scratch.File("qwen");
  const ProgramRun run =
      RunTiercel({"make-checkpoint", "--like", "qwen3.8-flash-next", "--shrink", "20000", "--seed",
                  "3", "--fp8", "--tables-only", "--out", out, "--json"});
  ASSERT_EQ(run.exit_code, kOk) << run.err;
  const Json json = run.Json();
  EXPECT_GT(json.at("bytes"), 0);
  EXPECT_GT(json.at("seconds"), 0);
  EXPECT_TRUE(json.at("direct_io").is_boolean());
  EXPECT_EQ(json.at("rows"), InspectCheckpoint(out).value().layers[0].row_count);
  EXPECT_EQ(run.err, "") << "no progress bar where stderr is no terminal";
  const Json inspected = RunTiercel({"inspect", out, "--json"}).Json();
  EXPECT_EQ(inspected.at("layers")[0].at("row_format"), "e4m3-tensor");
  EXPECT_EQ(inspected.at("recipe").at("kind"), "qwen3.8");
}

TEST(CliMakeCheckpoint, AnInterruptLeavesNothing) {
  const ScratchDir scratch;
  const std::string parent = scratch.File("parent");
  std::filesystem::create_directory(parent);
  // 0.8 GB take long enough for a signal to come in between.
  const pid_t pid = StartTiercel({"make-checkpoint", "--like", "deepseek-v4.1-flash", "--shrink",
                                  "256", "--tables-only", "--out", parent + "/checkpoint"});
  int state_seen = 0;
  while (std::filesystem::is_empty(parent) && kill(pid, 0) == 0 && state_seen < 10'000) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    ++state_seen;
  }
  ASSERT_FALSE(std::filesystem::is_empty(parent)) << "it never began to write";
  ASSERT_EQ(kill(pid, SIGINT), 0);
  EXPECT_EQ(WaitForTiercel(pid), kFailure) << "cancelled, or it was done before the signal came";
  EXPECT_TRUE(std::filesystem::is_empty(parent)) << "something half-made was left";
}

}  // namespace
}  // namespace tiercel::testing
