// Goal: the rules of the source tree that a compiler does not check: who may
// include whom, that no test or header has fallen out of the build, the shape of
// files.
//
// Method: read the source tree and apply the rules of tidy_rules.h to every file.
// Each rule is first shown a made-up text that breaks it, so that none of them can
// pass by being blind.

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "tests/tidy_rules.h"

namespace tiercel::testing {
namespace {

const std::vector<SourceFile>& Tree() {
  static const std::vector<SourceFile> tree = ReadSourceTree(TIERCEL_SOURCE_DIR);
  return tree;
}

SourceFile WithInclude(std::string path, const std::string& include) {
  return {std::move(path), "#include " + include + "\n"};
}

std::string TextOf(const std::string& path) {
  for (const SourceFile& file : Tree()) {
    if (file.path == path) return file.text;
  }
  return {};
}

template <typename Rule>
std::string ApplyToCxx(Rule rule) {
  std::vector<Finding> findings;
  for (const SourceFile& file : Tree()) {
    if (!IsCxx(file.path)) continue;
    for (Finding& finding : rule(file)) findings.push_back(std::move(finding));
  }
  return ToString(findings);
}

TEST(TidyRules, WrongArrowsAreFound) {
  const std::vector<SourceFile> wrong = {
      WithInclude("io/pread.cc", "\"cache/group_cache.h\""),
      WithInclude("io/pread.cc", "\"store/batch.h\""),
      WithInclude("cache/index.h", "\"engram/token_map.h\""),
      WithInclude("cache/index.h", "<thread>"),
      WithInclude("engram/hasher.cc", "\"io/device.h\""),
      WithInclude("base/json.cc", "\"engram/recipe_json.h\""),
      WithInclude("store/store.cc", "\"cuda/dequantize.h\""),
      WithInclude("store/store.cc", "\"tests/support/fault_device.h\""),
      WithInclude("store/store.cc", "<liburing.h>"),
      WithInclude("store/store.cc", "\"tiercel/cuda.h\""),
      WithInclude("cuda/dequantize.cu", "\"store/store_impl.h\""),
      WithInclude("capi/store.cc", "\"store/store_impl.h\""),
      WithInclude("capi/store.cc", "\"base/json.h\""),
      WithInclude("store/store.cc", "\"capi/handles.h\""),
      WithInclude("tools/main.cc", "\"base/json.h\""),
      WithInclude("examples/consumer/main.cc", "\"io/device.h\""),
      WithInclude("include/tiercel/store.h", "\"io/device.h\""),
      WithInclude("include/tiercel/store.h", "<fmt/format.h>"),
      WithInclude("include/tiercel/store.h", "<stdint.h>"),
      WithInclude("include/tiercel/tiercel.h", "<stdio.h>"),
      WithInclude("include/tiercel/store.h", "<cuda_runtime_api.h>"),
      WithInclude("io/pread.cc", "\"device.h\""),
      WithInclude("io/pread.cc", "\"../base/file.h\""),
      WithInclude("io/pread.cc", "\"include/tiercel/status.h\""),
      WithInclude("io/pread.cc", "<tiercel/status.h>"),
      WithInclude("novel/pread.cc", "<vector>"),
      {"io/pread.cc", "  #  include \"store/batch.h\"\n"},
  };
  for (const SourceFile& file : wrong) {
    EXPECT_EQ(CheckIncludes(file).size(), 1U) << file.path << ": " << file.text;
  }
}

TEST(TidyRules, RightArrowsAreNotFound) {
  const std::vector<SourceFile> right = {
      WithInclude("io/pread.cc", "\"io/device.h\""),
      WithInclude("io/pread.cc", "\"base/file.h\""),
      WithInclude("io/pread.cc", "\"tiercel/status.h\""),
      WithInclude("io/uring.cc", "<liburing.h>"),
      WithInclude("store/store.cc", "\"engram/hasher_impl.h\""),
      WithInclude("cuda/dequantize.cu", "\"engram/float_formats.h\""),
      WithInclude("include/tiercel/cuda.h", "<cuda_runtime_api.h>"),
      WithInclude("include/tiercel/store.h", "<vector>"),
      WithInclude("include/tiercel/tiercel.h", "<stdint.h>"),
      WithInclude("capi/store.cc", "\"capi/handles.h\""),
      WithInclude("examples/lookup.c", "\"tiercel/tiercel.h\""),
      WithInclude("tools/main.cc", "<CLI/CLI.hpp>"),
      WithInclude("tools/main.cc", "\"tools/command.h\""),
      WithInclude("tests/store/store_test.cc", "\"store/store_impl.h\""),
      {"io/pread.cc", "// #include \"store/batch.h\"\n/*\n#include \"store/batch.h\"\n*/\n"},
  };
  for (const SourceFile& file : right) {
    EXPECT_EQ(ToString(CheckIncludes(file)), "") << file.text;
  }
}

TEST(TidyRules, WrongGuardsAreFound) {
  const std::string good =
      "#ifndef TIERCEL_IO_DEVICE_H_\n#define TIERCEL_IO_DEVICE_H_\n\n"
      "#endif  // TIERCEL_IO_DEVICE_H_\n";
  EXPECT_EQ(ToString(CheckIncludeGuard({"io/device.h", good})), "");
  EXPECT_EQ(CheckIncludeGuard({"io/queue.h", good}).size(), 1U);
  EXPECT_EQ(CheckIncludeGuard({"include/tiercel/device.h", good}).size(), 1U);
  EXPECT_EQ(CheckIncludeGuard({"io/device.h", "#pragma once\n"}).size(), 1U);
  EXPECT_EQ(CheckIncludeGuard({"io/device.h", ""}).size(), 1U);
}

TEST(TidyRules, WrongLinesAreFound) {
  EXPECT_EQ(ToString(CheckLines({"io/a.cc", std::string(100, 'x') + "\n"})), "");
  EXPECT_EQ(CheckLines({"io/a.cc", std::string(101, 'x') + "\n"}).size(), 1U);
  EXPECT_EQ(CheckLines({"io/a.cc", "int a;\tint b;\n"}).size(), 1U);
  EXPECT_EQ(CheckLines({"io/a.cc", "int a; \n"}).size(), 1U);
  std::string lines;
  for (int i = 0; i < 500; ++i) lines += "\n";
  EXPECT_EQ(ToString(CheckLines({"io/a.cc", lines})), "");
  EXPECT_EQ(CheckLines({"io/a.cc", lines + "\n"}).size(), 1U);
}

TEST(TidyRules, RemindersAreFound) {
  EXPECT_EQ(CheckReminders({"io/a.cc", std::string("// TO") + "DO(ann): later\n"}).size(), 1U);
  EXPECT_EQ(CheckReminders({"io/a.md", std::string("FIX") + "ME\n"}).size(), 1U);
  EXPECT_EQ(ToString(CheckReminders({"io/a.cc", std::string("int MASTO") + "DON;\n"})), "");
}

TEST(TidyRules, BannedCallsAreFound) {
  EXPECT_EQ(CheckCalls({"io/a.cc", "  strcpy(a, b);\n"}).size(), 1U);
  EXPECT_EQ(CheckCalls({"tests/a.cc", "int x = std::rand();\n"}).size(), 1U);
  EXPECT_EQ(CheckCalls({"store/a.cc", "std::abort();\n"}).size(), 1U);
  EXPECT_EQ(CheckCalls({"store/a.cc", "std::cout << 1;\n"}).size(), 1U);
  EXPECT_EQ(ToString(CheckCalls({"base/check.h", "std::abort();\n"})), "");
  EXPECT_EQ(ToString(CheckCalls({"tools/a.cc", "std::printf(\"%d\", 1);\n"})), "");
  EXPECT_EQ(ToString(CheckCalls({"io/a.cc", "operand(a); snprintf(a, 1, b); // abort()\n"})), "");
  EXPECT_EQ(ToString(CheckCalls({"io/a.cc", "const char* s = \"abort()\";\n"})), "");
}

TEST(TidyRules, CommentsAndStringsAreBlanked) {
  EXPECT_EQ(Blank("a // b\nc", {}), "a     \nc");
  EXPECT_EQ(Blank("a /* b\n */ c", {}), "a     \n    c");
  EXPECT_EQ(Blank(R"(x = "a\"b"; y)", {}), "x =       ; y");
  EXPECT_EQ(Blank("1'000 '\"' b", {}), "1'000     b");
  EXPECT_EQ(Blank("R\"x(a)\" )x\" b", {}), "            b");
  EXPECT_EQ(Blank("\"// a\" b", {.strings = false}), "\"// a\" b");
  EXPECT_EQ(Blank("/* open", {}).size(), 7U);
  EXPECT_EQ(Blank("R\"(open", {}).size(), 7U);
  EXPECT_EQ(Blank("\"open\\", {}).size(), 6U);
}

TEST(Tidy, TreeWasRead) {
  EXPECT_FALSE(TextOf("include/tiercel/store.h").empty());
  EXPECT_FALSE(TextOf("tests/tidy_test.cc").empty());
  EXPECT_FALSE(TextOf("base/file.cc").empty());
}

TEST(Tidy, IncludesFollowTheArrows) {
  EXPECT_EQ(ApplyToCxx(CheckIncludes), "");
}

TEST(Tidy, IncludeGuards) {
  EXPECT_EQ(ApplyToCxx(CheckIncludeGuard), "");
}

TEST(Tidy, LinesAndSizes) {
  EXPECT_EQ(ApplyToCxx(CheckLines), "");
}

TEST(Tidy, NoBannedCalls) {
  EXPECT_EQ(ApplyToCxx(CheckCalls), "");
}

TEST(Tidy, NoReminders) {
  std::vector<Finding> findings;
  for (const SourceFile& file : Tree()) {
    for (Finding& finding : CheckReminders(file)) findings.push_back(std::move(finding));
  }
  EXPECT_EQ(ToString(findings), "");
}

// tests/CMakeLists.txt writes the list from what tiercel_test() was given.
TEST(Tidy, EveryTestFileIsInTheBuild) {
  std::ifstream list(TIERCEL_TEST_FILE_LIST);
  std::set<std::string> built;
  for (std::string path; std::getline(list, path);) built.insert(path);
  EXPECT_TRUE(built.contains("tests/tidy_test.cc"));
  for (const SourceFile& file : Tree()) {
    if (!file.path.starts_with("tests/") || !file.path.ends_with("_test.cc")) continue;
    const std::string folder = file.path.substr(0, file.path.rfind('/') + 1);
    // Without nvcc or the program, their tests cannot be built.
    if (std::string_view(TIERCEL_TEST_FOLDERS_LEFT_OUT).find(folder + " ") != std::string::npos) {
      continue;
    }
    EXPECT_TRUE(built.contains(file.path)) << file.path << " is in no tiercel_test()";
  }
}

TEST(Tidy, EverySourceFileIsNamedInItsCMakeLists) {
  for (const SourceFile& file : Tree()) {
    if (!IsCxx(file.path) || file.path.ends_with(".h") || file.path.ends_with(".cuh")) continue;
    const std::size_t slash = file.path.rfind('/');
    const std::string lists = TextOf(file.path.substr(0, slash) + "/CMakeLists.txt");
    EXPECT_NE(lists.find(file.path.substr(slash + 1)), std::string::npos)
        << file.path << " is not named in the CMakeLists.txt beside it";
  }
}

TEST(Tidy, EveryPublicHeaderIsInAFileSet) {
  const std::string lists = TextOf("include/CMakeLists.txt") + TextOf("capi/CMakeLists.txt") +
                            TextOf("cuda/CMakeLists.txt");
  int headers = 0;
  for (const SourceFile& file : Tree()) {
    if (!file.path.starts_with("include/") || !file.path.ends_with(".h")) continue;
    ++headers;
    EXPECT_NE(lists.find(file.path.substr(8)), std::string::npos)
        << file.path << " is installed by no CMakeLists.txt of include/, capi/, cuda/";
  }
  EXPECT_GT(headers, 5);
}

}  // namespace
}  // namespace tiercel::testing
