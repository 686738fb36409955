// Goal: `update` replaces rows as docs/cli.md says and docs/format.md lets one write its file;
// `inspect`, `lookup` and `verify` tell of it; a bad file is refused and nothing is done.
// Method: the built program on a small made checkpoint and files of rows made by hand.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/scratch_dir.h"
#include "tests/tools/run_tiercel.h"

namespace tiercel::testing {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kRowBytes = 264;

/// A safetensors file with the given header and data.
std::string Safetensors(const std::string& header, const std::string& data) {
  const std::uint64_t size_bytes = header.size();
  std::string file(sizeof(size_bytes), '\0');
  std::memcpy(file.data(), &size_bytes, sizeof(size_bytes));
  return file + header + data;
}

/// Rows `ids` of layer 1, each filled with its own byte.
std::string RowsOfLayer1(const std::vector<std::uint64_t>& ids) {
  std::string data = Bytes64(ids);
  for (const std::uint64_t id : ids) data += std::string(kRowBytes, static_cast<char>(id));
  const std::string header = fmt::format(
      R"({{"__metadata__":{{"a":"b"}},)"
      R"("layers.1.ids":{{"dtype":"I64","shape":[{0}],"data_offsets":[0,{1}]}},)"
      R"("layers.1.rows":{{"dtype":"U8","shape":[{0},264],"data_offsets":[{1},{2}]}}}})",
      ids.size(), ids.size() * 8, data.size());
  return Safetensors(header, data);
}

class CliUpdateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    MakeSmallCheckpoint(path_);
    const ProgramRun run = RunTiercel({"inspect", path_, "--state", "/nonexistent"});
    if (run.err.find("without RocksDB") != std::string::npos) {
      GTEST_SKIP() << "the library was built without RocksDB";
    }
  }
  ProgramRun Update(const std::string& bytes, const std::vector<std::string>& more = {}) const {
    scratch_.Write("rows.safetensors", bytes);
    std::vector<std::string> arguments = {"update", path_, "--rows",
                                          scratch_.File("rows.safetensors")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTiercel(arguments);
  }
  /// The first byte of a row as `lookup` gives it.
  [[nodiscard]] std::string Row(std::uint64_t row,
                                const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {
        "lookup", path_, "--layer", "1", "--rows", std::to_string(row), "--format", "raw"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramRun run = RunTiercel(arguments);
    EXPECT_EQ(run.exit_code, 0) << run.err;
    return run.out;
  }

  const ScratchDir scratch_;
  const std::string path_ = scratch_.File("checkpoint");
};

TEST_F(CliUpdateTest, RowsAreReplacedAndToldOf) {
  const std::string before = Row(7);
  const ProgramRun run = Update(RowsOfLayer1({7, 300, 9}), {"--batch", "2", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json report = run.Json();
  EXPECT_EQ(report.at("rows"), 3);
  EXPECT_EQ(report.at("batches"), 2);
  EXPECT_EQ(report.at("sequence"), 2);
  EXPECT_EQ(report.at("updated_rows"), 3);
  EXPECT_EQ(Row(7), std::string(kRowBytes, '\7'));
  EXPECT_EQ(Row(300), std::string(kRowBytes, static_cast<char>(300)));
  EXPECT_EQ(Row(7, {"--updates", "off"}), before);

  const ProgramRun again = Update(RowsOfLayer1({7}));
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_NE(again.out.find("3 updated rows"), std::string::npos) << again.out;

  const Json state = RunTiercel({"inspect", path_, "--json"}).Json().at("state");
  EXPECT_EQ(state.at("sequence"), 3);
  EXPECT_EQ(state.at("updated_rows"), 3);
  EXPECT_EQ(state.at("updated_bytes"), 3 * kRowBytes);
  EXPECT_EQ(state.at("layers")[0].at("updated_rows"), 3);
  EXPECT_NE(RunTiercel({"inspect", path_}).out.find("3 updated rows"), std::string::npos);
  // The table's own files are what they were.
  EXPECT_EQ(RunTiercel({"verify", path_}).exit_code, 0);
  EXPECT_EQ(RunTiercel({"verify", path_, "--sample", "2000"}).exit_code, 0);
}

TEST_F(CliUpdateTest, TheStateMayLieElsewhere) {
  const std::string state = scratch_.File("state");
  ASSERT_EQ(Update(RowsOfLayer1({7}), {"--state", state, "--batch", "0"}).exit_code, 0);
  EXPECT_NE(Row(7), std::string(kRowBytes, '\7'));
  EXPECT_EQ(Row(7, {"--state", state}), std::string(kRowBytes, '\7'));
  EXPECT_TRUE(RunTiercel({"inspect", path_, "--json"}).Json().at("state").is_null());
  EXPECT_EQ(
      RunTiercel({"inspect", path_, "--state", state, "--json"}).Json()["state"]["updated_rows"],
      1);
  const ProgramRun missing = RunTiercel({"inspect", path_, "--state", scratch_.File("nowhere")});
  EXPECT_EQ(missing.exit_code, 3);
  EXPECT_NE(missing.err.find("NOT_FOUND"), std::string::npos);
}

TEST_F(CliUpdateTest, AFileThatIsNotOfRowsIsRefusedAndNothingIsDone) {
  const std::string good = RowsOfLayer1({7});
  struct Case {
    std::string bytes;
    const char* part;
  };
  const std::vector<Case> cases = {
      {"", "empty"},
      {"PK\3\4 something else", "does not fit"},
      {Safetensors("{]", ""), "no file of rows"},
      {Safetensors("{}", ""), "no tensor"},
      {Safetensors(R"({"weight":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", ""), "weight"},
      {Safetensors(R"({"layers.1.ids":{"dtype":"I64","shape":[0],"data_offsets":[0,0]}})", ""),
       "missing"},
      {good.substr(0, good.size() - 1), "beyond its end"},
      {RowsOfLayer1({7, ~std::uint64_t{0}}), "beyond the"},
      {Safetensors(R"({"layers.9.ids":{"dtype":"I64","shape":[0],"data_offsets":[0,0]}})", ""),
       "no such table"}};
  for (const Case& bad : cases) {
    const ProgramRun run = Update(bad.bytes);
    EXPECT_EQ(run.exit_code, 3) << bad.part;
    EXPECT_NE(run.err.find(bad.part), std::string::npos) << bad.part << ": " << run.err;
  }
  EXPECT_NE(Row(7), std::string(kRowBytes, '\7'));
  EXPECT_EQ(RunTiercel({"update", path_, "--rows", scratch_.File("none")}).exit_code, 3);
  EXPECT_EQ(RunTiercel({"update", path_}).exit_code, 2);
}

}  // namespace
}  // namespace tiercel::testing
