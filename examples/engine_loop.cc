// A decode loop whose layers compute while the rows of later layers are on their way.
//
// The rows of a token follow from token ids alone. So a step starts their fetch when its
// tokens are known, and waits only in front of the layers that have a table:
//
//   tokens known, Start() ... layer 0, Wait(1), layer 1, layer 2 ... Wait(14), layer 14 ...
//
// Prints how long these layers waited, and the same for a blocking Lookup() in front of
// them. The model is a sleep: as with a GPU, the CPU idles meanwhile.
//
//   engine_loop CHECKPOINT [STREAMS [STEPS [LAYER_US [DRAM_MIB]]]]

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tiercel/prefetch.h"
#include "tiercel/store.h"

namespace tiercel::examples {
namespace {

using Clock = std::chrono::steady_clock;
using Micros = std::chrono::duration<double, std::micro>;

struct Setting {  // The command line.
  std::string checkpoint;
  std::size_t stream_count;
  std::size_t step_count;
  std::chrono::microseconds layer_time;
  std::uint64_t dram_mib;
};

/// Rows of one table for a step of all streams, shape [streams, columns, row bytes]. Their
/// address never changes: it is what a CUDA graph would be captured with, pinned.
struct Table {
  std::uint32_t layer_id = 0;
  std::vector<std::byte> rows;
};

struct Outcome {
  std::map<std::string, std::vector<double>> times_us;  ///< By what took them; one a step.
  double seconds = 0.0;
  std::uint64_t digest = 0;  ///< Of all rows in their order.
};

/// Made-up token ids of each stream, below 4,096, few of them often, as in text.
std::vector<std::vector<std::int32_t>> MakeText(std::size_t stream_count, std::size_t length) {
  std::mt19937_64 random(1);
  std::vector<std::vector<std::int32_t>> text(stream_count);
  for (std::vector<std::int32_t>& tokens : text) {
    while (tokens.size() < length) {
      const std::uint64_t bits = random();
      tokens.push_back(static_cast<std::int32_t>((bits >> 8) % (1U << bits % 13)));
    }
  }
  return text;
}

/// One ticket a stream: a stream that ends, or whose tokens were guessed wrong, drops its own.
Status StartAll(Store& store, const std::vector<TokenRun>& runs, const Setting& setting,
                std::vector<Table>& tables, std::vector<Ticket>& tickets) {
  tickets.clear();  // Of the step before.
  for (std::size_t stream = 0; stream < runs.size(); ++stream) {
    std::vector<PrefetchLayer> layers;
    for (Table& table : tables) {
      const std::size_t size = table.rows.size() / runs.size();
      layers.push_back({.layer_id = table.layer_id,
                        .needed_after = table.layer_id * setting.layer_time,
                        .rows = std::span(table.rows).subspan(stream * size, size)});
    }
    Result<Ticket> ticket = store.Start({&runs[stream], 1}, layers, {.format = RowOutput::kBf16});
    if (!ticket.ok()) return std::move(ticket).TakeStatus();
    tickets.push_back(std::move(ticket).value());
  }
  return {};
}

/// Returns when the rows of `table` are there: waits for tickets, or, without any, fetches.
Status GetRows(Store& store, const std::vector<TokenRun>& runs, Table& table,
               std::vector<Ticket>& tickets) {
  if (tickets.empty()) {
    std::vector<RowStatus> statuses(runs.size() * store.checkpoint().recipe.column_count());
    const LayerOutput output = {table.layer_id, table.rows, statuses};
    return store.Lookup(runs, {&output, 1}, RowOutput::kBf16);
  }
  Status first;
  for (Ticket& ticket : tickets) {
    Status status = ticket.Wait(table.layer_id);
    if (first.ok()) first = std::move(status);
  }
  return first;
}

Result<Outcome> Decode(const Setting& setting, bool prefetch) {
  StoreOptions options;
  options.dram_budget_bytes = setting.dram_mib << 20;
  Result<std::unique_ptr<Store>> opened = Store::Open(setting.checkpoint, options);
  if (!opened.ok()) return std::move(opened).TakeStatus();
  Store& store = *opened.value();
  const std::size_t history = store.checkpoint().recipe.order_count();  // Tokens looked back at.
  const auto text = MakeText(setting.stream_count, history + setting.step_count);
  std::vector<Table> tables;
  for (const std::uint32_t id : store.checkpoint().recipe.parameters.layer_ids) {
    const std::size_t row_bytes = store.OutputRowSizeBytes(id, RowOutput::kBf16).value();
    const std::size_t row_count = setting.stream_count * store.checkpoint().recipe.column_count();
    tables.push_back({id, std::vector<std::byte>(row_count * row_bytes)});
  }
  std::ranges::sort(tables, {}, &Table::layer_id);  // The order in which the model runs.
  std::vector<TokenRun> runs(setting.stream_count);
  std::vector<Ticket> tickets;  // After what they write to: they go first.
  Outcome outcome;
  const auto timed = [&outcome](const std::string& what, const auto& work) {
    const Clock::time_point begin = Clock::now();
    Status status = work();
    outcome.times_us[what].push_back(Micros(Clock::now() - begin).count());
    return status;
  };
  const Clock::time_point begin = Clock::now();
  for (std::size_t step = 0; step < setting.step_count; ++step) {
    for (std::size_t stream = 0; stream < runs.size(); ++stream) {  // What sampling gave.
      const std::span<const std::int32_t> known = text[stream];
      runs[stream] = {known.subspan(step, history), known.subspan(step + history, 1)};
    }
    Status status;
    if (prefetch) {
      status = timed("Start(), all streams",
                     [&] { return StartAll(store, runs, setting, tables, tickets); });
      if (!status.ok()) return status;
    }
    std::uint32_t layer = 0;
    for (Table& table : tables) {
      std::this_thread::sleep_for((table.layer_id - layer) * setting.layer_time);  // Compute.
      layer = table.layer_id;
      status = timed("wait before layer " + std::to_string(layer),
                     [&] { return GetRows(store, runs, table, tickets); });
      // kPartial too: rows that cannot be read are zero. An engine would fail the requests
      // whose tokens row_status names, rather than answer from zeros.
      if (!status.ok()) return status;
      for (const std::byte byte : table.rows) {  // The layer uses the rows.
        outcome.digest = (outcome.digest ^ static_cast<std::uint64_t>(byte)) * 0x100000001B3U;
      }
    }
    std::this_thread::sleep_for(2 * setting.layer_time);  // The rest of the model.
  }
  outcome.seconds = Micros(Clock::now() - begin).count() * 1e-6;
  return outcome;
}

void Print(const char* how, const Setting& setting, Outcome& outcome) {
  const auto tokens = static_cast<double>(setting.stream_count * setting.step_count);
  std::printf("%s: %.0f tokens/s\n", how, tokens / outcome.seconds);
  for (auto& [what, times] : outcome.times_us) {
    std::ranges::sort(times);
    const std::size_t last = times.size() - 1;
    std::printf("  %-22s p50 %8.1f us   p99 %8.1f us   max %8.1f us\n", what.c_str(),
                times[last / 2], times[last * 99 / 100], times[last]);
  }
}

}  // namespace
}  // namespace tiercel::examples

