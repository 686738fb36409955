// Goal: whatever moment a process dies at while it updates rows, the state opens afterwards as
// a prefix of its batches: each acknowledged one is there, and none by half.
//
// Method: a child (overlay_driver.cc) updates and tells what was acknowledged; it is killed
// with SIGKILL at random moments, of its opening and of its updates. Then the store is opened
// here, for reading alone or for updates, and every row that a batch may touch is compared
// with a model. Rounds go on with one state, so that recovery itself is killed and what is
// recovered is recovered again. TIERCEL_KILL_ROUNDS=200 for a long run; TIERCEL_TEST_SEED.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>

#include "base/prng.h"
#include "tests/store/driver_batches.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

std::uint64_t Number(const char* variable, std::uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

TEST(OverlayKillTest, EveryDeathLeavesAPrefixWithAllThatWasAcknowledged) {
  if (InspectState("/nonexistent").status().code() == StatusCode::kUnavailable) {
    GTEST_SKIP() << "the library was built without RocksDB";
  }
  const MadeCheckpoint made({.shrink = 40000});
  const ScratchDir scratch;
  const std::string state = scratch.File("state");
  const std::uint64_t rounds = Number("TIERCEL_KILL_ROUNDS", 6);
  const std::uint64_t seed = Number("TIERCEL_TEST_SEED", 1);
  Prng prng(seed);
  std::uint64_t last = 0;
  std::uint64_t unacknowledged = 0;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    SCOPED_TRACE(::testing::Message() << "round " << round << " seed " << seed);
    DriverProcess driver("update", made.path(), state);
    std::uint64_t acknowledged = last;
    // Every third one dies as it opens; the others as they update.
    if (round % 3 != 0) {
      ASSERT_TRUE(driver.Read(&acknowledged, sizeof(acknowledged)));
    }
    std::this_thread::sleep_for(std::chrono::microseconds(prng.Below(120'000)));
    driver.Kill();
    for (std::uint64_t number = 0; driver.Read(&number, sizeof(number));) {
      EXPECT_EQ(number, acknowledged + 1);
      acknowledged = number;
    }
    EXPECT_EQ(driver.Wait(), 128);

    if (!StateExists(state)) {
      ASSERT_EQ(acknowledged, 0u);
      continue;
    }
    StoreOptions options = DriverOptions(state);
    options.updates = round % 2 == 0 ? Updates::kReadOnly : Updates::kReadWrite;
    Result<std::unique_ptr<Store>> store = Store::Open(made.path(), options);
    ASSERT_TRUE(store.ok()) << store.status().ToString();
    const std::uint64_t sequence = store.value()->Stats().overlay.sequence;
    EXPECT_GE(sequence, acknowledged) << "an acknowledged batch is lost";
    EXPECT_LE(sequence, acknowledged + 1) << "there are batches that nobody wrote";
    unacknowledged += sequence > acknowledged ? 1 : 0;
    ASSERT_TRUE(IsStateAfter(made, *store.value(), sequence));
    last = sequence;
  }
  EXPECT_GT(last, 0u) << "nothing was ever written";
  RecordProperty("batches", std::to_string(last));
  RecordProperty("unacknowledged", std::to_string(unacknowledged));
}

}  // namespace
}  // namespace tiercel::testing
