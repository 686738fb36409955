// Goal: sizes, row lists and the numbers printed for people are read and written as
// docs/cli.md says.
// Method: tables of texts and values, with the refusals as prominent as the rest.

#include "tools/command_line.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tiercel::tools {
namespace {

TEST(CommandLine, ReadsSizes) {
  const std::vector<std::pair<std::string, std::uint64_t>> cases = {
      {"0", 0},
      {"4096", 4096},
      {"4096B", 4096},
      {"1KiB", 1024},
      {"1kb", 1000},
      {"1GiB", std::uint64_t{1} << 30},
      {"1 GiB", std::uint64_t{1} << 30},
      {"4g", std::uint64_t{4} << 30},
      {"256MiB", std::uint64_t{256} << 20},
      {"12.7GB", 12'700'000'000},
      {"0.5MiB", 512 << 10},
      {"1.000001kB", 1000},  // Rounded down to a whole byte.
      {"18446744073709551615", ~std::uint64_t{0}},
      {"16777215TiB", std::uint64_t{16777215} << 40},
  };
  for (const auto& [text, bytes] : cases) {
    const Result<std::uint64_t> size = ParseByteSize(text);
    ASSERT_TRUE(size.ok()) << text << ": " << size.status().ToString();
    EXPECT_EQ(size.value(), bytes) << text;
  }
}

TEST(CommandLine, RefusesWhatIsNoSize) {
  for (const char* text : {"",
                           " ",
                           "GiB",
                           "-1",
                           "+1",
                           "1e9",
                           "0x10",
                           "1XB",
                           "1GiBs",
                           "1  GiB",
                           "1 ",
                           " 1",
                           "1.GiB",
                           ".5GiB",
                           "1.5",
                           "1.5B",
                           "1.1234567GiB",
                           "1,000",
                           "1GiB 2MiB",
                           "nan",
                           "18446744073709551616",
                           "16777216TiB",
                           "99999999999999999999TB"}) {
    const Result<std::uint64_t> size = ParseByteSize(text);
    ASSERT_FALSE(size.ok()) << text << " was read as " << size.value();
    EXPECT_EQ(size.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(size.status().message().find(text), std::string::npos) << "it names the text";
  }
}

TEST(CommandLine, ReadsRowLists) {
  const Result<std::vector<std::uint64_t>> rows = ParseRowList("0,17,100-103,5");
  ASSERT_TRUE(rows.ok()) << rows.status().ToString();
  EXPECT_EQ(rows.value(), (std::vector<std::uint64_t>{0, 17, 100, 101, 102, 103, 5}));
  // The largest id there is does not wrap the loop around.
  const Result<std::vector<std::uint64_t>> last = ParseRowList("18446744073709551615");
  ASSERT_TRUE(last.ok());
  EXPECT_EQ(last.value(), (std::vector<std::uint64_t>{~std::uint64_t{0}}));
}

TEST(CommandLine, RefusesWhatIsNoRowList) {
  for (const char* text : {"", ",", "1,", ",1", "1,,2", "a", "-1", "5-", "-", "9-8", "1 2", "1.5",
                           "18446744073709551616", "0-1048576", "0-18446744073709551615"}) {
    EXPECT_FALSE(ParseRowList(text).ok()) << text;
  }
  EXPECT_TRUE(ParseRowList("0-1048575").ok()) << "the limit itself is allowed";
}

TEST(CommandLine, ReadsEngines) {
  EXPECT_EQ(ParseEngine("uring").value(), Engine::kUring);
  EXPECT_EQ(ParseEngine("pread").value(), Engine::kPread);
  EXPECT_EQ(ParseEngine("auto").value(), Engine::kAuto);
  EXPECT_FALSE(ParseEngine("mmap").ok());
  EXPECT_EQ(ParseScalePlacement("disk").value(), ScalePlacement::kDisk);
  EXPECT_FALSE(ParseScalePlacement("").ok());
}

TEST(CommandLine, WritesNumbersForPeople) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1,000");
  EXPECT_EQ(FormatCount(48001234), "48,001,234");
  EXPECT_EQ(FormatAmount(950), "950");
  EXPECT_EQ(FormatAmount(3.14159), "3.14");
  EXPECT_EQ(FormatAmount(999.7), "1.00 k");
  EXPECT_EQ(FormatAmount(1.234e6), "1.23 M");
  EXPECT_EQ(FormatBytes(12.67e9), "12.7 GB");
  EXPECT_EQ(FormatBytes(999), "999 B");
  EXPECT_EQ(FormatBinaryBytes(std::uint64_t{1} << 30), "1.00 GiB");
  EXPECT_EQ(FormatBinaryBytes(1023), "1023 B");
  EXPECT_EQ(FormatSeconds(0.4249), "0.42 s");
  EXPECT_EQ(FormatSeconds(42.31), "42.3 s");
  EXPECT_EQ(FormatSeconds(125.4), "2 m 05 s");
  EXPECT_EQ(FormatSeconds(3700), "1 h 01 m");
  EXPECT_EQ(FormatPercent(1, 8), "12.5 %");
  EXPECT_EQ(FormatPercent(0, 0), "0.0 %") << "nothing out of nothing is no NaN";
}

TEST(CommandLine, KnowsItsOwnMemory) {
  const ResidentMemory memory = ReadResidentMemory();
  EXPECT_GT(memory.now_bytes, 1U << 20);
  EXPECT_GE(memory.peak_bytes, memory.now_bytes);
}

}  // namespace
}  // namespace tiercel::tools
