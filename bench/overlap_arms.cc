#include "bench/overlap_arms.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "bench/overlap_loop.h"
#include "bench/overlap_table.h"
#include "tools/command_line.h"
#include "tools/token_trace.h"

namespace tiercel::bench {
namespace {

/// What all arms work on.
struct OverlapWork {
  CheckpointInfo info;
  std::optional<Hasher> hasher;
  tools::TokenTrace trace;
  std::shared_ptr<const TokenMap> token_map;
  std::vector<std::vector<OverlapStep>> decode;   ///< By round: each its own sequences.
  std::vector<std::vector<OverlapStep>> prefill;  ///< As decode, of others.
  std::vector<TokenRun> warm;
  std::vector<OverlapStep> warm_steps;  ///< The same, as prompts.
  OverlapModel decode_model;
  OverlapModel prefill_model;
  OverlapEngine* engine = nullptr;
};

Status Fail(std::string what) {
  return Status(StatusCode::kInvalidArgument, std::move(what));
}

std::chrono::nanoseconds Milliseconds(double count) {
  return std::chrono::nanoseconds(static_cast<std::int64_t>(count * 1e6));
}

/// The sequences of one of `count` parts.
std::span<const OverlapSequence> PartOf(std::span<const OverlapSequence> all, std::size_t part,
                                        std::size_t count) {
  const std::size_t begin = all.size() * part / count;
  return all.subspan(begin, all.size() * (part + 1) / count - begin);
}

/// Every round has sequences of its own, or a cache would know them; decode and prefill have
/// halves of them, so that neither serves the other's.
void PlanSteps(const OverlapFlags& flags, std::span<const OverlapSequence> sequences,
               OverlapWork& work) {
  const std::size_t history = work.info.recipe.order_count();
  const std::size_t parts = std::size_t{2} * flags.round_count;
  for (std::size_t round = 0; round < flags.round_count; ++round) {
    work.decode.push_back(
        DecodeSteps(work.trace.tokens, PartOf(sequences, 2 * round, parts), history, flags.decode));
    work.prefill.push_back(PrefillSteps(work.trace.tokens, PartOf(sequences, 2 * round + 1, parts),
                                        history, flags.prefill));
  }
}

Status LoadTrace(const OverlapFlags& flags, OverlapWork& work) {
  const RecipeParameters& recipe = work.info.recipe.parameters;
  std::uint64_t id_limit =
      recipe.compressed_vocab_size != 0 ? recipe.compressed_vocab_size : recipe.vocab_size;
  if (!flags.token_map.empty()) {
    Result<TokenMap> map = TokenMap::Load(flags.token_map);
    if (!map.ok()) return std::move(map).TakeStatus();
    work.token_map = std::make_shared<const TokenMap>(std::move(map).value());
    id_limit = work.token_map->entry_count();
  }
  Result<Hasher> hasher = Hasher::Create(work.info.recipe, work.token_map);
  if (!hasher.ok()) return std::move(hasher).TakeStatus();
  work.hasher.emplace(std::move(hasher).value());
  Result<tools::TracePaths> paths = tools::FindTrace(flags.trace, flags.offsets);
  if (!paths.ok()) return std::move(paths).TakeStatus();
  Result<tools::TokenTrace> trace = tools::LoadTokenTrace(paths.value(), id_limit);
  if (!trace.ok()) return std::move(trace).TakeStatus();
  work.trace = std::move(trace).value();
  const std::vector<OverlapSequence> sequences =
      ChooseSequences(work.trace.offsets, flags.sequences);
  if (sequences.empty()) {
    return Fail(
        fmt::format("no document of {} has {} tokens", flags.trace, flags.sequences.length_max));
  }
  PlanSteps(flags, sequences, work);
  SequenceChoice warm = flags.sequences;
  warm.seed += 1000;
  warm.count = flags.warm_sequence_count;
  const std::vector<OverlapSequence> others = ChooseSequences(work.trace.offsets, warm);
  work.warm = RunsOf(work.trace.tokens, others);
  PrefillOptions prompts = flags.prefill;
  prompts.step_count = std::numeric_limits<std::uint64_t>::max();
  work.warm_steps =
      PrefillSteps(work.trace.tokens, others, work.info.recipe.order_count(), prompts);
  return {};
}

Status PrepareModel(const OverlapFlags& flags, OverlapWork& work) {
  work.decode_model = {.block_count = flags.block_count,
                       .block_time = Milliseconds(flags.block_ms),
                       .layer_ids = work.info.recipe.parameters.layer_ids};
  std::ranges::sort(work.decode_model.layer_ids);
  if (work.decode_model.layer_ids.back() >= flags.block_count) {
    return Fail(fmt::format("{} blocks do not reach layer {}", flags.block_count,
                            work.decode_model.layer_ids.back()));
  }
  work.prefill_model = work.decode_model;
  work.prefill_model.block_time = Milliseconds(flags.prefill_block_ms);
  return {};
}

Result<std::unique_ptr<Store>> OpenFor(const OverlapFlags& flags, const OverlapWork& work,
                                       const OverlapArm& arm) {
  StoreOptions options;
  options.dram_budget_bytes = arm.budget_bytes;
  options.token_map = work.token_map;
  // The tickets of a step and of those beforehand, and no more: the cache has the rest.
  const std::uint64_t places = flags.prefill.ahead + 2;
  const std::uint64_t tokens =
      std::max<std::uint64_t>(flags.prefill.step_tokens, flags.decode.stream_count);
  options.prefetch.tickets_max = static_cast<std::uint32_t>(places);
  options.prefetch.tokens_max = places * 8 * tokens;
  if (arm.hbm_bytes > 0) {  // The tier asks by rows, a ticket a layer; a row is two tokens.
    const std::uint64_t layers = work.decode_model.layer_ids.size();
    options.prefetch.tickets_max = static_cast<std::uint32_t>(2 * places * layers);
    options.prefetch.tokens_max =
        2 * places * layers * tokens * work.info.recipe.column_count() * 2;
  }
  options.log = [](std::string_view line) { tools::PrintError("overlap_bench", line); };
  return Store::Open(flags.checkpoint, options);
}

struct GroupCounts {
  double groups = 0.0;
  double hits = 0.0;
  double reads = 0.0;
};

GroupCounts CountsOf(const Store& store) {
  const StoreStats stats = store.Stats();
  GroupCounts counts{.reads = static_cast<double>(stats.device_reads)};
  for (const OrderStats& order : stats.orders) {
    counts.groups += static_cast<double>(order.groups);
    counts.hits += static_cast<double>(order.dram_hits);
  }
  return counts;
}

/// Lets the store see what it is to have seen before the run.
Status Warm(const OverlapFlags& flags, const OverlapWork& work, Store& store, OverlapArm& arm) {
  std::vector<TokenRun> runs = work.warm;
  if (arm.resident) {
    runs.clear();
    for (const auto* const phase : {&work.decode, &work.prefill}) {
      for (const std::vector<OverlapStep>& steps : *phase) {
        for (const OverlapStep& step : steps) {
          runs.insert(runs.end(), step.runs.begin(), step.runs.end());
        }
      }
    }
  }
  Result<std::uint64_t> served =
      ServeOnce(store, runs, work.decode_model.layer_ids, flags.warm_seconds);
  if (!served.ok()) return std::move(served).TakeStatus();
  arm.warm_tokens = served.value();
  return {};
}

Status RunRounds(const OverlapFlags& flags, const OverlapWork& work, OverlapLoop& loop,
                 OverlapArm& arm) {
  loop.seconds_max = flags.phase_seconds;
  for (std::uint32_t round = 0; round < flags.round_count; ++round) {
    loop.ahead = 0;
    Result<OverlapTimes> decode = RunSteps(loop, work.decode_model, work.decode[round]);
    if (!decode.ok()) return std::move(decode).TakeStatus();
    arm.decode.Add(decode.value());
    loop.ahead = flags.prefill.ahead;
    Result<OverlapTimes> prefill = RunSteps(loop, work.prefill_model, work.prefill[round]);
    if (!prefill.ok()) return std::move(prefill).TakeStatus();
    arm.prefill.Add(prefill.value());
  }
  return {};
}

/// Lets the HBM tier see what the store has seen, in front of a model that takes no time.
Status WarmHbm(const OverlapFlags& flags, const OverlapWork& work, OverlapLoop& loop) {
  OverlapModel model = work.prefill_model;
  model.block_time = std::chrono::nanoseconds(0);
  loop.ahead = flags.prefill.ahead;
  loop.seconds_max = flags.warm_seconds;
  Result<OverlapTimes> times = RunSteps(loop, model, work.warm_steps);
  return times.ok() ? Status() : std::move(times).TakeStatus();
}

/// Opens what the arm's rows come from.
Status OpenRows(const OverlapFlags& flags, const OverlapWork& work, OverlapDevice* device,
                OverlapArm& arm, std::unique_ptr<Store>& store,
                std::unique_ptr<OverlapSource>& source) {
  if (arm.table.has_value()) {
    Result<OverlapTableLayout> layout = LayOutTable(work.info);
    if (!layout.ok()) return std::move(layout).TakeStatus();
    Result<std::unique_ptr<OverlapSource>> opened = device->OpenTable(
        *work.hasher, layout.value(), *arm.table, arm.fetch == OverlapFetch::kSourceBlocking);
    if (!opened.ok()) return std::move(opened).TakeStatus();
    source = std::move(opened).value();
    return {};
  }
  if (device != nullptr) device->DropTable();
  if (arm.budget_bytes == 0) return {};
  Result<std::unique_ptr<Store>> opened = OpenFor(flags, work, arm);
  if (!opened.ok()) return std::move(opened).TakeStatus();
  store = std::move(opened).value();
  arm.engine = store->Stats().engine;
  if (Status status = Warm(flags, work, *store, arm); !status.ok()) return status;
  if (arm.hbm_bytes == 0) return {};
  Result<std::unique_ptr<OverlapSource>> tier = device->OpenHbm(*store, arm.hbm_bytes);
  if (!tier.ok()) return std::move(tier).TakeStatus();
  source = std::move(tier).value();
  return {};
}

Status RunArm(const OverlapFlags& flags, const OverlapWork& work, OverlapDevice* device,
              OverlapArm& arm) {
  std::unique_ptr<Store> store;
  std::unique_ptr<OverlapSource> source;  // Goes before the store.
  if (Status status = OpenRows(flags, work, device, arm, store, source); !status.ok()) {
    return status;
  }
  OverlapLoop loop = {
      .fetch = arm.fetch,
      .store = source ? nullptr : store.get(),
      .source = source.get(),
      .engine = work.engine,
      .capacity = std::max<std::size_t>(flags.prefill.step_tokens, flags.decode.stream_count)};
  if (arm.hbm_bytes > 0) {
    if (Status status = WarmHbm(flags, work, loop); !status.ok()) return status;
  }
  const GroupCounts before = store ? CountsOf(*store) : GroupCounts{};
  const OverlapHits hbm_before = source ? source->Hits() : OverlapHits{};
  if (Status status = RunRounds(flags, work, loop, arm); !status.ok()) return status;
  if (!store) return {};
  const OverlapHits hbm_after = source ? source->Hits() : OverlapHits{};
  arm.hbm_hit_rate = tools::Ratio(static_cast<double>(hbm_after.hits - hbm_before.hits),
                                  static_cast<double>(hbm_after.groups - hbm_before.groups));
  const GroupCounts after = CountsOf(*store);
  const auto tokens = static_cast<double>(arm.decode.token_count + arm.prefill.token_count);
  arm.hit_rate = tools::Ratio(after.hits - before.hits, after.groups - before.groups);
  arm.reads_per_token = tools::Ratio(after.reads - before.reads, tokens);
  return {};
}

/// Whether all arms saw the same bytes in the steps that both ran.
Status CompareDigests(std::span<const OverlapArm> arms, OverlapTimes OverlapArm::*phase) {
  std::vector<std::uint64_t> expected;
  for (const OverlapArm& arm : arms) {
    if (!arm.has_rows() || !arm.left_out.empty()) continue;
    const std::vector<std::uint64_t>& digests = (arm.*phase).digests;
    expected.resize(std::max(expected.size(), digests.size()));
    for (std::size_t i = 0; i < digests.size(); ++i) {
      if (digests[i] == 0) continue;
      if (expected[i] == 0) expected[i] = digests[i];
      if (expected[i] != digests[i]) {
        return Status(
            StatusCode::kCorruption,
            fmt::format("\"{}\" saw other rows than an arm before it in step {}", arm.name, i));
      }
    }
  }
  return {};
}

Status RunArms(const OverlapFlags& flags, const OverlapWork& work, OverlapDevice* device,
               std::chrono::steady_clock::time_point begin, std::vector<OverlapArm>& arms) {
  for (std::size_t i = 0; i < arms.size(); ++i) {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin;
    const double seconds = CostOf(arms[i], flags, work.info).seconds;
    // The first two are what the others are compared with.
    if (flags.deadline_seconds > 0.0 && i >= 2 &&
        passed.count() + seconds > flags.deadline_seconds) {
      arms[i].left_out = fmt::format("it would take {:.0f} s, and {:.0f} of {:.0f} have passed",
                                     seconds, passed.count(), flags.deadline_seconds);
      continue;
    }
    Status status = RunArm(flags, work, device, arms[i]);
    if (status.code() == StatusCode::kResourceExhausted && i >= 2) {
      arms[i].left_out = std::string(status.message());
      continue;
    }
    if (!status.ok()) {
      return Status(status.code(), fmt::format("\"{}\": {}", arms[i].name, status.message()));
    }
  }
  if (Status status = CompareDigests(arms, &OverlapArm::decode); !status.ok()) return status;
  return CompareDigests(arms, &OverlapArm::prefill);
}

Status RunBench(const OverlapFlags& flags, OverlapDevice* device) {
  const auto begin = std::chrono::steady_clock::now();
  Result<CheckpointInfo> info = InspectTable(flags.checkpoint);
  if (!info.ok()) return std::move(info).TakeStatus();
  OverlapWork work{.info = std::move(info).value()};
  Result<std::vector<OverlapArm>> arms = ArmsOf(flags, device != nullptr);
  if (!arms.ok()) return std::move(arms).TakeStatus();
  if (flags.dry_run) PrintPlan(arms.value(), flags, work.info);
  if (Status status = CheckMemory(arms.value(), flags, work.info); !status.ok()) return status;
  if (flags.dry_run) return {};
  if (IsMadeTable(flags.checkpoint) && !flags.no_store) {
    return Fail(fmt::format("{} has no files to read from: ask for --no-store", flags.checkpoint));
  }
  if (Status status = LoadTrace(flags, work); !status.ok()) return status;
  if (Status status = PrepareModel(flags, work); !status.ok()) return status;
  ClockEngine clock;
  work.engine = &clock;
  if (device != nullptr) {
    Result<OverlapEngine*> engine = device->Open(work.info, work.decode_model, flags);
    if (!engine.ok()) return std::move(engine).TakeStatus();
    work.engine = engine.value();
  }
  if (Status status = RunArms(flags, work, device, begin, arms.value()); !status.ok()) {
    return status;
  }
  (flags.json ? PrintJson : PrintText)(flags, arms.value());
  return {};
}

}  // namespace

Result<std::vector<OverlapArm>> ArmsOf(const OverlapFlags& flags, bool on_device) {
  std::vector<OverlapArm> arms = {{.name = "no Engram"}};
  if (on_device) {
    arms.push_back({.name = "rows on the device", .fetch = OverlapFetch::kOnDevice});
  }
  if (flags.hbm_table) {
    arms.push_back(
        {.name = "table in HBM", .fetch = OverlapFetch::kSource, .table = TablePlace::kHbm});
  }
  if (flags.pinned_table) {
    arms.push_back(
        {.name = "table pinned", .fetch = OverlapFetch::kSource, .table = TablePlace::kPinned});
    arms.push_back({.name = "table pinned, in front",
                    .fetch = OverlapFetch::kSourceBlocking,
                    .table = TablePlace::kPinned});
  }
  if (flags.no_store) return arms;
  const auto add = [&flags, &arms](const std::string& budget, bool resident) -> Status {
    Result<std::uint64_t> bytes = tools::ParseByteSize(budget);
    if (!bytes.ok()) return std::move(bytes).TakeStatus();
    const std::string name = resident ? "resident in DRAM" : "tickets, " + budget;
    arms.push_back({name, OverlapFetch::kTickets, bytes.value(), resident});
    for (const std::string& hbm : flags.hbm_budgets) {
      Result<std::uint64_t> hbm_bytes = tools::ParseByteSize(hbm);
      if (!hbm_bytes.ok()) return std::move(hbm_bytes).TakeStatus();
      arms.push_back({fmt::format("HBM {}, {}", hbm, resident ? name : budget),
                      OverlapFetch::kSource, bytes.value(), resident, hbm_bytes.value()});
    }
    return {};
  };
  if (Status status = add(flags.resident_budget, true); !status.ok()) return status;
  const auto blocking = [&flags](const std::string& budget) {
    return std::ranges::count(flags.blocking_budgets, budget) > 0 ||
           std::ranges::count(flags.blocking_budgets, "all") > 0;
  };
  for (const std::string& budget : flags.budgets) {
    if (Status status = add(budget, false); !status.ok()) return status;
    if (!blocking(budget)) continue;
    arms.push_back(
        {"blocking, " + budget, OverlapFetch::kBlocking, tools::ParseByteSize(budget).value()});
  }
  return arms;
}

int OverlapMain(int argc, char** argv, const char* name, OverlapDevice* device) {
  OverlapFlags flags;
  if (std::optional<int> code = ParseOverlapFlags(argc, argv, name, device != nullptr, flags)) {
    return *code;
  }
  const Status status = RunBench(flags, device);
  if (!status.ok()) tools::PrintError(name, status.ToString());
  return status.ok() ? 0 : 1;
}

}  // namespace tiercel::bench
