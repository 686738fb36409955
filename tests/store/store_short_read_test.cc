// Goal: a kernel that reads less than it was asked for, and a file that shrinks and grows
// while it is read, give no wrong row.
//
// Method: short reads are real ones: the program asks the kernel for a part of what the
// library asked for (see short_reads.h). The file is truncated and grown again by another
// thread while rows around the place are looked up.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "base/prng.h"
#include "io/device.h"
#include "store/store_impl.h"
#include "tests/store/short_reads.h"
#include "tests/support/made_checkpoint.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

struct Case {
  const char* name;
  DeviceEngine engine;
  bool direct;
};

class StoreShortReadTest : public ::testing::TestWithParam<Case> {
 protected:
  ~StoreShortReadTest() override { SetShortReads({}); }

  Result<std::unique_ptr<Store>> Open() const {
    StoreOptions options;
    options.dram_budget_bytes = std::uint64_t{16} << 20;
    options.io_thread_count = 2;
    options.queue_depth = 16;
    options.read_attempts_max = 1;  // A short read is no failure.
    options.scales = ScalePlacement::kDisk;
    options.log = [](std::string_view /*line*/) {};
    return OpenStoreOn(
        made_.info(), options,
        [](const std::vector<std::string>& paths, DeviceOptions device) -> Result<OpenedDevice> {
          device.direct = GetParam().direct;
          auto base = GetParam().engine == DeviceEngine::kUring ? OpenUringDevice(paths, device)
                                                                : OpenPreadDevice(paths, device);
          if (!base.ok()) return std::move(base).TakeStatus();
          return OpenedDevice{.device = std::move(base).value(), .fallback_reason = ""};
        });
  }

  /// Whether O_DIRECT takes 512 bytes here: what a direct read can be cut to.
  [[nodiscard]] bool DirectTakes512() const {
    const int file = open(made_.info().files[0].path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (file < 0) return false;
    void* const bytes = std::aligned_alloc(4096, 4096);
    const bool takes = pread(file, bytes, 512, 512) == 512;
    std::free(bytes);
    close(file);
    return takes;
  }

  [[nodiscard]] static std::uint64_t CutReads() {
    const ShortReadCounts counts = GetShortReadCounts();
    return GetParam().engine == DeviceEngine::kUring ? counts.uring : counts.pread;
  }

  const MadeCheckpoint made_{MadeCheckpoint::Options{}};
};

#define OPEN_OR_SKIP(store)                                               \
  Result<std::unique_ptr<Store>> opened = Open();                         \
  if (!opened.ok() && opened.status().code() == StatusCode::kUnavailable) \
    GTEST_SKIP() << "no io_uring here: " << opened.status().ToString();   \
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();                 \
  Store& store = *opened.value()

TEST_P(StoreShortReadTest, EveryRowIsRightHoweverOftenTheKernelStopsShort) {
  if (GetParam().direct && !DirectTakes512()) {
    GTEST_SKIP() << "O_DIRECT takes no 512 B here, so no read can be cut";
  }
  OPEN_OR_SKIP(store);
  const std::uint64_t cut_before = CutReads();
  SetShortReads({.probability = 0.5, .unit_bytes = GetParam().direct ? 512U : 1U});
  for (std::uint64_t round = 0; round < 40; ++round) {
    const std::vector<std::int32_t> tokens = made_.RandomTokens(round, 20);
    const TokenRun run = {.history = {}, .tokens = tokens};
    const std::uint32_t layer_id = round % 2 == 0 ? 1 : 14;
    const std::vector<RowId> ids = RowIdsOf(store, layer_id, run);
    LayerBuffers buffers(store, layer_id, ids.size(), RowOutput::kStored);
    const LayerOutput output = buffers.Output();
    EXPECT_TRUE(store.Lookup({&run, 1}, {&output, 1}).ok());
    EXPECT_EQ(CheckRows(made_, buffers, ids, RowOutput::kStored).right, ids.size());
  }
  SetShortReads({});
  EXPECT_GT(CutReads() - cut_before, 1000U);
  EXPECT_EQ(store.Stats().device_read_retries, 0U);
  EXPECT_EQ(store.Stats().device_read_failures, 0U);
}

TEST_P(StoreShortReadTest, RowsOfAFileThatShrinksAndGrowsAreTrueOrMarkedOrWhatTheFileHolds) {
  OPEN_OR_SKIP(store);
  const LayerTable& layer = made_.info().layers[0];
  // The part that lies last in its file, so that nothing else is cut.
  const RowPart& part = *std::ranges::max_element(
      layer.parts, {}, [](const RowPart& p) { return p.extents[0].offset_bytes; });
  const RowExtent& extent = part.extents[0];
  const std::string& path = made_.info().files[extent.file_index].path;
  const std::uint64_t size_bytes = std::filesystem::file_size(path);
  // Bytes from here on come and go, and come back as zeros: the part's second half.
  const std::uint64_t first_cut_row = layer.row_count / 2;
  const std::uint64_t cut_bytes = extent.offset_bytes + first_cut_row * part.size_bytes;
  std::atomic<bool> stop = false;
  std::thread shrinker([&] {
    Prng prng(1);
    while (!stop.load()) {
      std::filesystem::resize_file(path, cut_bytes + prng.Below(64 * part.size_bytes));
      std::this_thread::yield();
      std::filesystem::resize_file(path, size_bytes);
    }
  });
  Prng prng(2);
  std::uint64_t marked = 0;
  std::uint64_t right = 0;
  std::uint64_t wrong = 0;
  for (int round = 0; round < 20'000 && (round < 300 || marked == 0); ++round) {
    std::vector<RowId> ids;
    for (int i = 0; i < 32; ++i) {
      const std::uint64_t row = first_cut_row - 16 + prng.Below(96);
      ids.push_back(RowId{row});
    }
    LayerBuffers buffers(store, layer.layer_id, ids.size(), RowOutput::kStored);
    static_cast<void>(store.LookupRows(ids, buffers.Output()));
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const std::vector<std::byte> got = buffers.Row(i);
      const std::vector<std::byte> want = made_.Row(layer.layer_id, ids[i]);
      const bool ok = buffers.row_status[i] == RowStatus::kOk;
      // What was cut off once is zero from then on, down to the byte.
      bool possible = ok || buffers.row_status[i] == RowStatus::kCorruption;
      for (std::size_t byte = 0; byte < got.size(); ++byte) {
        possible &= got[byte] == std::byte{0} || (ok && got[byte] == want[byte]);
      }
      marked += ok ? 0 : 1;
      right += ok && got == want ? 1 : 0;
      wrong += possible ? 0 : 1;
    }
  }
  stop.store(true);
  shrinker.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_GT(right, 0U);
  EXPECT_GT(marked, 0U);
  EXPECT_EQ(store.Stats().device_read_retries, 0U);  // No errno but "the file ends".
}

INSTANTIATE_TEST_SUITE_P(Engines, StoreShortReadTest,
                         ::testing::Values(Case{"Uring", DeviceEngine::kUring, false},
                                           Case{"UringDirect", DeviceEngine::kUring, true},
                                           Case{"Pread", DeviceEngine::kPread, false},
                                           Case{"PreadDirect", DeviceEngine::kPread, true}),
                         [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace tiercel::testing