int main(int argc, char** argv) {
  using namespace tiercel::examples;
  if (argc < 2 || argc > 6) {
    std::fputs("usage: engine_loop CHECKPOINT [STREAMS [STEPS [LAYER_US [DRAM_MIB]]]]\n", stderr);
    return 2;
  }
  const auto number = [&](int i, std::uint64_t otherwise) {
    return argc > i ? std::max(std::strtoull(argv[i], nullptr, 10), 1ULL) : otherwise;
  };
  const Setting setting = {argv[1], number(2, 4), number(3, 300),
                           std::chrono::microseconds(number(4, 160)), number(5, 64)};
  prctl(PR_SET_TIMERSLACK, 1000UL);  // Sleeps end within microseconds, as computing does.
  std::vector<std::uint64_t> digests;
  for (const bool prefetch : {true, false}) {  // A store each: both begin cold.
    tiercel::Result<Outcome> outcome = Decode(setting, prefetch);
    if (!outcome.ok()) {
      std::fprintf(stderr, "engine_loop: %s\n", outcome.status().ToString().c_str());
      return 3;
    }
    Print(prefetch ? "tickets" : "blocking Lookup()", setting, outcome.value());
    digests.push_back(outcome.value().digest);
  }
  std::printf("%s\n", digests[0] == digests[1] ? "the same rows both ways" : "ROWS DIFFER");
  return digests[0] == digests[1] ? 0 : 1;
}
