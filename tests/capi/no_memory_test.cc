// Goal: no std::bad_alloc crosses the C API: the code is RESOURCE_EXHAUSTED, with a message.
//
// Method: an operator new that fails at the n-th call of the thread, for n = 1, 2, ... until
// the function succeeds.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tests/capi/c_store.h"
#include "tests/support/own_new.h"

namespace tiercel::testing {
namespace {

/// Calls of this thread's operator new until one fails; negative: none does.
thread_local std::int64_t g_calls_left = -1;

}  // namespace

bool MayAllocate(std::size_t /*size_bytes*/) noexcept {
  if (g_calls_left == 0) return false;
  if (g_calls_left > 0) --g_calls_left;
  return true;
}

namespace {

/// Calls `function` until it succeeds, failing one allocation later each time. Returns how
/// often it failed.
template <typename Function>
int FailEachAllocation(Function function) {
  constexpr int kTriesMax = 10'000;
  for (int n = 0; n < kTriesMax; ++n) {
    g_calls_left = n;
    const tiercel_code code = function();
    g_calls_left = -1;
    if (code == TIERCEL_OK) return n;
    EXPECT_CODE(TIERCEL_RESOURCE_EXHAUSTED, code);
    EXPECT_NE(std::string(tiercel_last_error()).find("out of memory"), std::string::npos)
        << tiercel_last_error();
  }
  ADD_FAILURE() << "never succeeded";
  return 0;
}

TEST(CNoMemory, TokenMaps) {
  const std::vector<std::uint32_t> classes = {0, 1, 2, 0};
  tiercel_token_map* map = nullptr;
  EXPECT_GT(FailEachAllocation([&] {
              return tiercel_token_map_from_classes(classes.data(), classes.size(), &map);
            }),
            0);
  tiercel_token_map_close(map);
}

TEST(CNoMemory, Hashers) {
  const MadeCheckpoint made({});
  tiercel_checkpoint* checkpoint = nullptr;
  ASSERT_CODE(TIERCEL_OK, tiercel_inspect(made.path().c_str(), &checkpoint));
  tiercel_hasher* hasher = nullptr;
  EXPECT_GT(FailEachAllocation([&] { return tiercel_hasher_open(checkpoint, nullptr, &hasher); }),
            0);
  tiercel_hasher_close(hasher);
  tiercel_checkpoint_close(checkpoint);
}

TEST(CNoMemory, Texts) {
  const CStore store;
  char* text = nullptr;
  EXPECT_GT(
      FailEachAllocation([&] { return tiercel_store_get_metrics(store.get(), &text, nullptr); }),
      0);
  tiercel_string_free(text);
}

// An error on the way out, for whose message there is no memory either.
TEST(CNoMemory, Messages) {
  g_calls_left = 0;
  const tiercel_code code = tiercel_inspect(nullptr, nullptr);
  g_calls_left = -1;
  EXPECT_CODE(TIERCEL_RESOURCE_EXHAUSTED, code);
  EXPECT_NE(std::string(tiercel_last_error()).find("out of memory"), std::string::npos);
}

}  // namespace
}  // namespace tiercel::testing
