// Goal: `tiercel verify` passes what is whole and finds every kind of damage, in
// full and by sample, through each engine, and names what it found.
// Method: the built program on small made checkpoints; single bits are turned over
// at places that `inspect` names, and files are cut short.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "tests/support/scratch_dir.h"
#include "tests/tools/run_tiercel.h"

namespace tiercel::testing {
namespace {

using Json = nlohmann::json;

struct ModelCase {
  const char* name;
  const char* model;
  std::vector<std::string> more;
};

void PrintTo(const ModelCase& model, std::ostream* out) {
  *out << model.name;
}

class CliVerifyTest : public ::testing::TestWithParam<ModelCase> {
 protected:
  void SetUp() override { MakeSmallCheckpoint(path_, GetParam().model, GetParam().more); }

  ScratchDir scratch_;
  const std::string path_ = scratch_.File("checkpoint");
};

TEST_P(CliVerifyTest, PassesWhatIsWhole) {
  const ProgramRun all = RunTiercel({"verify", path_, "--json"});
  EXPECT_EQ(all.exit_code, 0) << all.err;
  const Json inspected = RunTiercel({"inspect", path_, "--json"}).Json();
  std::uint64_t row_count = 0;
  for (const Json& layer : inspected.at("layers"))
    row_count += layer.at("rows").get<std::uint64_t>();
  EXPECT_EQ(all.Json().at("rows_checked"), row_count);
  EXPECT_EQ(all.Json().at("rows_different"), 0);
  EXPECT_EQ(all.Json().at("rows_unreadable"), 0);
  for (const char* engine : {"auto", "pread"}) {
    const ProgramRun sample = RunTiercel(
        {"verify", path_, "--sample", "10000", "--engine", engine, "--dram", "16MiB", "--json"});
    EXPECT_EQ(sample.exit_code, 0) << sample.err;
    const Json json = sample.Json();
    EXPECT_EQ(json.at("rows_checked"), 10000);
    EXPECT_EQ(json.at("rows_different"), 0);
    EXPECT_GT(json.at("device_reads"), 0) << "the rows came from the disk";
    const bool fell_back = !json.at("engine_fallback").get<std::string>().empty();
    EXPECT_EQ(json.at("engine") == "pread", fell_back || std::string(engine) == "pread");
  }
  const ProgramRun text = RunTiercel({"verify", path_, "--sample", "100"});
  EXPECT_NE(text.out.find(": 0 rows differ, 0 unreadable"), std::string::npos) << text.out;
}

TEST_P(CliVerifyTest, FindsOneBit) {
  const Json inspected = RunTiercel({"inspect", path_, "--json"}).Json();
  const Json& layer = inspected.at("layers").back();
  const auto row = layer.at("rows").get<std::uint64_t>() / 2;
  // The last part of the row: scales, where they are apart.
  const RowPlace place = FindRow(inspected, layer.at("layer"), row).back();
  FlipBit(place.file, place.offset);
  const ProgramRun all = RunTiercel({"verify", path_, "--json"});
  EXPECT_EQ(all.exit_code, 1) << all.err;
  EXPECT_EQ(all.Json().at("rows_different"), 1);
  ASSERT_EQ(all.Json().at("findings").size(), 1U);
  EXPECT_NE(all.Json().at("findings")[0].get<std::string>().find(std::to_string(row)),
            std::string::npos)
      << all.out;
  const ProgramRun text = RunTiercel({"verify", path_});
  EXPECT_EQ(text.exit_code, 1);
  EXPECT_NE(text.out.find("1 DIFFERENT rows"), std::string::npos) << text.out;
  EXPECT_EQ(text.out.find("0 rows differ"), std::string::npos) << text.out;
}

INSTANTIATE_TEST_SUITE_P(Models, CliVerifyTest,
                         ::testing::Values(ModelCase{"DeepSeekV41", "deepseek-v4.1-flash", {}},
                                           ModelCase{"Qwen38Bf16", "qwen3.8-flash-next", {}},
                                           ModelCase{"Qwen38Fp8", "qwen3.8-flash-next", {"--fp8"}},
                                           ModelCase{"EngramDemo", "engram-demo", {}}),
                         [](const ::testing::TestParamInfo<ModelCase>& model) {
                           return std::string(model.param.name);
                         });

class CliDamageTest : public ::testing::Test {
 protected:
  void SetUp() override { MakeSmallCheckpoint(path_); }

  ScratchDir scratch_;
  const std::string path_ = scratch_.File("checkpoint");
};

TEST_F(CliDamageTest, ASampleFindsAWholeDamagedTable) {
  // One bit in every row of layer 14: any sample must meet some of them.
  const Json inspected = RunTiercel({"inspect", path_, "--json"}).Json();
  const auto rows = inspected.at("layers")[1].at("rows").get<std::uint64_t>();
  for (std::uint64_t row = 0; row < rows; ++row) {
    const RowPlace place = FindRow(inspected, 14, row).front();
    FlipBit(place.file, place.offset + row % 256);
  }
  const ProgramRun run =
      RunTiercel({"verify", path_, "--sample", "5000", "--seed", "11", "--json"});
  EXPECT_EQ(run.exit_code, 1) << run.err;
  const Json json = run.Json();
  // Half of all rows are layer 14's; 5000 draws miss 2500 by 300 once in 10^16 runs.
  EXPECT_NEAR(json.at("rows_different").get<double>(), 2500.0, 300.0);
  EXPECT_EQ(json.at("rows_checked"), 5000);
  EXPECT_EQ(json.at("findings")[0].get<std::string>().find("layer 14 row "), 0U) << run.out;
  const Json again =
      RunTiercel({"verify", path_, "--sample", "5000", "--seed", "11", "--json"}).Json();
  EXPECT_EQ(again.at("rows_different"), json.at("rows_different")) << "a seed decides the sample";
}

TEST_F(CliDamageTest, ACutFileIsNeverReadAsRows) {
  const Json inspected = RunTiercel({"inspect", path_, "--json"}).Json();
  const std::string file = FindRow(inspected, 14, 0).front().file;
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 1000);
  for (const std::vector<std::string>& more :
       std::vector<std::vector<std::string>>{{}, {"--sample", "100"}}) {
    std::vector<std::string> arguments = {"verify", path_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramRun run = RunTiercel(arguments);
    EXPECT_EQ(run.exit_code, 3) << run.err;
    EXPECT_NE(run.err.find("tiercel verify: CORRUPTION: "), std::string::npos) << run.err;
    EXPECT_NE(run.err.find(std::filesystem::path(file).filename().string()), std::string::npos)
        << run.err;
  }
}

TEST_F(CliDamageTest, UringIsRefusedOrUsed) {
  const ProgramRun run =
      RunTiercel({"verify", path_, "--sample", "1000", "--engine", "uring", "--json"});
  if (run.exit_code == 3) {
    EXPECT_NE(run.err.find("UNAVAILABLE"), std::string::npos) << run.err;
    GTEST_SKIP() << "no io_uring here: " << run.err;
  }
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.Json().at("engine"), "io_uring");
  EXPECT_EQ(run.Json().at("engine_fallback"), "");
}

}  // namespace
}  // namespace tiercel::testing
