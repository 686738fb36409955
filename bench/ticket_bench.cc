// What a ticket costs the thread that starts it:
//
//   start_token_hits    one token, two layers, all six groups in DRAM: hashing, the
//                       copy of 48 rows and the ticket. Goal: 3 us.
//   start_token_misses  one token, none of its groups in DRAM: hashing, probes, and six
//                       fetches handed to the I/O thread. Goal: 10 us.
//   lookup_token_hits   the same as the first by Store::Lookup(), for comparison.
//   lookup_batch_hits   2,048 tokens by Store::Lookup(), all in DRAM.
//
// The counter p50_ns is the one to look at; a misses' reads are waited for and the ticket
// is dropped outside of the time. The table is made in the folder for temporary files and
// has 1/1000 of DeepSeek-V4.1-Flash's rows, so that all tokens of the hits stay in DRAM.

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/histogram.h"
#include "base/prng.h"
#include "tiercel/store.h"
#include "tiercel/synthetic.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kLayers[] = {1, 14};
constexpr std::size_t kColumns = 24;
constexpr std::size_t kRowBytes = 264;
constexpr std::size_t kHotTokens = 4096;

/// A made checkpoint, removed at the end, and a store of it.
class Table {
 public:
  Table() : folder_(std::filesystem::temp_directory_path() / "tiercel_ticket_bench.XXXXXX") {
    if (mkdtemp(folder_.data()) == nullptr) std::exit(1);
    const std::string path = folder_ + "/checkpoint";
    if (!MakeCheckpoint({.shrink = 1000, .out_dir = path, .tables_only = true}).ok()) std::exit(1);
    StoreOptions options;
    options.dram_budget_bytes = std::uint64_t{512} << 20;
    Result<std::unique_ptr<Store>> store = Store::Open(path, options);
    if (!store.ok()) std::exit(1);
    store_ = std::move(store).value();
    vocab_size_ = store_->checkpoint().recipe.parameters.compressed_vocab_size;
  }
  ~Table() {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }

  Store& store() { return *store_; }
  std::vector<std::int32_t> RandomTokens(std::uint64_t seed, std::size_t count) const {
    Prng prng(seed);
    std::vector<std::int32_t> tokens(count);
    for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(prng.Below(vocab_size_));
    return tokens;
  }

 private:
  std::string folder_;
  std::unique_ptr<Store> store_;
  std::uint64_t vocab_size_ = 0;
};

std::unique_ptr<Table> g_table;

/// Rows of `token_count` tokens of both layers.
struct Rows {
  explicit Rows(std::size_t token_count) {
    for (const std::uint32_t layer_id : kLayers) {
      bytes.emplace_back(token_count * kColumns * kRowBytes);
      status.emplace_back(token_count * kColumns);
      layers.push_back({.layer_id = layer_id, .rows = bytes.back(), .row_status = status.back()});
      outputs.push_back({.layer_id = layer_id, .rows = bytes.back(), .row_status = status.back()});
    }
  }
  std::vector<std::vector<std::byte>> bytes;
  std::vector<std::vector<RowStatus>> status;
  std::vector<PrefetchLayer> layers;
  std::vector<LayerOutput> outputs;
};

/// The tokens of the hits, all of them in DRAM.
const std::vector<std::int32_t>& HotTokens() {
  static const std::vector<std::int32_t> tokens = [] {
    std::vector<std::int32_t> made = g_table->RandomTokens(1, kHotTokens);
    Rows rows(kHotTokens);
    const TokenRun run = {.history = {}, .tokens = made};
    for (int pass = 0; pass < 3; ++pass) {  // What is not taken in at first is later.
      if (!g_table->store().Lookup({&run, 1}, rows.outputs).ok()) std::exit(1);
    }
    return made;
  }();
  return tokens;
}

