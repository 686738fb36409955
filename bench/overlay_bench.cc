// What updated rows cost those who look rows up. Each arm by a store that knows of no state
// (none), and by one of the same table with one row in 1,000 updated (overlaid):
//
//   hits    64 tokens, two layers, all groups in DRAM. Goal: 1.03 of none at most.
//   misses  512 fresh tokens, two layers, nearly no group in DRAM: 24,576 rows from disk.
//           Goal: 1.03 of none at most.
//   update  64 rows of one layer, made durable and visible: with the sweep of the cache.
//
// CPU is that of the whole process, I/O threads included: it tells what merging costs where
// the disk decides the time. The arms of one run are compared, best with
// --benchmark_enable_random_interleaving=true
// --benchmark_repetitions=9: a shared disk is not the same from minute to minute. The counter
// merged tells the updated rows a look-up delivered from the overlay. The table is made in the
// folder for temporary files and has 1/1000 of DeepSeek-V4.1-Flash's rows.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/prng.h"
#include "tiercel/store.h"
#include "tiercel/synthetic.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kLayers[] = {1, 14};
constexpr std::size_t kColumns = 24;
constexpr std::size_t kRowBytes = 264;
constexpr std::size_t kHotTokens = 64;
constexpr std::size_t kColdTokens = 512;
constexpr std::uint64_t kRowsAnUpdate = 1000;  // One row in so many is updated.

/// A made table and its stores, removed at the end.
class Stores {
 public:
  Stores() : folder_(std::filesystem::temp_directory_path() / "tiercel_overlay_bench.XXXXXX") {
    if (mkdtemp(folder_.data()) == nullptr) std::exit(1);
    const std::string path = folder_ + "/checkpoint";
    if (!MakeCheckpoint({.shrink = 1000, .out_dir = path, .tables_only = true}).ok()) std::exit(1);
    for (const bool overlaid : {false, true}) {
      StoreOptions options;
      options.dram_budget_bytes = std::uint64_t{64} << 20;
      options.updates = overlaid ? Updates::kReadWrite : Updates::kOff;
      Result<std::unique_ptr<Store>> store = Store::Open(path, options);
      if (!store.ok()) std::exit(1);
      stores_[overlaid ? 1 : 0] = std::move(store).value();
    }
    vocab_size_ = At(0).checkpoint().recipe.parameters.compressed_vocab_size;
    UpdateSome();
  }
  ~Stores() {
    for (auto& store : stores_) store.reset();
    std::filesystem::remove_all(folder_);
  }

  Store& At(std::int64_t overlaid) { return *stores_[overlaid]; }
  std::vector<std::int32_t> RandomTokens(Prng& prng, std::size_t count) const {
    std::vector<std::int32_t> tokens(count);
    for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(prng.Below(vocab_size_));
    return tokens;
  }

 private:
  void UpdateSome() {
    Prng prng(3);
    const std::vector<std::byte> bytes(kRowBytes, std::byte{0x11});
    std::vector<RowUpdate> rows;
    for (const LayerTable& table : At(1).checkpoint().layers) {
      for (std::uint64_t i = 0; i < table.row_count / kRowsAnUpdate; ++i) {
        rows.push_back({table.layer_id, RowId{prng.Below(table.row_count)}, bytes});
      }
    }
    if (!At(1).Update(rows).ok()) std::exit(1);
  }

  std::string folder_;
  std::unique_ptr<Store> stores_[2];
  std::uint64_t vocab_size_ = 0;
};

std::unique_ptr<Stores> g_stores;

/// Where the rows of `token_count` tokens of both layers go.
struct Outputs {
  explicit Outputs(std::size_t token_count) {
    for (const std::uint32_t layer_id : kLayers) {
      bytes.emplace_back(token_count * kColumns * kRowBytes);
      status.emplace_back(token_count * kColumns);
      outputs.push_back({.layer_id = layer_id, .rows = bytes.back(), .row_status = status.back()});
    }
  }
  std::vector<std::vector<std::byte>> bytes;
  std::vector<std::vector<RowStatus>> status;
  std::vector<LayerOutput> outputs;
};

/// A pass over what may be hit or not: its share of hits, and the rows merged.
class Counts {
 public:
  explicit Counts(const Store& store) : store_(store), before_(store.Stats()) {}
  void Report(benchmark::State& state) const {
    const StoreStats after = store_.Stats();
    std::uint64_t groups = 0;
    std::uint64_t hits = 0;
    for (std::size_t i = 0; i < after.orders.size(); ++i) {
      groups += after.orders[i].groups - before_.orders[i].groups;
      hits += after.orders[i].dram_hits - before_.orders[i].dram_hits;
    }
    state.counters["hit_share"] =
        groups == 0 ? 0.0 : static_cast<double>(hits) / static_cast<double>(groups);
    state.counters["merged"] =
        static_cast<double>(after.overlay.rows_merged - before_.overlay.rows_merged) /
        static_cast<double>(std::max<std::int64_t>(state.iterations(), 1));
  }

 private:
  const Store& store_;
  const StoreStats before_;
};

void Hits(benchmark::State& state) {
  Store& store = g_stores->At(state.range(0));
  Prng prng(1);
  const std::vector<std::int32_t> tokens = g_stores->RandomTokens(prng, kHotTokens);
  const TokenRun run = {.history = {}, .tokens = tokens};
  Outputs outputs(kHotTokens);
  for (int pass = 0; pass < 4; ++pass) {
    if (!store.Lookup({&run, 1}, outputs.outputs).ok()) state.SkipWithError("lookup failed");
  }
  const Counts counts(store);
  for (auto _ : state) {
    if (!store.Lookup({&run, 1}, outputs.outputs).ok()) state.SkipWithError("lookup failed");
  }
  counts.Report(state);
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kHotTokens));
}

void Misses(benchmark::State& state) {
  Store& store = g_stores->At(state.range(0));
  static std::uint64_t seed = 100;
  Prng prng(seed++);
  Outputs outputs(kColdTokens);
  const Counts counts(store);
  for (auto _ : state) {
    state.PauseTiming();
    const std::vector<std::int32_t> tokens = g_stores->RandomTokens(prng, kColdTokens);
    const TokenRun run = {.history = {}, .tokens = tokens};
    state.ResumeTiming();
    if (!store.Lookup({&run, 1}, outputs.outputs).ok()) state.SkipWithError("lookup failed");
  }
  counts.Report(state);
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kColdTokens));
}

void Update(benchmark::State& state) {
  Store& store = g_stores->At(1);
  const std::vector<std::byte> bytes(kRowBytes, std::byte{0x22});
  std::vector<RowUpdate> rows;
  for (std::uint64_t row = 0; row < 64; ++row) rows.push_back({kLayers[0], RowId{row}, bytes});
  for (auto _ : state) {
    if (!store.Update(rows).ok()) state.SkipWithError("update failed");
  }
  state.SetItemsProcessed(state.iterations() * 64);
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  tiercel::g_stores = std::make_unique<tiercel::Stores>();
  const auto arms = [](benchmark::internal::Benchmark* bench) {
    bench->ArgName("overlaid")->Arg(0)->Arg(1)->UseRealTime()->MeasureProcessCPUTime();
  };
  arms(benchmark::RegisterBenchmark("hits", tiercel::Hits));
  arms(benchmark::RegisterBenchmark("misses", tiercel::Misses)->Unit(benchmark::kMillisecond));
  benchmark::RegisterBenchmark("update", tiercel::Update)
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
  benchmark::RunSpecifiedBenchmarks();
  tiercel::g_stores.reset();
  return 0;
}
