// What a hit in the group cache costs, against the two things that bound it:
//
//   flat_row_gather     copies of 264 B rows from a flat table in huge pages, wholly in
//                       DRAM: what engines do today. The cache must be twice as fast.
//   raw_group_copy      copies of 2,112 B groups from known random places: the limit.
//   raw_group_copy_2_threads the same by two threads: how far memory lets them scale.
//   cache_hit           GroupCache::Lookup(), all hits, one thread.
//   cache_hit_2_threads the same by two threads, each with batches of its own.
//   shared_hit          GroupReader::Lookup(): what another process pays that reads a shared
//                       cache, by versions instead of epochs. The cache lies in the flat
//                       table's memory, whose bytes nobody else looks at.
//   raw_token_copy      six groups from known random places: the limit of the next.
//   decode_token_hit    one token: its six groups, 48 rows, in one Lookup(). The counter
//                       p50_ns is the one to look at.
//
// A batch is 2,048 tokens of 6 groups (2 tables, 3 orders); items are tokens. All
// copy from tables of --mem bytes (default 8 GiB) into one output of 26 MB, and keys
// are uniform: the worst case for caches and TLBs. Memory is touched before timing. The
// output is stored as StoresForOutput() has it, which the label says; the two rivals are
// measured with ordinary stores and with non-temporal ones (argument nt).
//
// Memory is shared with other machines on the same host, mostly: run it as
//
//   cache_bench --benchmark_enable_random_interleaving=true --benchmark_repetitions=9
//
// so that all are measured in turns, and compare medians. Takes twice --mem.
//
// Not measured: hashing of tokens, misses, insertions, skewed keys. `ctest -L
// bench_smoke` runs it small, so that it does not rot.

#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/copy_bytes.h"
#include "base/histogram.h"
#include "base/prng.h"
#include "cache/group_cache.h"
#include "cache/group_reader.h"

namespace tiercel {
namespace {

constexpr std::size_t kRowBytes = 264;
constexpr std::size_t kGroupRows = 8;
constexpr std::size_t kGroupBytes = kGroupRows * kRowBytes;
constexpr std::size_t kTokenGroups = 6;
constexpr std::size_t kBatchTokens = 2048;
constexpr std::size_t kBatchGroups = kBatchTokens * kTokenGroups;
/// Batches with different keys, so that no run finds the last one's lines in a cache:
/// 8 x 26 MB.
constexpr std::size_t kBatches = 8;

std::uint64_t g_memory_bytes = std::uint64_t{8} << 30;

/// Anonymous memory in huge pages, touched.
class Table {
 public:
  explicit Table(std::size_t size_bytes) : size_bytes_(size_bytes) {
    const std::size_t reserved = size_bytes + kHuge;
    base_ = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) std::abort();
    const auto start = (reinterpret_cast<std::uintptr_t>(base_) + kHuge - 1) / kHuge * kHuge;
    bytes_ = reinterpret_cast<std::byte*>(start);
    madvise(bytes_, size_bytes, MADV_HUGEPAGE);
    std::memset(bytes_, 0, size_bytes);
  }
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;
  ~Table() { munmap(base_, size_bytes_ + kHuge); }

  [[nodiscard]] std::byte* bytes() const { return bytes_; }