TokenRun RunAt(std::span<const std::int32_t> tokens, std::size_t i) {
  return {.history = tokens.subspan(i - 3, 3), .tokens = tokens.subspan(i, 1)};
}

void Report(benchmark::State& state, const Histogram& latency_ns, double hit_share) {
  state.SetItemsProcessed(state.iterations());
  state.counters["p50_ns"] = static_cast<double>(latency_ns.Percentile(0.50));
  state.counters["p99_ns"] = static_cast<double>(latency_ns.Percentile(0.99));
  state.counters["hit_share"] = hit_share;
}

/// Times Start() for one token after another of `tokens`.
void StartTokens(benchmark::State& state, std::span<const std::int32_t> tokens) {
  Store& store = g_table->store();
  Rows rows(1);
  Histogram latency_ns;
  std::size_t at = 3;
  std::uint64_t groups = 0;
  std::uint64_t hits = 0;
  for (auto _ : state) {
    const TokenRun run = RunAt(tokens, at);
    at = at + 1 == tokens.size() ? 3 : at + 1;
    const auto start = std::chrono::steady_clock::now();
    Result<Ticket> ticket = store.Start({&run, 1}, rows.layers);
    const auto stop = std::chrono::steady_clock::now();
    latency_ns.Add(static_cast<std::uint64_t>((stop - start).count()));
    state.SetIterationTime(std::chrono::duration<double>(stop - start).count());
    if (!ticket.ok() || !ticket.value().WaitAll().ok()) return state.SkipWithError("no rows");
    for (const std::uint32_t layer_id : kLayers) {
      const TicketStats stats = ticket.value().Stats(layer_id).value();
      groups += stats.groups;
      hits += stats.dram_hits;
    }
  }
  Report(state, latency_ns, static_cast<double>(hits) / static_cast<double>(groups));
}

void start_token_hits(benchmark::State& state) {
  StartTokens(state, HotTokens());
}

void start_token_misses(benchmark::State& state) {
  static std::uint64_t seed = 100;  // Tokens that nobody has asked for.
  const std::vector<std::int32_t> tokens =
      g_table->RandomTokens(++seed, static_cast<std::size_t>(state.max_iterations) + 8);
  StartTokens(state, tokens);
}

void lookup_token_hits(benchmark::State& state) {
  const std::span<const std::int32_t> tokens = HotTokens();
  Rows rows(1);
  Histogram latency_ns;
  std::size_t at = 3;
  for (auto _ : state) {
    const TokenRun run = RunAt(tokens, at);
    at = at + 1 == tokens.size() ? 3 : at + 1;
    const auto start = std::chrono::steady_clock::now();
    const Status status = g_table->store().Lookup({&run, 1}, rows.outputs);
    const auto stop = std::chrono::steady_clock::now();
    latency_ns.Add(static_cast<std::uint64_t>((stop - start).count()));
    state.SetIterationTime(std::chrono::duration<double>(stop - start).count());
    if (!status.ok()) return state.SkipWithError("no rows");
  }
  Report(state, latency_ns, 1.0);
}

void lookup_batch_hits(benchmark::State& state) {
  constexpr std::size_t kTokens = 2048;
  const std::span<const std::int32_t> tokens = HotTokens();
  Rows rows(kTokens);
  const TokenRun run = {.history = {}, .tokens = tokens.first(kTokens)};
  for (auto _ : state) {
    if (!g_table->store().Lookup({&run, 1}, rows.outputs).ok()) {
      return state.SkipWithError("no rows");
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kTokens));
}

BENCHMARK(start_token_hits)->UseManualTime();
BENCHMARK(start_token_misses)->UseManualTime()->Iterations(2000);
BENCHMARK(lookup_token_hits)->UseManualTime();
BENCHMARK(lookup_batch_hits);

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  tiercel::g_table = std::make_unique<tiercel::Table>();
  benchmark::RunSpecifiedBenchmarks();
  tiercel::g_table.reset();
  return 0;
}
