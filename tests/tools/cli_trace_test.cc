// Goal: `tiercel trace` records exactly the tokens and documents that it was given, or
// refuses and leaves nothing; what it recorded, the other verbs read.
// Method: the built program on small inputs of every form, whole and wrong.

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/scratch_dir.h"
#include "tests/tools/run_tiercel.h"
#include "tools/token_file.h"

namespace tiercel::testing {
namespace {

using Json = nlohmann::json;
using Tokens = std::vector<std::int32_t>;
using Offsets = std::vector<std::uint64_t>;

class CliTraceTest : public ::testing::Test {
 protected:
  ProgramRun Record(std::string_view input, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {"trace", "record", "--out", out_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTiercel(arguments, input);
  }

  void ExpectRecorded(const Tokens& tokens, const Offsets& offsets) const {
    const Result<tools::TokenFile> file = tools::ReadTokens(out_ + ".tokens.u32.zst");
    ASSERT_TRUE(file.ok()) << file.status().ToString();
    EXPECT_EQ(file.value().tokens, tokens);
    const Result<Offsets> read = tools::ReadOffsets(out_ + ".offsets.u64");
    ASSERT_TRUE(read.ok()) << read.status().ToString();
    EXPECT_EQ(read.value(), offsets);
  }

  /// Files in the scratch directory, half-made ones too.
  std::size_t FileCount() const {
    const std::filesystem::directory_iterator files(scratch_.path());
    return static_cast<std::size_t>(
        std::distance(begin(files), std::filesystem::directory_iterator()));
  }

  void ExpectRefused(std::string_view input, const std::string& words,
                     const std::vector<std::string>& more = {}) const {
    const ProgramRun run = Record(input, more);
    EXPECT_EQ(run.exit_code, 3) << input;
    EXPECT_NE(run.err.find(words), std::string::npos) << run.err << " lacks: " << words;
    EXPECT_EQ(FileCount(), 0U) << "something was left of: " << input;
  }

  ScratchDir scratch_;
  const std::string out_ = scratch_.File("t");
};

TEST_F(CliTraceTest, RecordsLinesOfEveryForm) {
  const ProgramRun run = Record("1 2\t3\n[4,5, 6]\r\n\n  \n[]\n[ ]\n7,8, 9\n -1 0\n[10]");
  ASSERT_EQ(run.exit_code, 0) << run.err;
  ExpectRecorded({1, 2, 3, 4, 5, 6, 7, 8, 9, -1, 0, 10}, {0, 3, 6, 6, 6, 9, 11, 12});
  EXPECT_NE(run.out.find("12 tokens of 7 documents"), std::string::npos) << run.out;
}

TEST_F(CliTraceTest, SortsDocumentsByKindAndKeepsTheirOrderWithin) {
  ASSERT_EQ(Record("1 2\n3\n4 5 6\n7\n").exit_code, 0);
  const std::string kinds = scratch_.File("kinds.json");
  scratch_.Write("kinds.json", R"(["prose", "code", "prose", "code"])");
  const std::string sorted = scratch_.File("sorted");
  const ProgramRun run =
      RunTiercel({"trace", "sort", out_, "--kinds", kinds, "--out", sorted, "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.Json().at("documents"), 4);
  EXPECT_EQ(tools::ReadTokens(sorted + ".tokens.u32.zst").value().tokens,
            (Tokens{3, 7, 1, 2, 4, 5, 6}));
  EXPECT_EQ(tools::ReadOffsets(sorted + ".offsets.u64").value(), (Offsets{0, 1, 2, 4, 7}));
  for (const char* bad : {R"(["prose"])", R"(["a", "b", "c", 4])", "{", "[]"}) {
    scratch_.Write("kinds.json", bad);
    const ProgramRun refused =
        RunTiercel({"trace", "sort", out_, "--kinds", kinds, "--out", sorted, "--force"});
    EXPECT_EQ(refused.exit_code, 3) << bad;
    EXPECT_NE(refused.err.find("not a JSON array of 4 strings"), std::string::npos) << refused.err;
  }
}

TEST_F(CliTraceTest, RecordsBinaryIds) {
  ASSERT_EQ(Record(Bytes32({5, 6, 2, 7, 2, 2, 8}), {"--format", "u32"}).exit_code, 0);
  ExpectRecorded({5, 6, 2, 7, 2, 2, 8}, {0, 7});
  const ProgramRun run = Record(Compress(Bytes32({5, 6, 2, 7, 2, 2, 8})),
                                {"--format", "u32", "--document-end", "2", "--force", "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  ExpectRecorded({5, 6, 2, 7, 2, 2, 8}, {0, 3, 5, 6, 7});
  EXPECT_EQ(run.Json().at("tokens"), 7);
  EXPECT_EQ(run.Json().at("documents"), 4);
}

TEST_F(CliTraceTest, RecordsMoreThanItsBuffers) {
  std::string input;
  Tokens tokens;
  Offsets offsets = {0};
  for (std::int32_t line = 0; line < 300; ++line) {
    input += '[';
    for (std::int32_t i = 0; i < 1'000; ++i) {
      tokens.push_back(line * 1'000 + i);
      input += std::to_string(tokens.back()) + (i < 999 ? "," : "]\n");
    }
    offsets.push_back(tokens.size());
  }
  const ProgramRun run = Record(input);
  ASSERT_EQ(run.exit_code, 0) << run.err;
  ExpectRecorded(tokens, offsets);
}

TEST_F(CliTraceTest, RefusesWhatIsNoTrace) {
  ExpectRefused("1 2\n3 x\n", "line 2, character 3: 'x' is out of place");
  ExpectRefused("[1 2]\n", "character 4: '2' is out of place");
  ExpectRefused("[1,2\n", "line 1: an array without its end ]");
  ExpectRefused("[1,2", "an array without its end ]");
  ExpectRefused("1,,2", "','");
  ExpectRefused("[,1]", "','");
  ExpectRefused("[1,]", "']'");
  ExpectRefused("1,\n", "no id after the last comma");
  ExpectRefused("[1] 2", "'2'");
  ExpectRefused("[[1]]", "'['");
  ExpectRefused("1]", "']'");
  ExpectRefused("1.5", "'.'");
  ExpectRefused("1 -", "'-'");
  ExpectRefused("--1", "'-'");
  ExpectRefused("-2", "token -2");
  ExpectRefused("\"the\"", "'\"'");
  ExpectRefused(std::string_view("1\0", 2), "byte 0x00");
  ExpectRefused("99999999999999999999999999", "line 1, character 13: token 999");
  ExpectRefused("", "no document");
  ExpectRefused("\n \n", "no document");
  ExpectRefused("abc", "3 bytes are left over after 0 tokens", {"--format", "u32"});
  ExpectRefused(Bytes32({1, -2}), "token -2 at position 1", {"--format", "u32"});
}

TEST_F(CliTraceTest, ChecksIdsAgainstTheMap) {
  const ScratchDir elsewhere;
  const std::string map = elsewhere.Write("map.u32", Bytes32({0, 1, 1, 2}));
  ExpectRefused("0 1 4\n", "character 6: token 4 is not below 4", {"--token-map", map});
  ExpectRefused("0 7\n", "token 7 is not below 5", {"--vocab-size", "5"});
  EXPECT_EQ(Record("3 -1\n", {"--token-map", map}).exit_code, 0);
  ExpectRecorded({3, -1}, {0, 2});
}

TEST_F(CliTraceTest, ReplacesNothingUnasked) {
  ASSERT_EQ(Record("1 2 3\n").exit_code, 0);
  const ProgramRun again = Record("4\n");
  EXPECT_EQ(again.exit_code, 3);
  EXPECT_NE(again.err.find("ALREADY_EXISTS"), std::string::npos) << again.err;
  ExpectRecorded({1, 2, 3}, {0, 3});
  EXPECT_EQ(Record("4 x\n", {"--force"}).exit_code, 3);
  ExpectRecorded({1, 2, 3}, {0, 3});
  EXPECT_EQ(FileCount(), 2U) << "a half-made file was left";
  EXPECT_EQ(Record("4\n", {"--force"}).exit_code, 0);
  ExpectRecorded({4}, {0, 1});
}

TEST_F(CliTraceTest, InfoTellsWhatIsInIt) {
  ASSERT_EQ(Record("5 5 9 -1\n[]\n1 2 3 4 5\n7\n").exit_code, 0);
  for (const std::string& name : {out_, out_ + ".tokens.u32.zst"}) {
    const ProgramRun run = RunTiercel({"trace", "info", name, "--json"});
    ASSERT_EQ(run.exit_code, 0) << run.err;
    const Json json = run.Json();
    EXPECT_EQ(json.at("tokens"), 10);
    EXPECT_EQ(json.at("dead_tokens"), 1);
    EXPECT_EQ(json.at("unique_tokens"), 7);
    EXPECT_EQ(json.at("largest_token"), 9);
    EXPECT_EQ(json.at("documents"), 4);
    EXPECT_EQ(json.at("empty_documents"), 1);
    EXPECT_EQ(json.at("longest_document_tokens"), 5);
    EXPECT_EQ(json.at("longest_document"), 2);
  }
  const ProgramRun text = RunTiercel({"trace", "info", out_});
  EXPECT_NE(text.out.find("10 of 7 kinds"), std::string::npos) << text.out;
  const ProgramRun none = RunTiercel({"trace", "info", scratch_.File("none")});
  EXPECT_EQ(none.exit_code, 3);
  EXPECT_NE(none.err.find("NOT_FOUND"), std::string::npos) << none.err;
}

TEST_F(CliTraceTest, RefusesOptionsThatMakeNoSense) {
  EXPECT_EQ(RunTiercel({"trace"}).exit_code, 2);
  EXPECT_EQ(RunTiercel({"trace", "record"}).exit_code, 2);
  EXPECT_EQ(Record("1", {"--format", "csv"}).exit_code, 2);
  EXPECT_EQ(Record("1", {"--document-end", "1"}).exit_code, 2);
  EXPECT_EQ(Record("1", {"--vocab-size", "0"}).exit_code, 2);
  EXPECT_EQ(Record("1", {"--in", scratch_.File("none")}).exit_code, 3);
  EXPECT_EQ(RunTiercel({"trace", "record", "--out", scratch_.File("no/such/t")}, "1").exit_code, 3);
  EXPECT_EQ(FileCount(), 0U);
}

}  // namespace
}  // namespace tiercel::testing
