// Goal: the whole store over a device that fails in every way it can never lies and
// never hangs: each row of each answer is its true bytes and kOk, or zeros and the
// mark that the device's answer calls for. 10,000 batches in all.
//
// Method: random batches from several threads at once (runs with history and dead
// tokens, rows by id, both outputs) against stores of random shape, over files read by
// io_uring and by pread. Between the two stand a FaultDevice, which breaks reads by
// seed, and a WitnessDevice, which notes what the store was told. The model of a row is
// its generator and that log: a mark needs a read that failed so, and wrong bytes need
// wrong bits in just those places (nothing on disk vouches for a bit, so a flipped one
// cannot be noticed: it must stay where it was flipped). A failure prints its seed;
// TIERCEL_TEST_SEED=<seed> repeats its choices, though not the order of its threads.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/prng.h"
#include "io/device.h"
#include "store/store_impl.h"
#include "tests/store/row_model.h"
#include "tests/support/fault_device.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/witness_device.h"
#include "tiercel/store.h"

namespace tiercel {
namespace {

using testing::FaultCounts;
using testing::FaultDevice;
using testing::FaultOptions;
using testing::FileBytes;
using testing::LayerBuffers;
using testing::MadeCheckpoint;
using testing::RowModel;
using testing::RowTallies;
using testing::WitnessDevice;
using testing::WitnessLog;

constexpr std::uint32_t kWorlds = 5;  // Stores of one case, each of another shape.
constexpr std::uint32_t kThreads = 3;
constexpr std::uint32_t kBatchesOfThread = 84;  // 8 cases * 5 * 3 * 84 = 10,080 batches.

std::uint64_t Seed() {
  const char* const text = std::getenv("TIERCEL_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}

/// Makes batches by seed, looks them up and has every row judged.
///
/// Threading: one thread.
class Client {
 public:
  Client(const MadeCheckpoint& made, Store& store, const RowModel& model, std::uint64_t seed)
      : made_(made), store_(store), model_(model), prng_(seed) {}

  void LookUpOnce() {
    format_ = prng_.Below(2) == 0 ? RowOutput::kStored : RowOutput::kBf16;
    // Small batches, as of decoding; now and then a longer one.
    const std::size_t token_count = prng_.Below(20) == 0 ? 24 : 1 + prng_.Below(4);
    DrawTokens(token_count);
    if (prng_.Below(3) == 0) {
      LookUpRows();
    } else {
      LookUpRuns();
    }
    ++tally_.batches;
  }

  [[nodiscard]] const RowTallies& tally() const noexcept { return tally_; }

 private:
  /// Tokens of up to three runs, each with some history before it.
  void DrawTokens(std::size_t token_count) {
    tokens_ = made_.RandomTokens(prng_(), token_count + 12);
    for (std::int32_t& token : tokens_) {
      if (prng_.Below(12) == 0) token = kDeadToken;
    }
    runs_.clear();
    std::span<const std::int32_t> rest = tokens_;
    std::size_t left = token_count;
    while (left > 0) {
      const std::size_t history = prng_.Below(4);
      const std::size_t count = runs_.size() == 2 ? left : 1 + prng_.Below(left);
      runs_.push_back({.history = rest.first(history), .tokens = rest.subspan(history, count)});
      rest = rest.subspan(history + count);
      left -= count;
    }
  }

  /// Row ids of all runs, and kDead for those of dead tokens.
  void Expect(std::uint32_t layer_id, std::vector<RowId>& ids, std::vector<RowStatus>& want) {
    const Recipe& recipe = store_.hasher().recipe();
    ids.clear();
    want.clear();
    for (const TokenRun& run : runs_) {
      std::vector<RowId> of_run(run.tokens.size() * recipe.column_count());
      std::vector<std::uint8_t> dead(run.tokens.size());
      const Status status = store_.hasher().RowIds(*recipe.FindLayer(layer_id), run, of_run, dead);
      if (!status.ok()) tally_.Wrong("RowIds: " + status.ToString());
      ids.insert(ids.end(), of_run.begin(), of_run.end());
      for (const std::uint8_t is_dead : dead) {
        want.insert(want.end(), recipe.column_count(),
                    is_dead != 0 ? RowStatus::kDead : RowStatus::kOk);
      }
    }
  }

  void LookUpRuns() {
    std::vector<std::uint32_t> layer_ids = {1, 14};
    if (prng_.Below(2) == 0) std::swap(layer_ids[0], layer_ids[1]);
    if (prng_.Below(2) == 0) layer_ids.pop_back();
    std::size_t row_count = 0;
    for (const TokenRun& run : runs_) {
      row_count += run.tokens.size() * store_.hasher().recipe().column_count();
    }
    std::vector<LayerBuffers> buffers;
    for (const std::uint32_t layer_id : layer_ids) {
      buffers.emplace_back(store_, layer_id, row_count, format_);
    }
    std::vector<LayerOutput> outputs;
    for (LayerBuffers& layer : buffers) outputs.push_back(layer.Output());
    const Status status = store_.Lookup(runs_, outputs, format_);
    bool partial = false;
    for (const LayerBuffers& layer : buffers) {
      Expect(layer.layer_id, ids_, want_);
      partial |= JudgeAll(layer);
    }
    JudgeStatus(status, partial);
  }

  void LookUpRows() {
    const std::uint32_t layer_id = prng_.Below(2) == 0 ? 1 : 14;
    Expect(layer_id, ids_, want_);
    const Recipe& recipe = store_.hasher().recipe();
    const std::uint64_t row_count = made_.info().layers[*recipe.FindLayer(layer_id)].row_count;
    if (prng_.Below(4) == 0) ids_.erase(ids_.begin());  // Groups begin elsewhere.
    for (RowId& id : ids_) {
      // Breaks its group, so that the rows around it are read one by one.
      if (prng_.Below(40) == 0) id = RowId{prng_.Below(row_count + row_count / 100)};
    }
    want_.clear();  // An id is an id: nobody knows whether its token was dead.
    for (const RowId id : ids_) {
      want_.push_back(Index(id) < row_count ? RowStatus::kOk : RowStatus::kOutOfRange);
    }
    LayerBuffers buffers(store_, layer_id, ids_.size(), format_);
    const Status status = store_.LookupRows(ids_, buffers.Output(), format_);
    JudgeStatus(status, JudgeAll(buffers));
  }

  /// Judges rows against ids_ and want_. Returns whether a row is marked as failed.
  bool JudgeAll(const LayerBuffers& buffers) {
    bool failed = false;
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      const RowStatus status = buffers.row_status[i];
      failed |= status != RowStatus::kOk && status != RowStatus::kDead;
      model_.Judge(
          buffers.layer_id, ids_[i], want_[i], status,
          std::span(buffers.rows).subspan(i * buffers.row_size_bytes, buffers.row_size_bytes),
          format_, tally_);
    }
    return failed;
  }

  void JudgeStatus(const Status& status, bool partial) {
    const StatusCode want = partial ? StatusCode::kPartial : StatusCode::kOk;
    if (status.code() != want) tally_.Wrong("the lookup says: " + status.ToString());
  }

  const MadeCheckpoint& made_;
  Store& store_;
  const RowModel& model_;
  Prng prng_;
  RowTallies tally_;
  RowOutput format_ = RowOutput::kStored;
  std::vector<std::int32_t> tokens_;
  std::vector<TokenRun> runs_;
  std::vector<RowId> ids_;
  std::vector<RowStatus> want_;
};

struct Case {
  const char* name;
  DeviceEngine engine;
  ScalePlacement scales;
  bool flips;
};

FaultOptions DrawFaults(const MadeCheckpoint& made, bool flips, Prng& prng) {
  FaultOptions faults{.seed = prng(),
                      .io_error = 0.02 + 0.3 * prng.Unit(),
                      .no_data = 0.01 * prng.Unit(),
                      .bit_flip = flips ? 0.01 : 0,
                      .delay = 0.1 * prng.Unit(),
                      .delay_runs_max = static_cast<std::uint32_t>(1 + prng.Below(8)),
                      .reorder = true};
  for (const LayerTable& layer : made.info().layers) {
    for (const RowPart& part : layer.parts) {
      const RowExtent& extent = part.extents[0];
      const std::uint64_t size_bytes = extent.row_count * part.size_bytes;
      for (int i = 0; i < 4; ++i) {
        faults.bad_ranges.push_back({.file_index = extent.file_index,
                                     .offset_bytes = extent.offset_bytes + prng.Below(size_bytes),
                                     .size_bytes = 1 + prng.Below(size_bytes / 200)});
      }
    }
  }
  return faults;
}

StoreOptions DrawOptions(ScalePlacement scales, Prng& prng) {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{16} << 20;
  options.io_thread_count = static_cast<std::uint32_t>(1 + prng.Below(3));
  options.queue_depth = static_cast<std::uint32_t>(1 + prng.Below(64));
  options.read_attempts_max = static_cast<std::uint32_t>(1 + prng.Below(4));
  options.scales = scales;
  options.log = [](std::string_view /*line*/) {};
  return options;
}

class StoreModelTest : public ::testing::TestWithParam<Case> {
 protected:
  /// Opens a store over io_uring or pread, faults and the witness. Null, and skips, where
  /// there is no io_uring.
  std::unique_ptr<Store> Open(const StoreOptions& options, const FaultOptions& faults,
                              bool direct) {
    Result<std::unique_ptr<Store>> store = OpenStoreOn(
        made_.info(), options,
        [&](const std::vector<std::string>& paths, DeviceOptions device) -> Result<OpenedDevice> {
          device.direct = direct;
          auto base = GetParam().engine == DeviceEngine::kUring ? OpenUringDevice(paths, device)
                                                                : OpenPreadDevice(paths, device);
          if (!base.ok()) return std::move(base).TakeStatus();
          auto faulty = std::make_unique<FaultDevice>(std::move(base).value(), faults);
          faults_ = faulty.get();
          return OpenedDevice{.device = std::make_unique<WitnessDevice>(std::move(faulty), *log_),
                              .fallback_reason = ""};
        });
    if (store.ok()) return std::move(store).value();
    skip_reason_ = store.status().ToString();
    if (store.status().code() != StatusCode::kUnavailable) ADD_FAILURE() << skip_reason_;
    return nullptr;
  }

  static void RunThreads(const MadeCheckpoint& made, Store& store, const RowModel& model,
                         std::uint64_t seed, RowTallies& tally) {
    std::vector<Client> clients;
    for (std::uint32_t t = 0; t < kThreads; ++t) clients.emplace_back(made, store, model, seed + t);
    std::vector<std::thread> threads;
    for (Client& client : clients) {
      threads.emplace_back([&client] {
        for (std::uint32_t i = 0; i < kBatchesOfThread; ++i) client.LookUpOnce();
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const Client& client : clients) tally.Add(client.tally());
  }

  /// Sizes a store so that its cache has about 1 MiB: 500 groups, and groups are evicted.
  /// A budget cannot be below 16 MiB, so its queues are deep enough to take the rest.
  void LeaveLittleForTheCache(StoreOptions& options, bool direct) {
    options.io_thread_count = 2;
    options.queue_depth = 2048;
    options.dram_budget_bytes = std::uint64_t{120} << 20;
    const std::unique_ptr<Store> store = Open(options, FaultOptions{}, direct);
    if (store == nullptr) return;
    const StoreStats stats = store->Stats();
    options.dram_budget_bytes = std::max(std::uint64_t{16} << 20,
                                         stats.read_buffer_bytes + stats.ticket_bytes +
                                             stats.resident_scale_bytes + (std::uint64_t{3} << 19));
  }

  /// One store, from opening to closing. Adds up what happened.
  void RunWorld(std::uint32_t world, Prng& prng) {
    const FaultOptions faults = DrawFaults(made_, GetParam().flips, prng);
    StoreOptions options = DrawOptions(GetParam().scales, prng);
    WitnessLog log(truth_);
    log_ = &log;
    // Through the page cache but once: what is tested is the store, not the disk.
    const bool direct = world == 0;
    if (world % 2 == 0) LeaveLittleForTheCache(options, direct);
    const std::unique_ptr<Store> store = Open(options, faults, direct);
    if (store == nullptr) return;
    const RowModel model(made_, log, faults, GetParam().scales);
    RunThreads(made_, *store, model, prng(), tally_);
    const FaultCounts counts = faults_->counts();
    EXPECT_EQ(log.wrong_reads(), counts.bit_flips);  // The log missed none.
    seen_.reads += counts.reads;
    seen_.io_errors += counts.io_errors;
    seen_.no_data += counts.no_data;
    seen_.bit_flips += counts.bit_flips;
    seen_.delays += counts.delays;
    seen_.reorders += counts.reorders;
    seen_.bad_range_errors += counts.bad_range_errors;
    const StoreStats stats = store->Stats();
    retries_ += stats.device_read_retries;
    failures_ += stats.device_read_failures;
    joined_ += Sum(stats, &OrderStats::joined);
    hits_ += Sum(stats, &OrderStats::dram_hits);
    evictions_ += Sum(stats, &OrderStats::cache_evictions);
    EXPECT_EQ(Sum(stats, &OrderStats::groups), Sum(stats, &OrderStats::dram_hits) +
                                                   Sum(stats, &OrderStats::joined) +
                                                   Sum(stats, &OrderStats::fetches));
  }

  static std::uint64_t Sum(const StoreStats& stats, std::uint64_t OrderStats::*counter) {
    std::uint64_t sum = 0;
    for (const OrderStats& order : stats.orders) sum += order.*counter;
    return sum;
  }

  const MadeCheckpoint made_{MadeCheckpoint::Options{}};
  FileBytes truth_ = [this] {
    std::vector<std::string> paths;
    for (const TableFile& file : made_.info().files) paths.push_back(file.path);
    return testing::ReadFiles(paths);
  }();
  WitnessLog* log_ = nullptr;      // Of the world under way.
  FaultDevice* faults_ = nullptr;  // The store's.
  std::string skip_reason_;
  RowTallies tally_;
  FaultCounts seen_;
  std::uint64_t retries_ = 0;
  std::uint64_t failures_ = 0;
  std::uint64_t joined_ = 0;
  std::uint64_t hits_ = 0;
  std::uint64_t evictions_ = 0;
};

TEST_P(StoreModelTest, EveryRowIsTrueOrMarkedAsTheDeviceSaid) {
  const std::uint64_t seed = Seed();
  SCOPED_TRACE(fmt::format("TIERCEL_TEST_SEED={}", seed));
  Prng prng(seed);
  for (std::uint32_t world = 0; world < kWorlds; ++world) {
    SCOPED_TRACE(fmt::format("world {}", world));
    RunWorld(world, prng);
    if (!skip_reason_.empty()) GTEST_SKIP() << "no io_uring here: " << skip_reason_;
    ASSERT_EQ(tally_.wrong, 0U) << tally_.first_wrong;
  }
  fmt::print(
      "{} batches; rows: {} right, {} with bits flipped, {} I/O errors, {} corrupt, {} dead, {} "
      "out "
      "of range; reads: {}, EIO {}, bad for ever {}, ENODATA {}, flips {}, delays {}, reorders {}; "
      "retries {}, hits {}, joined {}, evictions {}\n",
      tally_.batches, tally_.right, tally_.flipped, tally_.io_error, tally_.corruption, tally_.dead,
      tally_.out_of_range, seen_.reads, seen_.io_errors, seen_.bad_range_errors, seen_.no_data,
      seen_.bit_flips, seen_.delays, seen_.reorders, retries_, hits_, joined_, evictions_);
  // A test of faults that met none would pass for the wrong reason.
  EXPECT_EQ(tally_.batches, kWorlds * kThreads * kBatchesOfThread);
  EXPECT_GT(tally_.right, 0U);
  EXPECT_GT(tally_.io_error, 0U);
  EXPECT_GT(tally_.corruption, 0U);
  EXPECT_GT(tally_.dead, 0U);
  EXPECT_GT(tally_.out_of_range, 0U);
  EXPECT_EQ(tally_.flipped > 0, GetParam().flips);
  EXPECT_GT(seen_.io_errors, 0U);
  EXPECT_GT(seen_.bad_range_errors, 0U);
  EXPECT_GT(seen_.no_data, 0U);
  EXPECT_EQ(seen_.bit_flips > 0, GetParam().flips);
  EXPECT_GT(seen_.delays, 0U);
  EXPECT_GT(seen_.reorders, 0U);
  EXPECT_GT(retries_, 0U);
  EXPECT_GT(failures_, 0U);
  EXPECT_GT(hits_, 0U);
  EXPECT_GT(joined_, 0U);
  EXPECT_GT(evictions_, 0U);
}

constexpr Case kCases[] = {
    {"UringScalesOnDisk", DeviceEngine::kUring, ScalePlacement::kDisk, false},
    {"UringScalesResident", DeviceEngine::kUring, ScalePlacement::kResident, false},
    {"UringScalesOnDiskFlips", DeviceEngine::kUring, ScalePlacement::kDisk, true},
    {"UringScalesResidentFlips", DeviceEngine::kUring, ScalePlacement::kResident, true},
    {"PreadScalesOnDisk", DeviceEngine::kPread, ScalePlacement::kDisk, false},
    {"PreadScalesResident", DeviceEngine::kPread, ScalePlacement::kResident, false},
    {"PreadScalesOnDiskFlips", DeviceEngine::kPread, ScalePlacement::kDisk, true},
    {"PreadScalesResidentFlips", DeviceEngine::kPread, ScalePlacement::kResident, true},
};
static_assert(std::size(kCases) * kWorlds * kThreads * kBatchesOfThread >= 10'000);

INSTANTIATE_TEST_SUITE_P(Engines, StoreModelTest, ::testing::ValuesIn(kCases),
                         [](const ::testing::TestParamInfo<Case>& test) {
                           return std::string(test.param.name);
                         });

}  // namespace
}  // namespace tiercel
