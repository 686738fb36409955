// A real token trace through the whole: HBM, DRAM and disk; the same with no HBM cache; and
// the table of a made checkpoint, all of it pinned and read row by row over PCIe, as engines
// do whose host has the memory.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench/gpu/report.h"
#include "tiercel/cuda.h"
#include "tiercel/store.h"
#include "tiercel/synthetic.h"

namespace tiercel::bench {
namespace {

constexpr std::uint32_t kBatchTokens = 256;
constexpr std::uint32_t kInFlight = 4;
constexpr std::uint32_t kHistory = 3;

void MustBe(const Status& status) {
  if (!status.ok()) Check(cudaErrorUnknown, status.ToString().c_str());
}

std::vector<std::int32_t> ReadTrace(const GpuBenchOptions& options) {
  std::ifstream file(options.trace, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<std::int32_t> tokens(std::min<std::uint64_t>(bytes.size() / 4, options.trace_tokens));
  std::copy_n(bytes.data(), tokens.size() * 4, reinterpret_cast<char*>(tokens.data()));
  tokens.resize(tokens.size() / kBatchTokens * kBatchTokens);
  return tokens;
}

TokenRun BatchOf(const std::vector<std::int32_t>& tokens, std::size_t first) {
  const std::span<const std::int32_t> all = tokens;
  const std::size_t history = std::min<std::size_t>(first, kHistory);
  return {.history = all.subspan(first - history, history),
          .tokens = all.subspan(first, kBatchTokens)};
}

std::unique_ptr<Store> OpenStoreFor(const GpuBenchOptions& options, const std::string& map) {
  StoreOptions store_options;
  store_options.dram_budget_bytes = options.dram_budget_bytes;
  store_options.prefetch.tokens_max = std::uint64_t{1} << 20;
  if (!map.empty()) {
    Result<TokenMap> loaded = TokenMap::Load(map);
    MustBe(loaded.ok() ? Status() : std::move(loaded).TakeStatus());
    store_options.token_map = std::make_shared<const TokenMap>(std::move(loaded).value());
  }
  Result<std::unique_ptr<Store>> store = Store::Open(options.checkpoint, store_options);
  if (!store.ok()) MustBe(std::move(store).TakeStatus());
  return std::move(store).value();
}

/// Outputs of the batches in flight: device memory, a set each.
class Outputs {
 public:
  explicit Outputs(const Store& store) {
    for (std::uint32_t i = 0; i < kInFlight; ++i) {
      sets_.emplace_back();
      for (const LayerTable& layer : store.checkpoint().layers) {
        void* memory = nullptr;
        const std::uint64_t bytes = std::uint64_t{kBatchTokens} *
                                    store.hasher().recipe().column_count() *
                                    layer.shape.value_count * 2;
        Check(cudaMalloc(&memory, bytes), "outputs");
        sets_.back().push_back(
            {.layer_id = layer.layer_id, .rows = static_cast<std::byte*>(memory)});
      }
    }
  }
  ~Outputs() {
    for (auto& set : sets_) {
      for (const HbmOutput& output : set) (void)cudaFree(output.rows);
    }
  }
  Outputs(const Outputs&) = delete;
  Outputs& operator=(const Outputs&) = delete;
  [[nodiscard]] const std::vector<HbmOutput>& operator[](std::size_t i) const {
    return sets_[i % kInFlight];
  }

 private:
  std::vector<std::vector<HbmOutput>> sets_;
};

/// Sums over layers and orders.
struct TierCounts {
  std::uint64_t groups = 0;
  std::uint64_t hits = 0;
  std::uint64_t staged = 0;
  std::uint64_t device_reads = 0;

  static TierCounts Of(HbmTier& tier, const Store& store) {
    TierCounts counts;
    for (const HbmOrderStats& order : tier.Stats().orders) {
      counts.groups += order.groups;
      counts.hits += order.hits;
      counts.staged += order.staged;
    }
    counts.device_reads = store.Stats().device_reads;
    return counts;
  }
  friend TierCounts operator-(const TierCounts& a, const TierCounts& b) {
    return {.groups = a.groups - b.groups,
            .hits = a.hits - b.hits,
            .staged = a.staged - b.staged,
            .device_reads = a.device_reads - b.device_reads};
  }
};

/// Batches through the tier, kInFlight of them at a time.
class TierReplay {
 public:
  TierReplay(HbmTier& tier, const Store& store) : tier_(tier), outputs_(store) {
    Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  }
  ~TierReplay() { (void)cudaStreamDestroy(stream_); }
  TierReplay(const TierReplay&) = delete;
  TierReplay& operator=(const TierReplay&) = delete;

  /// Tokens [begin, end), and their end on the device. Returns seconds.
  double Run(const std::vector<std::int32_t>& tokens, std::size_t begin, std::size_t end) {
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t first = begin; first < end; first += kBatchTokens) {
      if (flights_.size() == kInFlight) Finish();
      const TokenRun run = BatchOf(tokens, first);
      Result<HbmTicket> ticket =
          tier_.StartOnStream({&run, 1}, outputs_[first / kBatchTokens], stream_);
      if (!ticket.ok()) MustBe(std::move(ticket).TakeStatus());
      cudaEvent_t event = nullptr;
      Check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
      Check(cudaEventRecord(event, stream_), "cudaEventRecord");
      flights_.emplace_back(std::move(ticket).value(), event);
    }
    while (!flights_.empty()) Finish();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  void Finish() {
    Check(cudaEventSynchronize(flights_.front().second), "the end of a batch");
    Check(cudaEventDestroy(flights_.front().second), "cudaEventDestroy");
    flights_.pop_front();
  }

  HbmTier& tier_;
  const Outputs outputs_;
  cudaStream_t stream_ = nullptr;
  std::deque<std::pair<HbmTicket, cudaEvent_t>> flights_;
};

/// The trace's first half warms, the second is measured.
void ReplayTier(const char* name, const GpuBenchOptions& options, std::uint64_t hbm_bytes,
                Store& store, const std::vector<std::int32_t>& tokens, Report& report) {
  HbmOptions hbm;
  hbm.hbm_budget_bytes = hbm_bytes;
  hbm.staging_bytes = std::uint64_t{256} << 20;
  hbm.tokens_max = kBatchTokens;
  hbm.tickets_max = kInFlight + 1;
  Result<std::unique_ptr<HbmTier>> tier = HbmTier::Open(store, hbm);
  if (!tier.ok()) MustBe(std::move(tier).TakeStatus());
  TierReplay replay(*tier.value(), store);
  const std::size_t middle = tokens.size() / 2 / kBatchTokens * kBatchTokens;
  const double warm_seconds = replay.Run(tokens, 0, middle);
  const TierCounts before = TierCounts::Of(*tier.value(), store);
  const double seconds = replay.Run(tokens, middle, tokens.size());
  const TierCounts counts = TierCounts::Of(*tier.value(), store) - before;
  const auto count = static_cast<double>(tokens.size() - middle);
  const std::uint32_t slot_bytes = tier.value()->Stats().slot_size_bytes;
  report.Add(
      "trace_replay",
      {{"how", name},
       {"warm_tokens", middle},
       {"warm_tokens_per_s", static_cast<double>(middle) / warm_seconds},
       {"tokens", tokens.size() - middle},
       {"hbm_bytes", hbm_bytes},
       {"dram_bytes", options.dram_budget_bytes},
       {"tokens_per_s", count / seconds},
       {"pcie_bytes_per_token", static_cast<double>(counts.staged * slot_bytes) / count},
       {"hbm_hit_rate", static_cast<double>(counts.hits) / static_cast<double>(counts.groups)},
       {"device_reads_per_token", static_cast<double>(counts.device_reads) / count}});
}

/// All rows of a layer in pinned memory, as the generator makes them.
std::byte* PinTable(const Store& store, std::size_t layer_index) {
  const LayerTable& layer = store.checkpoint().layers[layer_index];
  const std::uint32_t row_size = layer.shape.row_size_bytes();
  void* memory = nullptr;
  Check(cudaHostAlloc(&memory, layer.row_count * row_size, cudaHostAllocMapped), "pinned table");
  auto* const table = static_cast<std::byte*>(memory);
  const unsigned thread_count = std::max(std::thread::hardware_concurrency(), 1U);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < thread_count; ++t) {
    threads.emplace_back([&, t] {
      for (std::uint64_t row = t; row < layer.row_count; row += thread_count) {
        SyntheticRow(*store.checkpoint().synthetic_seed, layer.layer_id, RowId{row}, layer.shape,
                     {table + row * row_size, row_size});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return table;
}

void ReplayPinned(const Store& store, const std::vector<std::int32_t>& tokens, Report& report) {
  const std::size_t layer_count = store.checkpoint().layers.size();
  const std::uint32_t columns = store.hasher().recipe().column_count();
  const std::uint32_t row_size = store.checkpoint().layers[0].shape.row_size_bytes();
  std::vector<std::byte*> tables;
  for (std::size_t i = 0; i < layer_count; ++i) tables.push_back(PinTable(store, i));
  const Outputs outputs(store);
  const std::uint64_t rows_per_batch = std::uint64_t{kBatchTokens} * columns;
  void* memory = nullptr;
  Check(cudaHostAlloc(&memory, kInFlight * layer_count * rows_per_batch * 4, cudaHostAllocMapped),
        "row numbers");
  auto* const numbers = static_cast<std::uint32_t*>(memory);
  std::vector<RowId> rows(rows_per_batch);
  cudaStream_t stream = nullptr;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  std::vector<cudaEvent_t> events(kInFlight);
  for (cudaEvent_t& event : events) {
    Check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreate");
  }
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t batch = 0; batch * kBatchTokens < tokens.size(); ++batch) {
    const cudaEvent_t event = events[batch % kInFlight];
    Check(cudaEventSynchronize(event), "the end of a batch");
    for (std::uint32_t layer = 0; layer < layer_count; ++layer) {
      MustBe(store.hasher().RowIds(layer, BatchOf(tokens, batch * kBatchTokens), rows, {}));
      std::uint32_t* const at =
          numbers + (batch % kInFlight * layer_count + layer) * rows_per_batch;
      for (std::uint64_t i = 0; i < rows_per_batch; ++i) {
        at[i] = static_cast<std::uint32_t>(Index(rows[i]));
      }
      LaunchRowGather(tables[layer], at, rows_per_batch, row_size, outputs[batch][layer].rows,
                      stream);
    }
    Check(cudaEventRecord(event, stream), "cudaEventRecord");
  }
  Check(cudaStreamSynchronize(stream), "the end of the replay");
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  report.Add("trace_replay",
             {{"how", "table_pinned"},
              {"tokens", tokens.size()},
              {"tokens_per_s", static_cast<double>(tokens.size()) / seconds.count()},
              {"pcie_bytes_per_token", layer_count * columns * row_size}});
  for (const cudaEvent_t event : events) Check(cudaEventDestroy(event), "cudaEventDestroy");
  Check(cudaStreamDestroy(stream), "cudaStreamDestroy");
  Check(cudaFreeHost(memory), "cudaFreeHost");
  for (std::byte* const table : tables) Check(cudaFreeHost(table), "cudaFreeHost");
}

}  // namespace

void BenchTraceReplay(const GpuBenchOptions& options, Report& report) {
  if (options.checkpoint.empty() || options.trace.empty()) {
    report.Add("trace_replay", {{"left_out", "no --checkpoint or no --trace"}});
    return;
  }
  const std::vector<std::int32_t> tokens = ReadTrace(options);
  if (tokens.empty()) MustBe(Status(StatusCode::kNotFound, "no tokens in " + options.trace));
  // A store each: both begin with DRAM that holds nothing.
  {
    const std::unique_ptr<Store> store = OpenStoreFor(options, options.token_map);
    ReplayTier("hbm_dram_disk", options, options.hbm_budget_bytes, *store, tokens, report);
  }
  const std::unique_ptr<Store> store = OpenStoreFor(options, options.token_map);
  ReplayTier("dram_disk", options, std::uint64_t{16} * 4096, *store, tokens, report);
  ReplayPinned(*store, tokens, report);
}

}  // namespace tiercel::bench
