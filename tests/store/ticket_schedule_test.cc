// Goal: whatever is started, waited for, promoted, cancelled and dropped around it, a
// ticket that ends well has the bytes that the generator says, marks what its device
// broke, and writes nothing after its end. 10,000 seeded schedules.
//
// Method: four threads, each with a few tickets at a time of random shape, urgency and
// destination, take random steps on one store over a FaultDevice and a WitnessDevice.
// The model of a row is its generator and the witness' log (row_model.h). A destination
// that was given back is filled with a pattern, which must still be there when it is
// used again. TIERCEL_TEST_SEED=<seed> repeats the choices, though not the order of the
// threads.

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
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

using testing::FaultDevice;
using testing::FaultOptions;
using testing::FileBytes;
using testing::MadeCheckpoint;
using testing::RowModel;
using testing::RowTallies;
using testing::WitnessDevice;
using testing::WitnessLog;

constexpr std::uint32_t kThreads = 4;
constexpr std::uint32_t kWorlds = 10;              // Stores, each of another shape.
constexpr std::uint32_t kSchedulesOfThread = 250;  // 10 * 4 * 250 = 10,000.
constexpr std::byte kPattern{0xC5};

std::uint64_t Seed() {
  const char* const text = std::getenv("TIERCEL_TEST_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 1;
}

/// What happened, so that the test can ask whether all kinds of ends were seen.
struct Ends {
  std::uint64_t waited = 0;
  std::uint64_t cancelled = 0;
  std::uint64_t dropped = 0;
  std::uint64_t refused = 0;
  std::uint64_t callbacks = 0;
};

/// One thread's tickets: each schedule starts one, steps at random on all, and ends when
/// that one has been waited for, cancelled or dropped.
class Client {
 public:
  Client(const MadeCheckpoint& made, Store& store, const RowModel& model, std::uint64_t seed)
      : made_(made), store_(store), model_(model), prng_(seed) {
    for (Flight& flight : flights_) flight.memory.resize(kMemoryBytes, kPattern);
  }

  void RunSchedule() {
    Flight& flight = flights_[prng_.Below(std::size(flights_))];
    if (flight.ticket.valid()) End(flight);
    Begin(flight);
    for (std::uint64_t steps = prng_.Below(4); steps > 0; --steps) {
      Step(flights_[prng_.Below(std::size(flights_))]);
    }
  }
  void EndAll() {
    for (Flight& flight : flights_) {
      if (flight.ticket.valid()) End(flight);
    }
  }

  [[nodiscard]] const RowTallies& tally() const noexcept { return tally_; }
  [[nodiscard]] const Ends& ends() const noexcept { return ends_; }

 private:
  /// 2 layers of 20 tokens of 24 rows of at most 512 B, 14 B apart.
  static constexpr std::size_t kMemoryBytes = std::size_t{2} * 20 * 24 * 528;
  static constexpr std::uint32_t kLayers[] = {1, 14};

  /// A ticket and where its rows go.
  struct Flight {
    Ticket ticket;
    std::vector<std::int32_t> tokens;
    std::vector<TokenRun> runs;
    std::vector<std::uint32_t> layer_ids;
    RowOutput format = RowOutput::kStored;
    bool staged = false;
    std::vector<std::byte> memory;  ///< All layers', kPattern while nobody may write.
    std::vector<RowStatus> row_status[2];
    std::atomic<std::uint32_t> callbacks = 0;
  };

  void DrawTokens(Flight& flight) {
    // Now and then too many for Start() to look for itself.
    const std::size_t token_count = prng_.Below(8) == 0 ? 12 + prng_.Below(8) : 1 + prng_.Below(4);
    flight.tokens = made_.RandomTokens(prng_.Below(200), token_count + 3);
    for (std::int32_t& token : flight.tokens) {
      if (prng_.Below(20) == 0) token = kDeadToken;
    }
    flight.runs = {{.history = std::span(flight.tokens).first(3),
                    .tokens = std::span(flight.tokens).subspan(3)}};
  }

  void Begin(Flight& flight) {
    // Every byte is the first one, by a function that sanitizers leave fast.
    if (flight.memory[0] != kPattern ||
        std::memcmp(flight.memory.data(), flight.memory.data() + 1, kMemoryBytes - 1) != 0) {
      tally_.Wrong("something was written after the end of a ticket");
    }
    DrawTokens(flight);
    flight.format = prng_.Below(2) == 0 ? RowOutput::kStored : RowOutput::kBf16;
    flight.staged = prng_.Below(4) == 0;
    flight.layer_ids = {std::begin(kLayers), std::end(kLayers)};
    if (prng_.Below(2) == 0) std::swap(flight.layer_ids[0], flight.layer_ids[1]);
    if (prng_.Below(3) == 0) flight.layer_ids.pop_back();
    flight.callbacks = 0;
    const std::size_t row_count = flight.runs[0].tokens.size() * ColumnCount();
    std::vector<PrefetchLayer> layers;
    std::span<std::byte> room = flight.memory;
    for (std::size_t i = 0; i < flight.layer_ids.size(); ++i) {
      PrefetchLayer layer{.layer_id = flight.layer_ids[i],
                          .needed_after = std::chrono::microseconds(prng_.Below(1000))};
      if (!flight.staged) {
        const std::size_t row_bytes = RowBytes(flight, i);
        layer.row_stride_bytes = prng_.Below(2) == 0 ? 0 : row_bytes + 2 * prng_.Below(8);
        const std::size_t stride = std::max(layer.row_stride_bytes, row_bytes);
        layer.rows = room.first((row_count - 1) * stride + row_bytes);
        room = room.subspan(layer.rows.size() + layer.rows.size() % 2);
        flight.row_status[i].assign(row_count, RowStatus::kOutOfRange);
        layer.row_status = flight.row_status[i];
      }
      layers.push_back(layer);
    }
    const PrefetchOptions options{
        .format = flight.format,
        .urgency = prng_.Below(3) == 0 ? Urgency::kBackground : Urgency::kDeadline,
        .hits = prng_.Below(4) == 0 ? HitCopy::kDeferred : HitCopy::kInStart,
        .on_layer = [&flight](std::uint32_t, StatusCode) { ++flight.callbacks; }};
    Result<Ticket> ticket = store_.Start(flight.runs, layers, options);
    if (ticket.ok()) {
      flight.ticket = std::move(ticket).value();
    } else if (ticket.status().code() == StatusCode::kResourceExhausted) {
      ++ends_.refused;
    } else {
      tally_.Wrong("Start() says: " + ticket.status().ToString());
    }
    ++tally_.batches;
  }

  void Step(Flight& flight) {
    if (!flight.ticket.valid()) return;
    const std::uint32_t layer_id = flight.layer_ids[prng_.Below(flight.layer_ids.size())];
    switch (prng_.Below(6)) {
      case 0:
        End(flight);
        break;
      case 1:
        flight.ticket.Promote();
        break;
      case 2:
        Judge(flight, flight.ticket.TryWait(layer_id), layer_id);
        break;
      case 3:
        Judge(flight, flight.ticket.WaitFor(layer_id, std::chrono::microseconds(20)), layer_id);
        break;
      default:
        Judge(flight, flight.ticket.Wait(layer_id), layer_id);
        break;
    }
  }

  /// Waits for the ticket, cancels it, or just drops it; then nobody may write any more.
  void End(Flight& flight) {
    switch (prng_.Below(3)) {
      case 0:
        for (const std::uint32_t layer_id : flight.layer_ids) {
          Judge(flight, flight.ticket.Wait(layer_id), layer_id);
        }
        ++ends_.waited;
        break;
      case 1:
        flight.ticket.Cancel();
        // What came in place before stays so.
        for (const std::uint32_t layer_id : flight.layer_ids) {
          Judge(flight, flight.ticket.Wait(layer_id), layer_id);
        }
        ++ends_.cancelled;
        break;
      default:
        ++ends_.dropped;
        break;
    }
    flight.ticket = Ticket();
    if (flight.callbacks > flight.layer_ids.size()) tally_.Wrong("a layer was announced twice");
    ends_.callbacks += flight.callbacks;
    std::memset(flight.memory.data(), static_cast<int>(kPattern), kMemoryBytes);
  }

  void Judge(Flight& flight, std::optional<Status> outcome, std::uint32_t layer_id) {
    if (!outcome.has_value() || outcome->code() == StatusCode::kCancelled) return;
    if (!outcome->ok() && outcome->code() != StatusCode::kPartial) {
      tally_.Wrong("a wait says: " + outcome->ToString());
      return;
    }
    const Result<TicketRows> rows = flight.ticket.Rows(layer_id);
    const std::size_t row_count = flight.runs[0].tokens.size() * ColumnCount();
    std::vector<RowId> ids(row_count);
    std::vector<std::uint8_t> dead(flight.runs[0].tokens.size());
    const Recipe& recipe = store_.hasher().recipe();
    const Status hashed =
        store_.hasher().RowIds(*recipe.FindLayer(layer_id), flight.runs[0], ids, dead);
    if (!hashed.ok() || !rows.ok()) return tally_.Wrong("no rows to judge");
    const std::size_t slot = flight.layer_ids[0] == layer_id ? 0 : 1;
    bool failed = false;
    for (std::size_t i = 0; i < row_count; ++i) {
      const RowStatus status = rows.value().row_status[i];
      failed |= status != RowStatus::kOk && status != RowStatus::kDead;
      model_.Judge(
          layer_id, ids[i], dead[i / ColumnCount()] != 0 ? RowStatus::kDead : RowStatus::kOk,
          status,
          rows.value().rows.subspan(i * rows.value().row_stride_bytes, RowBytes(flight, slot)),
          flight.format, tally_);
    }
    if (failed == outcome->ok()) tally_.Wrong("the outcome does not fit its rows");
  }

  [[nodiscard]] std::size_t ColumnCount() const { return made_.info().recipe.column_count(); }
  [[nodiscard]] std::size_t RowBytes(const Flight& flight, std::size_t slot) const {
    return store_.OutputRowSizeBytes(flight.layer_ids[slot], flight.format).value();
  }

  const MadeCheckpoint& made_;
  Store& store_;
  const RowModel& model_;
  Prng prng_;
  RowTallies tally_;
  Ends ends_;
  Flight flights_[3];
};

class TicketScheduleTest : public ::testing::TestWithParam<DeviceEngine> {
 protected:
  std::unique_ptr<Store> Open(const StoreOptions& options, const FaultOptions& faults,
                              WitnessLog& log) {
    Result<std::unique_ptr<Store>> store = OpenStoreOn(
        made_.info(), options,
        [&](const std::vector<std::string>& paths, DeviceOptions device) -> Result<OpenedDevice> {
          device.direct = false;  // What is tested is the store, not the disk.
          auto base = GetParam() == DeviceEngine::kUring ? OpenUringDevice(paths, device)
                                                         : OpenPreadDevice(paths, device);
          if (!base.ok()) return std::move(base).TakeStatus();
          auto faulty = std::make_unique<FaultDevice>(std::move(base).value(), faults);
          return OpenedDevice{.device = std::make_unique<WitnessDevice>(std::move(faulty), log),
                              .fallback_reason = ""};
        });
    if (store.ok()) return std::move(store).value();
    skip_reason_ = store.status().ToString();
    if (store.status().code() != StatusCode::kUnavailable) ADD_FAILURE() << skip_reason_;
    return nullptr;
  }

  void RunWorld(std::uint64_t seed) {
    Prng prng(seed);
    const FaultOptions faults{.seed = prng(),
                              .io_error = 0.02 * static_cast<double>(prng.Below(4)),
                              .no_data = 0.002,
                              .delay = 0.1,
                              .reorder = true};
    StoreOptions options;
    options.dram_budget_bytes = std::uint64_t{24} << 20;
    options.io_thread_count = static_cast<std::uint32_t>(1 + prng.Below(2));
    options.queue_depth = static_cast<std::uint32_t>(1 + prng.Below(32));
    options.scales = prng.Below(2) == 0 ? ScalePlacement::kDisk : ScalePlacement::kResident;
    options.prefetch = {.tickets_max = static_cast<std::uint32_t>(8 + prng.Below(8)),
                        .tokens_max = 64,
                        .staging_bytes = std::uint64_t{1} << 20,
                        .start_groups_max = 64};
    options.log = [](std::string_view /*line*/) {};
    WitnessLog log(truth_);
    std::unique_ptr<Store> store = Open(options, faults, log);
    if (store == nullptr) return;
    const RowModel model(made_, log, faults, options.scales);
    std::vector<std::unique_ptr<Client>> clients;
    for (std::uint32_t i = 0; i < kThreads; ++i) {
      clients.push_back(std::make_unique<Client>(made_, *store, model, prng()));
    }
    std::vector<std::thread> threads;
    for (const auto& client : clients) {
      threads.emplace_back([&client] {
        for (std::uint32_t i = 0; i < kSchedulesOfThread; ++i) client->RunSchedule();
        client->EndAll();
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const auto& client : clients) {
      tally_.Add(client->tally());
      ends_.waited += client->ends().waited;
      ends_.cancelled += client->ends().cancelled;
      ends_.dropped += client->ends().dropped;
      ends_.refused += client->ends().refused;
      ends_.callbacks += client->ends().callbacks;
    }
    EXPECT_EQ(store->Stats().tickets, 0U);
  }

  const MadeCheckpoint made_{MadeCheckpoint::Options{}};
  FileBytes truth_ = [this] {
    std::vector<std::string> paths;
    for (const TableFile& file : made_.info().files) paths.push_back(file.path);
    return testing::ReadFiles(paths);
  }();
  std::string skip_reason_;
  RowTallies tally_;
  Ends ends_;
};

TEST_P(TicketScheduleTest, TicketsTellTheTruthUnderEverySchedule) {
  for (std::uint32_t world = 0; world < kWorlds / 2 && skip_reason_.empty(); ++world) {
    SCOPED_TRACE(::testing::Message() << "seed " << Seed() + world);
    RunWorld(Seed() + world);
  }
  if (!skip_reason_.empty()) GTEST_SKIP() << skip_reason_;
  EXPECT_EQ(tally_.wrong, 0U) << tally_.first_wrong;
  EXPECT_EQ(tally_.batches, kWorlds / 2 * kThreads * kSchedulesOfThread);
  EXPECT_GT(tally_.right, 0U);
  EXPECT_GT(tally_.io_error, 0U);  // Faults happened, and were marked.
  EXPECT_GT(tally_.dead, 0U);
  EXPECT_GT(ends_.waited, 0U);
  EXPECT_GT(ends_.cancelled, 0U);
  EXPECT_GT(ends_.dropped, 0U);
  EXPECT_GT(ends_.refused, 0U);
  EXPECT_GT(ends_.callbacks, 0U);
}

INSTANTIATE_TEST_SUITE_P(Engines, TicketScheduleTest,
                         ::testing::Values(DeviceEngine::kUring, DeviceEngine::kPread),
                         [](const auto& test) {
                           return test.param == DeviceEngine::kUring ? "Uring" : "Pread";
                         });

}  // namespace
}  // namespace tiercel
