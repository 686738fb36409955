#include "bench/overlap_arms.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "bench/overlap_loop.h"
#include "tiercel/synthetic.h"
#include "tools/command_line.h"
#include "tools/token_trace.h"

namespace tiercel::bench {
namespace {

using Json = nlohmann::ordered_json;

/// A way to serve, and what it came to.
struct OverlapArm {
  std::string name;
  OverlapFetch fetch = OverlapFetch::kNone;
  std::uint64_t budget_bytes = 0;  ///< 0: no store.
  bool resident = false;
  OverlapTimes decode;
  OverlapTimes prefill;
  /// Of the groups that the loops asked for, those that were in DRAM.
  double hit_rate = 0.0;
  double reads_per_token = 0.0;
  std::string engine;
};

/// What all arms work on.
struct OverlapWork {
  tools::TokenTrace trace;
  std::shared_ptr<const TokenMap> token_map;
  std::vector<OverlapSequence> sequences;
  std::vector<OverlapSequence> warm;
  OverlapModel decode_model;
  OverlapModel prefill_model;
};

Status Fail(std::string what) {
  return Status(StatusCode::kInvalidArgument, std::move(what));
}

std::chrono::nanoseconds Milliseconds(double count) {
  return std::chrono::nanoseconds(static_cast<std::int64_t>(count * 1e6));
}

Result<OverlapWork> PrepareWork(const OverlapFlags& flags, const OverlapDevice& device) {
  OverlapWork work;
  Result<CheckpointInfo> info = InspectCheckpoint(flags.checkpoint);
  if (!info.ok()) return std::move(info).TakeStatus();
  const RecipeParameters& recipe = info.value().recipe.parameters;
  std::uint64_t id_limit =
      recipe.compressed_vocab_size != 0 ? recipe.compressed_vocab_size : recipe.vocab_size;
  if (!flags.token_map.empty()) {
    Result<TokenMap> map = TokenMap::Load(flags.token_map);
    if (!map.ok()) return std::move(map).TakeStatus();
    work.token_map = std::make_shared<const TokenMap>(std::move(map).value());
    id_limit = work.token_map->entry_count();
  }
  Result<tools::TracePaths> paths = tools::FindTrace(flags.trace, flags.offsets);
  if (!paths.ok()) return std::move(paths).TakeStatus();
  Result<tools::TokenTrace> trace = tools::LoadTokenTrace(paths.value(), id_limit);
  if (!trace.ok()) return std::move(trace).TakeStatus();
  work.trace = std::move(trace).value();
  work.sequences = ChooseSequences(work.trace.offsets, flags.sequences);
  SequenceChoice warm = flags.sequences;
  warm.seed += 1000;
  warm.count = flags.warm_sequence_count;
  work.warm = ChooseSequences(work.trace.offsets, warm);
  if (work.sequences.empty()) {
    return Fail(
        fmt::format("no document of {} has {} tokens", flags.trace, flags.sequences.length_max));
  }
  work.decode_model = {.block_count = flags.block_count,
                       .block_time = Milliseconds(flags.block_ms),
                       .layer_ids = recipe.layer_ids};
  std::ranges::sort(work.decode_model.layer_ids);
  if (work.decode_model.layer_ids.back() >= flags.block_count) {
    return Fail(fmt::format("{} blocks do not reach layer {}", flags.block_count,
                            work.decode_model.layer_ids.back()));
  }
  if (device.attach) {
    Status status = device.attach(info.value(), flags, work.decode_model);
    if (!status.ok()) return status;
  }
  work.prefill_model = work.decode_model;
  work.prefill_model.block_time = Milliseconds(flags.prefill_block_ms);
  return work;
}

Result<std::unique_ptr<Store>> OpenFor(const OverlapFlags& flags, const OverlapWork& work,
                                       const OverlapArm& arm) {
  StoreOptions options;
  options.dram_budget_bytes = arm.budget_bytes;
  options.token_map = work.token_map;
  // The tickets of a step and of those beforehand, and no more: the cache has the rest.
  options.prefetch.tickets_max = flags.prefill.ahead + 2;
  options.prefetch.tokens_max =
      std::uint64_t{flags.prefill.ahead + 2} * 8 *
      std::max<std::uint64_t>(flags.prefill.step_tokens, flags.decode.stream_count);
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

/// Runs one phase and adds what it took to `sum`.
template <typename Phase>
Status AddPhase(const Phase& phase, OverlapTimes& sum) {
  Result<OverlapTimes> run = phase();
  if (!run.ok()) return std::move(run).TakeStatus();
  const OverlapTimes& times = run.value();
  sum.token_count += times.token_count;
  sum.step_count += times.step_count;
  sum.seconds += times.seconds;
  sum.planned_seconds += times.planned_seconds;
  sum.compute_seconds += times.compute_seconds;
  sum.start_seconds += times.start_seconds;
  sum.use_seconds += times.use_seconds;
  sum.wait_seconds.resize(times.wait_seconds.size());
  for (std::size_t i = 0; i < times.wait_seconds.size(); ++i) {
    sum.wait_seconds[i] += times.wait_seconds[i];
  }
  sum.digest = (sum.digest ^ times.digest) * 0x9E3779B97F4A7C15U;
  return {};
}

/// The sequences of one of `count` rounds: every round its own, or a cache would know them.
std::span<const OverlapSequence> RoundOf(const OverlapWork& work, std::uint32_t round,
                                         std::uint32_t count) {
  const std::span<const OverlapSequence> all = work.sequences;
  const std::size_t begin = all.size() * round / count;
  return all.subspan(begin, all.size() * (round + 1) / count - begin);
}

Status RunArm(const OverlapFlags& flags, const OverlapWork& work, OverlapArm& arm) {
  std::unique_ptr<Store> store;
  if (arm.budget_bytes > 0) {
    Result<std::unique_ptr<Store>> opened = OpenFor(flags, work, arm);
    if (!opened.ok()) return std::move(opened).TakeStatus();
    store = std::move(opened).value();
    arm.engine = store->Stats().engine;
    const auto& warm = arm.resident ? work.sequences : work.warm;
    Status status = ServeOnce(*store, work.trace.tokens, warm, work.decode_model.layer_ids);
    if (!status.ok()) return status;
  }
  const GroupCounts before = store ? CountsOf(*store) : GroupCounts{};
  // Decode and prefill in halves of the sequences, so that neither serves the other's.
  for (std::uint32_t round = 0; round < flags.round_count; ++round) {
    Status status = AddPhase(
        [&] {
          return RunDecode(store.get(), work.trace.tokens,
                           RoundOf(work, 2 * round, 2 * flags.round_count), work.decode_model,
                           arm.fetch, flags.decode);
        },
        arm.decode);
    if (!status.ok()) return status;
    status = AddPhase(
        [&] {
          return RunPrefill(store.get(), work.trace.tokens,
                            RoundOf(work, 2 * round + 1, 2 * flags.round_count), work.prefill_model,
                            arm.fetch, flags.prefill);
        },
        arm.prefill);
    if (!status.ok()) return status;
  }
  if (!store) return {};
  const GroupCounts after = CountsOf(*store);
  const auto tokens = static_cast<double>(arm.decode.token_count + arm.prefill.token_count);
  arm.hit_rate = tools::Ratio(after.hits - before.hits, after.groups - before.groups);
  arm.reads_per_token = tools::Ratio(after.reads - before.reads, tokens);
  return {};
}

Result<std::vector<OverlapArm>> ArmsOf(const OverlapFlags& flags, const OverlapDevice& device) {
  std::vector<OverlapArm> arms = {{.name = "no Engram"}};
  Result<std::uint64_t> resident = tools::ParseByteSize(flags.resident_budget);
  if (!resident.ok()) return std::move(resident).TakeStatus();
  if (device.has_rows) {
    arms.push_back({.name = "rows on the device", .fetch = OverlapFetch::kOnDevice});
  }
  arms.push_back({.name = "resident in DRAM",
                  .fetch = OverlapFetch::kTickets,
                  .budget_bytes = resident.value(),
                  .resident = true});
  for (const std::string& text : flags.budgets) {
    Result<std::uint64_t> budget = tools::ParseByteSize(text);
    if (!budget.ok()) return std::move(budget).TakeStatus();
    arms.push_back({"tickets, " + text, OverlapFetch::kTickets, budget.value()});
    arms.push_back({"blocking, " + text, OverlapFetch::kBlocking, budget.value()});
  }
  return arms;
}

/// What an arm has fewer tokens a second than another, in percent.
double LossPercent(const OverlapTimes& arm, const OverlapTimes& base) {
  return 100.0 * (1.0 - tools::Ratio(arm.tokens_per_second(), base.tokens_per_second()));
}

Json TimesJson(const OverlapTimes& times, const OverlapTimes& none, const OverlapTimes& resident) {
  return {{"tokens", times.token_count},
          {"steps", times.step_count},
          {"seconds", times.seconds},
          {"tokens_per_second", times.tokens_per_second()},
          {"loss_percent_to_none", LossPercent(times, none)},
          {"loss_percent_to_second", LossPercent(times, resident)},
          {"cost_percent", times.cost_percent()},
          {"planned_seconds", times.planned_seconds},
          {"compute_seconds", times.compute_seconds},
          {"start_seconds", times.start_seconds},
          {"exposed_seconds", times.exposed_seconds()},
          {"exposed_seconds_by_layer", times.wait_seconds},
          {"use_seconds", times.use_seconds}};
}

void PrintPhase(const std::vector<OverlapArm>& arms, const char* name,
                OverlapTimes OverlapArm::*phase) {
  tools::Print(fmt::format("\n{:<24}{:>10}{:>11}{:>13}{:>10}{:>12}{:>12}{:>10}\n", name, "tokens/s",
                           "loss", "to second", "cost", "Start() us", "exposed us", "use us"));
  for (const OverlapArm& arm : arms) {
    const OverlapTimes& times = arm.*phase;
    const double step_us = 1e6 / static_cast<double>(std::max<std::uint64_t>(times.step_count, 1));
    tools::Print(fmt::format(
        "{:<24}{:>10.1f}{:>9.2f} %{:>11.2f} %{:>8.2f} %{:>12.0f}{:>12.0f}{:>10.0f}\n", arm.name,
        times.tokens_per_second(), LossPercent(times, arms[0].*phase),
        LossPercent(times, arms[1].*phase), times.cost_percent(), times.start_seconds * step_us,
        times.exposed_seconds() * step_us, times.use_seconds * step_us));
  }
}

void PrintText(const OverlapFlags& flags, const std::vector<OverlapArm>& arms) {
  tools::Print(fmt::format(
      "{} blocks, {} ms each in decode ({} streams), {} ms in prefill ({} tokens a step); {} "
      "sequences\nloss: in tokens/s, against no Engram and against the second arm; cost: what rows "
      "took, "
      "in percent of steps whose blocks take just their time\n",
      flags.block_count, flags.block_ms, flags.decode.stream_count, flags.prefill_block_ms,
      flags.prefill.step_tokens, flags.sequences.count));
  PrintPhase(arms, "decode", &OverlapArm::decode);
  PrintPhase(arms, "prefill", &OverlapArm::prefill);
  tools::Print("\n");
  for (const OverlapArm& arm : arms) {
    if (arm.budget_bytes == 0) continue;
    tools::Print(fmt::format("{:<24}{} hits, {:.1f} reads a token, {}\n", arm.name,
                             tools::FormatPercent(arm.hit_rate, 1.0), arm.reads_per_token,
                             arm.engine));
  }
}

void PrintJson(const OverlapFlags& flags, const std::vector<OverlapArm>& arms) {
  Json json = {{"checkpoint", flags.checkpoint},       {"blocks", flags.block_count},
               {"block_ms", flags.block_ms},           {"prefill_block_ms", flags.prefill_block_ms},
               {"streams", flags.decode.stream_count}, {"step_tokens", flags.prefill.step_tokens},
               {"sequences", flags.sequences.count}};
  json["arms"] = Json::array();
  for (const OverlapArm& arm : arms) {
    json["arms"].push_back({{"name", arm.name},
                            {"dram_budget_bytes", arm.budget_bytes},
                            {"hit_rate", arm.hit_rate},
                            {"reads_per_token", arm.reads_per_token},
                            {"engine", arm.engine},
                            {"decode", TimesJson(arm.decode, arms[0].decode, arms[1].decode)},
                            {"prefill", TimesJson(arm.prefill, arms[0].prefill, arms[1].prefill)}});
  }
  tools::Print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

Status RunBench(const OverlapFlags& flags, const OverlapDevice& device) {
  Result<OverlapWork> work = PrepareWork(flags, device);
  if (!work.ok()) return std::move(work).TakeStatus();
  Result<std::vector<OverlapArm>> arms = ArmsOf(flags, device);
  if (!arms.ok()) return std::move(arms).TakeStatus();
  std::set<std::uint64_t> decode_digests;
  std::set<std::uint64_t> prefill_digests;
  for (OverlapArm& arm : arms.value()) {
    if (Status status = RunArm(flags, work.value(), arm); !status.ok()) return status;
    if (arm.budget_bytes == 0) continue;
    decode_digests.insert(arm.decode.digest);
    prefill_digests.insert(arm.prefill.digest);
  }
  if (decode_digests.size() > 1 || prefill_digests.size() > 1) {
    return Status(StatusCode::kCorruption, "arms saw different rows for the same tokens");
  }
  if (flags.json) {
    PrintJson(flags, arms.value());
  } else {
    PrintText(flags, arms.value());
  }
  return {};
}

void AddOptions(CLI::App& app, OverlapFlags& flags) {
  app.add_option("checkpoint", flags.checkpoint, "Checkpoint directory")->required();
  app.add_option("trace", flags.trace, "Token trace: TRACE.tokens.u32.zst, or what it begins with")
      ->required();
  app.add_option("--offsets", flags.offsets, "Its documents' boundaries");
  app.add_option("--token-map", flags.token_map, "Where the trace holds raw ids: their map");
  app.add_option("--budgets", flags.budgets, "DRAM budgets, by commas")->delimiter(',');
  app.add_option("--resident-budget", flags.resident_budget,
                 "DRAM that holds every row which the run asks for");
  app.add_option("--blocks", flags.block_count, "Blocks of the model")->check(CLI::Range(1, 1024));
  app.add_option("--block-ms", flags.block_ms, "Time of a block in decode")
      ->check(CLI::Range(0.0, 1e4));
  app.add_option("--prefill-block-ms", flags.prefill_block_ms, "Time of a block in prefill")
      ->check(CLI::Range(0.0, 1e4));
  app.add_option("--streams", flags.decode.stream_count, "Sequences decoded side by side")
      ->check(CLI::Range(1, 4096));
  app.add_option("--decode-steps", flags.decode.step_count, "Steps of a round, at most");
  app.add_option("--step-tokens", flags.prefill.step_tokens, "Tokens of a step of prefill")
      ->check(CLI::Range(1, 65536));
  app.add_option("--ahead", flags.prefill.ahead, "Steps of prefill asked for beforehand")
      ->check(CLI::Range(0, 64));
  app.add_option("--prefill-steps", flags.prefill.step_count, "Steps of a round, at most");
  app.add_option("--rounds", flags.round_count, "Decode and prefill take turns so many times")
      ->check(CLI::Range(1, 100));
  app.add_option("--sequences", flags.sequences.count, "Sequences of 100 to 1024 tokens")
      ->check(CLI::Range(2, 1 << 20));
  app.add_option("--length-max", flags.sequences.length_max, "Longest of them")
      ->check(CLI::Range(100, 1 << 20));
  app.add_option("--warm-sequences", flags.warm_sequence_count, "Others, served before")
      ->check(CLI::Range(0, 1 << 20));
  app.add_option("--seed", flags.sequences.seed, "Of the choice of sequences");
  app.add_flag("--json", flags.json, "One JSON object on stdout");
}

}  // namespace

int OverlapMain(int argc, char** argv, const char* name, const OverlapDevice& device) {
  CLI::App app("What a table outside of the model's memory costs", name);
  OverlapFlags flags;
  AddOptions(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  const Status status = RunBench(flags, device);
  if (!status.ok()) tools::PrintError(name, status.ToString());
  return status.ok() ? 0 : 1;
}

}  // namespace tiercel::bench
