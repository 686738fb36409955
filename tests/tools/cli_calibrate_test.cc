// Goal: `tiercel calibrate` measures a file, a directory or a checkpoint, keeps the
// profile where stores look for it, and stores then use it; what it cannot measure it
// refuses with the exit codes of the program.
//
// Method: the built program with slices of a millisecond on files of a few MB, and a cache
// folder of the test's own. No figure is looked at, only that there is one.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/scratch_dir.h"
#include "tests/tools/run_tiercel.h"

namespace tiercel::testing {
namespace {

using Json = nlohmann::json;

std::string TextOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

class CliCalibrateTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const char* const old = std::getenv("XDG_CACHE_HOME")) old_cache_ = old;
    setenv("XDG_CACHE_HOME", cache_.path().c_str(), 1);
  }
  void TearDown() override {
    if (old_cache_.empty()) {
      unsetenv("XDG_CACHE_HOME");
    } else {
      setenv("XDG_CACHE_HOME", old_cache_.c_str(), 1);
    }
  }

  [[nodiscard]] static std::vector<std::string> Quick(const std::string& path,
                                                      const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"calibrate", path,    "--seconds", "0.005",
                                          "--depths",  "1,2,4", "--blocks",  "4KiB"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }

  [[nodiscard]] std::size_t ProfileCount() const {
    const std::string folder = cache_.File("tiercel");
    if (!std::filesystem::exists(folder)) return 0;
    const std::filesystem::directory_iterator files(folder);
    return static_cast<std::size_t>(std::distance(begin(files), end(files)));
  }

  ScratchDir cache_;
  ScratchDir scratch_;
  const std::string file_ = scratch_.Write("big", std::string(4 << 20, 'x'));
  std::string old_cache_;
};

TEST_F(CliCalibrateTest, KeepsTheProfileWhereStoresLook) {
  const std::string path = scratch_.File("checkpoint");
  MakeSmallCheckpoint(path);
  const ProgramRun run = RunTiercel(Quick(path, {"--engine", "pread", "--json"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const Json json = run.Json();
  EXPECT_EQ(json.at("engine"), "pread");
  EXPECT_EQ(json.at("points").size(), 3U);
  EXPECT_EQ(json.at("block_bytes"), 4096);
  EXPECT_GT(json.at("iops_max"), 0);
  const std::string saved = json.at("saved_path");
  EXPECT_TRUE(saved.starts_with(cache_.File("tiercel/disk-"))) << saved;
  EXPECT_EQ(Json::parse(TextOf(saved)).at("queue_depth"), json.at("queue_depth"));

  const ProgramRun verify =
      RunTiercel({"verify", path, "--sample", "1000", "--engine", "pread", "--json"});
  ASSERT_EQ(verify.exit_code, 0) << verify.err;
  EXPECT_EQ(verify.Json().at("rows_different"), 0);
  const Json lookup =
      RunTiercel({"lookup", path, "--layer", "1", "--rows", "0", "--engine", "pread", "--json"})
          .Json();
  EXPECT_EQ(lookup.at("disk_profile"), saved);
  EXPECT_EQ(lookup.at("queue_depth"), json.at("queue_depth"));
  const Json given = RunTiercel({"lookup", path, "--layer", "1", "--rows", "0", "--engine", "pread",
                                 "--queue-depth", "3", "--read-block", "4KiB", "--json"})
                         .Json();
  EXPECT_EQ(given.at("disk_profile"), "");
  EXPECT_EQ(given.at("queue_depth"), 3);
}

TEST_F(CliCalibrateTest, TextNamesTheKneeAndWhereItIsKept) {
  const ProgramRun run = RunTiercel(Quick(file_));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  for (const char* words : {"<- knee", "settings", "reads in flight, blocks of 4096 B", "p99.9",
                            "CPU/read", "tiercel/disk-"}) {
    EXPECT_NE(run.out.find(words), std::string::npos) << words << " is not in\n" << run.out;
  }
  EXPECT_EQ(ProfileCount(), 1U);
}

TEST_F(CliCalibrateTest, OutAndSvgGoWhereTheyAreSent) {
  const std::string out = scratch_.File("made/profile.json");
  const std::string svg = scratch_.File("plot.svg");
  const ProgramRun run = RunTiercel(Quick(file_, {"--out", out, "--svg", svg, "--seed", "7"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_NE(run.out.find("seed 7"), std::string::npos) << run.out;
  EXPECT_EQ(Json::parse(TextOf(out)).at("version"), 1);
  const std::string drawn = TextOf(svg);
  EXPECT_TRUE(drawn.starts_with("<svg ")) << drawn.substr(0, 100);
  EXPECT_NE(drawn.find("4 KiB blocks"), std::string::npos);
  EXPECT_EQ(ProfileCount(), 0U) << "the default place is left alone";
}

TEST_F(CliCalibrateTest, NoSaveKeepsNothing) {
  const ProgramRun run = RunTiercel(Quick(file_, {"--no-save", "--json"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(run.Json().at("saved_path"), "");
  EXPECT_EQ(ProfileCount(), 0U);
}

TEST_F(CliCalibrateTest, WhatItCannotDoEndsWithThree) {
  const auto error = [this](const std::string& path, const std::vector<std::string>& more = {}) {
    const ProgramRun run = RunTiercel(Quick(path, more));
    EXPECT_EQ(run.exit_code, 3) << run.out;
    EXPECT_EQ(ProfileCount(), 0U);
    return run.err;
  };
  EXPECT_NE(error(scratch_.File("none")).find("NOT_FOUND"), std::string::npos);
  const std::string small = scratch_.Write("small", "too small");
  EXPECT_NE(error(small).find("too few to be read at random"), std::string::npos);
  EXPECT_NE(error(scratch_.path()).find("neither a checkpoint nor"), std::string::npos)
      << "its only file has less than 64 MiB";
}

TEST_F(CliCalibrateTest, UnwritableSvgIsNamed) {
  const ProgramRun run = RunTiercel(Quick(file_, {"--svg", scratch_.File("no/such/plot.svg")}));
  EXPECT_EQ(run.exit_code, 3);
  EXPECT_NE(run.err.find("plot.svg"), std::string::npos) << run.err;
}

TEST_F(CliCalibrateTest, WrongOptionsEndWithTwo) {
  for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
           {"--engine", "mmap"},
           {"--seconds", "0"},
           {"--depths", "0"},
           {"--depths", "5000"},
           {"--blocks", "3000"},
           {"--blocks", "1MiB"},
           {"--no-save", "--out", "p.json"},
       }) {
    std::vector<std::string> arguments = {"calibrate", file_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramRun run = RunTiercel(arguments);
    EXPECT_EQ(run.exit_code, 2) << more[0] << " " << more[1] << ": " << run.err;
  }
}

}  // namespace
}  // namespace tiercel::testing
