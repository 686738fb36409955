// Goal: where io_uring is forbidden, a store that may choose reads with pread, gives the
// same rows and says why; one that must have io_uring does not open, and says why.
//
// Method: children under a seccomp filter of the test's own, which forbids what the
// profiles of containers forbid. The whole of store_test and cli_test runs under such a
// filter as well (see CMakeLists.txt): LauncherMeansWhatItSays makes sure that the filter
// is really there.

#include <gtest/gtest.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/made_checkpoint.h"
#include "tests/support/seccomp_filter.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

StoreOptions OptionsWithLog(Engine engine, std::string& log) {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{24} << 20;
  options.queue_depth = 32;
  options.engine = engine;
  options.log = [&log](std::string_view line) { log.append(line).append("\n"); };
  return options;
}

/// What a container profile answers, and what a person must be told.
struct Profile {
  const char* name;
  std::uint32_t os_error;
  const char* sentence;
};

class ForbiddenUringTest : public ::testing::TestWithParam<Profile> {
 protected:
  const MadeCheckpoint made_{MadeCheckpoint::Options{}};
};

TEST_P(ForbiddenUringTest, AutoReadsWithPreadAndSaysWhy) {
  const int status = InChild([&] {
    if (!ForbidIoUring(GetParam().os_error)) return kChildSkipped;
    std::string log;
    Result<std::unique_ptr<Store>> store =
        Store::Open(made_.path(), OptionsWithLog(Engine::kAuto, log));
    CHILD_EXPECT(store.ok());
    const StoreStats stats = store.value()->Stats();
    std::fprintf(stderr, "fallback: %s\nlog: %s", stats.engine_fallback.c_str(), log.c_str());
    CHILD_EXPECT(stats.engine == "pread");
    CHILD_EXPECT(Contains(stats.engine_fallback, GetParam().sentence));
    CHILD_EXPECT(Contains(log, "instead of io_uring"));
    CHILD_EXPECT(Contains(log, GetParam().sentence));

    const std::vector<std::int32_t> tokens = made_.RandomTokens(1, 100);
    const TokenRun run = {.history = {}, .tokens = tokens};
    const std::vector<RowId> ids = RowIdsOf(*store.value(), 14, run);
    LayerBuffers buffers(*store.value(), 14, ids.size(), RowOutput::kBf16);
    const LayerOutput output = buffers.Output();
    CHILD_EXPECT(store.value()->Lookup({&run, 1}, {&output, 1}, RowOutput::kBf16).ok());
    CHILD_EXPECT(CheckRows(made_, buffers, ids, RowOutput::kBf16).right == ids.size());
    return kChildPassed;
  });
  if (status == kChildSkipped) GTEST_SKIP() << "this system allows no seccomp filter";
  EXPECT_EQ(status, kChildPassed);
}

TEST_P(ForbiddenUringTest, UringDoesNotOpenAndSaysWhy) {
  const int status = InChild([&] {
    if (!ForbidIoUring(GetParam().os_error)) return kChildSkipped;
    std::string log;
    const Result<std::unique_ptr<Store>> store =
        Store::Open(made_.path(), OptionsWithLog(Engine::kUring, log));
    CHILD_EXPECT(!store.ok());
    std::fprintf(stderr, "%s\n", store.status().ToString().c_str());
    CHILD_EXPECT(store.status().code() == StatusCode::kUnavailable);
    CHILD_EXPECT(store.status().os_error() == static_cast<int>(GetParam().os_error));
    CHILD_EXPECT(Contains(store.status().message(), GetParam().sentence));
    return kChildPassed;
  });
  if (status == kChildSkipped) GTEST_SKIP() << "this system allows no seccomp filter";
  EXPECT_EQ(status, kChildPassed);
}

INSTANTIATE_TEST_SUITE_P(Profiles, ForbiddenUringTest,
                         ::testing::Values(Profile{"Eperm", EPERM, "io_uring_disabled"},
                                           Profile{"Enosys", ENOSYS,
                                                   "this kernel has no io_uring"}),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(StoreEngineTest, LauncherMeansWhatItSays) {
  const MadeCheckpoint made({});
  std::string log;
  Result<std::unique_ptr<Store>> store =
      Store::Open(made.path(), OptionsWithLog(Engine::kAuto, log));
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  const StoreStats stats = store.value()->Stats();
  if (std::getenv("TIERCEL_TEST_WITHOUT_IO_URING") != nullptr) {
    EXPECT_EQ(stats.engine, "pread");
  }
  EXPECT_EQ(stats.engine_fallback.empty(), stats.engine == "io_uring") << stats.engine_fallback;
  EXPECT_EQ(Contains(log, "instead of io_uring"), stats.engine != "io_uring") << log;
}

}  // namespace
}  // namespace tiercel::testing