 private:
  static constexpr std::size_t kHuge = std::size_t{2} << 20;
  std::size_t size_bytes_;
  void* base_ = nullptr;
  std::byte* bytes_ = nullptr;
};

/// Both stay in memory once they were needed, so that the benchmarks can take turns.
std::unique_ptr<Table> g_table;
std::unique_ptr<GroupCache> g_cache;
std::uint64_t g_cached_keys = 0;  ///< Keys of each space are 0 to this, in all caches.
/// A cache in g_table's memory, and who reads it as another process would.
std::unique_ptr<GroupCache> g_shared_cache;
std::unique_ptr<GroupReader> g_shared_reader;

std::byte* FlatTable() {
  if (g_table == nullptr) g_table = std::make_unique<Table>(g_memory_bytes);
  return g_table->bytes();
}

/// Inserts keys from 0 on in all spaces; returns how many.
std::uint64_t Fill(GroupCache& cache) {
  const std::uint64_t keys = cache.capacity_groups() / kTokenGroups;
  const std::vector<std::byte> bytes(kGroupBytes, std::byte{1});
  for (std::uint64_t key = 0; key < keys; ++key) {
    for (std::uint32_t space = 0; space < kTokenGroups; ++space) cache.Insert(space, key, bytes);
  }
  return keys;
}

GroupCache* FullCache() {
  if (g_cache != nullptr) return g_cache.get();
  Result<std::unique_ptr<GroupCache>> cache = GroupCache::Create(
      {.budget_bytes = g_memory_bytes,
       .group_size_bytes = std::vector<std::uint32_t>(kTokenGroups, kGroupBytes)});
  if (!cache.ok()) return nullptr;
  g_cache = std::move(cache).value();
  const std::uint64_t keys = Fill(*g_cache);
  g_cached_keys = g_cached_keys == 0 ? keys : std::min(g_cached_keys, keys);
  return g_cache.get();
}

void MakeSharedCache(const benchmark::State& /*state*/) {
  if (g_shared_cache != nullptr) return;
  SharedHeader header{.size_bytes = g_memory_bytes};
  GroupCacheOptions options{
      .budget_bytes = g_memory_bytes,
      .group_size_bytes = std::vector<std::uint32_t>(kTokenGroups, kGroupBytes)};
  options.shared_memory = {FlatTable() + kSharedHeaderBytes, g_memory_bytes - kSharedHeaderBytes};
  Result<std::unique_ptr<GroupCache>> cache = GroupCache::Create(options);
  if (!cache.ok()) std::abort();
  g_shared_cache = std::move(cache).value();
  const SharedPoolPlace pool = g_shared_cache->shared_pools()[0];
  header.pools.push_back({.offset_bytes = kSharedHeaderBytes + pool.offset_bytes,
                          .layout = PoolLayout::Of(kGroupBytes, pool.slot_count, true)});
  header.spaces.resize(kTokenGroups, {.group_size_bytes = kGroupBytes});
  g_shared_reader = std::make_unique<GroupReader>(header, std::span(FlatTable(), g_memory_bytes));
  // It has fewer slots than the other, since each has a version.
  const std::uint64_t keys = Fill(*g_shared_cache);
  g_cached_keys = g_cached_keys == 0 ? keys : std::min(g_cached_keys, keys);
}

std::vector<std::uint64_t> RandomNumbers(std::size_t count, std::uint64_t bound,
                                         std::uint64_t seed) {
  Prng prng(seed);
  std::vector<std::uint64_t> numbers(count);
  for (std::uint64_t& number : numbers) number = prng.Below(bound);
  return numbers;
}

void SetRates(benchmark::State& state) {
  const auto tokens = state.iterations() * static_cast<std::int64_t>(kBatchTokens);
  state.SetItemsProcessed(tokens);
  state.SetBytesProcessed(tokens * static_cast<std::int64_t>(kTokenGroups * kGroupBytes));
}

/// Where the `i`th group of a batch goes: lookups are made space by space, the output is
/// ordered by token. raw_group_copy writes in the same order.
std::size_t PlaceInBatch(std::size_t i) {
  return i % kBatchTokens * kTokenGroups + i / kBatchTokens % kTokenGroups;
}

/// Rows follow one another in the output but fill no whole lines: written word by word,
/// non-temporal stores of two rows still make one line.
void CopyRowPastCaches(std::byte* output, const std::byte* row, std::size_t size_bytes) {
#if defined(__SSE2__)
  for (std::size_t done = 0; done < size_bytes; done += 8) {
    long long word;
    std::memcpy(&word, row + done, 8);
    _mm_stream_si64(reinterpret_cast<long long*>(output + done), word);
  }
#else
  std::memcpy(output, row, size_bytes);
#endif
}

/// Random copies of one block size, prefetched as far ahead as pays.
void CopyBlocks(benchmark::State& state, std::size_t block_bytes, std::size_t ahead,
                CopyStores stores) {
  const std::byte* const table = FlatTable();
  const std::size_t batch_blocks = kBatchGroups * kGroupBytes / block_bytes;
  const std::vector<std::uint64_t> blocks =
      RandomNumbers(kBatches * batch_blocks, g_memory_bytes / block_bytes,
                    1 + static_cast<std::uint64_t>(state.thread_index()));
  const Table output(kBatchGroups * kGroupBytes);
  std::size_t batch = 0;
  for (auto _ : state) {
    const std::uint64_t* const ids = blocks.data() + batch * batch_blocks;
    for (std::size_t i = 0; i < batch_blocks; ++i) {
      if (i + ahead < batch_blocks) {
        const std::byte* const next = table + ids[i + ahead] * block_bytes;
        for (std::size_t offset = 0; offset < block_bytes; offset += 64) {
          __builtin_prefetch(next + offset);
        }
      }
      const std::size_t place = block_bytes == kGroupBytes ? PlaceInBatch(i) : i;
      std::byte* const target = output.bytes() + place * block_bytes;
      const std::byte* const source = table + ids[i] * block_bytes;
      if (stores == CopyStores::kNonTemporal && block_bytes % 64 != 0) {
        CopyRowPastCaches(target, source, block_bytes);
      } else {
        CopyBytes(target, source, block_bytes, stores);
      }
    }
    EndCopies(stores);
    benchmark::ClobberMemory();
    batch = (batch + 1) % kBatches;
  }
  SetRates(state);
}

CopyStores StoresOfArgument(std::int64_t nt) {
  return nt != 0 ? CopyStores::kNonTemporal : CopyStores::kCached;
}
void flat_row_gather(benchmark::State& state) {
  CopyBlocks(state, kRowBytes, static_cast<std::size_t>(state.range(0)),
             StoresOfArgument(state.range(1)));
}
void raw_group_copy(benchmark::State& state) {
  CopyBlocks(state, kGroupBytes, static_cast<std::size_t>(state.range(0)),
             StoresOfArgument(state.range(1)));
}

void raw_group_copy_2_threads(benchmark::State& state) {
  raw_group_copy(state);
}
void MakeTable(const benchmark::State& /*state*/) {
  FlatTable();
}

/// The targets of kBatches batches, space by space: shape [batches, spaces, tokens].
std::vector<GroupTarget> BatchTargets(std::byte* output, std::uint64_t seed) {
  const std::vector<std::uint64_t> keys =
      RandomNumbers(kBatches * kBatchGroups, g_cached_keys, seed);
  std::vector<GroupTarget> targets(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    targets[i] = {.key = keys[i], .destination = output + PlaceInBatch(i) * kGroupBytes};
  }
  return targets;
}

CopyStores BatchStores() {
  return StoresForOutput(kBatchGroups * kGroupBytes);
}

/// `look_up(space, targets, hits)` returns the number of hits.
template <typename LookUp>
void LookUpBatches(benchmark::State& state, const LookUp& look_up) {
  const Table output(kBatchGroups * kGroupBytes);
  const std::vector<GroupTarget> targets =
      BatchTargets(output.bytes(), 1 + static_cast<std::uint64_t>(state.thread_index()));
  std::vector<std::uint8_t> hits(kBatchTokens);
  std::size_t batch = 0;
  std::uint64_t miss_count = 0;
  for (auto _ : state) {
    for (std::uint32_t space = 0; space < kTokenGroups; ++space) {
      const auto chunk =
          std::span(targets).subspan((batch * kTokenGroups + space) * kBatchTokens, kBatchTokens);
      miss_count += kBatchTokens - look_up(space, chunk, hits);
    }
    benchmark::ClobberMemory();
    batch = (batch + 1) % kBatches;
  }
  SetRates(state);
  state.SetLabel(BatchStores() == CopyStores::kCached ? "ordinary stores" : "non-temporal stores");
  const auto looked_up = static_cast<double>(state.iterations()) * kBatchGroups;
  // One insertion in a million may find its path of buckets full.
  if (static_cast<double>(miss_count) > looked_up / 1000) state.SkipWithError("not all were hits");
}

void MakeCache(const benchmark::State& /*state*/) {
  FullCache();
}

void cache_hit(benchmark::State& state) {
  LookUpBatches(state, [](std::uint32_t space, std::span<const GroupTarget> targets,
                          std::span<std::uint8_t> hits) {
    return g_cache->Lookup(space, targets, hits, BatchStores());
  });
}
void cache_hit_2_threads(benchmark::State& state) {
  cache_hit(state);
}
void shared_hit(benchmark::State& state) {
  std::vector<std::uint32_t> spaces(kBatchTokens);
  LookUpBatches(state, [&spaces](std::uint32_t space, std::span<const GroupTarget> targets,
                                 std::span<std::uint8_t> hits) {
    std::fill(spaces.begin(), spaces.end(), space);
    return g_shared_reader->Lookup(spaces, targets, hits, BatchStores());
  });
}

/// Tokens with keys of their own that a benchmark of single tokens goes round.
constexpr std::size_t kTokens = 1 << 16;

/// Times one token after another: `prepare(token)` is not counted, `work(token)` is.
template <typename Prepare, typename Work>
void MeasureTokens(benchmark::State& state, Prepare&& prepare, Work&& work) {
  Histogram latency_ns;
  std::size_t token = 0;
  for (auto _ : state) {
    prepare(token);
    const auto start = std::chrono::steady_clock::now();
    work(token);
    benchmark::ClobberMemory();
    const auto stop = std::chrono::steady_clock::now();
    latency_ns.Add(static_cast<std::uint64_t>((stop - start).count()));
    token = (token + 1) % kTokens;
  }
  state.SetItemsProcessed(state.iterations());
  state.counters["p50_ns"] = static_cast<double>(latency_ns.Percentile(0.50));
  state.counters["p99_ns"] = static_cast<double>(latency_ns.Percentile(0.99));
}

void decode_token_hit(benchmark::State& state) {
  GroupCache* const cache = g_cache.get();
  const Table output(kTokenGroups * kGroupBytes);
  const std::vector<std::uint64_t> keys = RandomNumbers(kTokens * kTokenGroups, g_cached_keys, 7);
  std::vector<std::uint32_t> spaces(kTokenGroups);
  std::vector<GroupTarget> targets(kTokenGroups);
  for (std::uint32_t i = 0; i < kTokenGroups; ++i) {
    spaces[i] = i;
    targets[i].destination = output.bytes() + i * kGroupBytes;
  }
  std::vector<std::uint8_t> hits(kTokenGroups);
  MeasureTokens(
      state,
      [&](std::size_t token) {
        for (std::size_t i = 0; i < kTokenGroups; ++i) {
          targets[i].key = keys[token * kTokenGroups + i];
        }
      },
      [&](std::size_t /*token*/) {
        benchmark::DoNotOptimize(cache->Lookup(spaces, targets, hits));
      });
}

/// The limit of decode_token_hit: copies of six groups whose places are known.
void raw_token_copy(benchmark::State& state) {
  const std::byte* const table = FlatTable();
  const Table output(kTokenGroups * kGroupBytes);
  constexpr std::size_t kAheadBytes = 8 * 64;  // More is slower, as in the cache.
  const std::vector<std::uint64_t> groups =
      RandomNumbers(kTokens * kTokenGroups, g_memory_bytes / kGroupBytes, 7);
  MeasureTokens(
      state, [](std::size_t /*token*/) {},
      [&](std::size_t token) {
        const std::uint64_t* const ids = groups.data() + token * kTokenGroups;
        for (std::size_t i = 0; i < kTokenGroups; ++i) {
          for (std::size_t offset = 0; offset < kAheadBytes; offset += 64) {
            __builtin_prefetch(table + ids[i] * kGroupBytes + offset);
          }
        }
        for (std::size_t i = 0; i < kTokenGroups; ++i) {
          std::memcpy(output.bytes() + i * kGroupBytes, table + ids[i] * kGroupBytes, kGroupBytes);
        }
      });
}

void Register() {
  // The distance that pays is measured for the rivals too: each gets its best.
  benchmark::RegisterBenchmark("flat_row_gather", flat_row_gather)
      ->ArgNames({"ahead", "nt"})
      ->ArgsProduct({{4, 8, 16, 32}, {0, 1}});
  benchmark::RegisterBenchmark("raw_group_copy", raw_group_copy)
      ->ArgNames({"ahead", "nt"})
      ->ArgsProduct({{1, 2, 4, 8}, {0, 1}});
  benchmark::RegisterBenchmark("raw_group_copy_2_threads", raw_group_copy_2_threads)
      ->ArgNames({"ahead", "nt"})
      ->ArgsProduct({{2}, {0, 1}})
      ->Setup(MakeTable)
      ->Threads(2)
      ->UseRealTime();
  benchmark::RegisterBenchmark("raw_token_copy", raw_token_copy);
  benchmark::RegisterBenchmark("cache_hit", cache_hit)->Setup(MakeCache);
  benchmark::RegisterBenchmark("cache_hit_2_threads", cache_hit_2_threads)
      ->Setup(MakeCache)
      ->Threads(2)
      ->UseRealTime();
  benchmark::RegisterBenchmark("shared_hit", shared_hit)->Setup(MakeSharedCache);
  benchmark::RegisterBenchmark("decode_token_hit", decode_token_hit)->Setup(MakeCache);
}

}  // namespace
}  // namespace tiercel

/// --mem=MIB (default 8192) is ours; all else is Google Benchmark's.
int main(int argc, char** argv) {
  constexpr std::string_view kMemory = "--mem=";
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (!argument.starts_with(kMemory)) continue;
    tiercel::g_memory_bytes = std::strtoull(argv[i] + kMemory.size(), nullptr, 10) << 20;
    std::copy(argv + i + 1, argv + argc, argv + i);
    --argc;
    --i;
  }
  if (tiercel::g_memory_bytes < std::uint64_t{16} << 20) return 2;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  tiercel::Register();
  benchmark::RunSpecifiedBenchmarks();
  tiercel::g_shared_reader.reset();
  tiercel::g_shared_cache.reset();
  tiercel::g_cache.reset();
  tiercel::g_table.reset();
  return 0;
}
