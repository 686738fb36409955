#include <CLI/CLI.hpp>

#include "bench/overlap_arms.h"

namespace tiercel::bench {
namespace {

void AddTableOptions(CLI::App& app, OverlapFlags& flags) {
  app.add_option("checkpoint", flags.checkpoint,
                 "Checkpoint directory; or made:N, DeepSeek-V4.1's tables at 1/N of their size, "
                 "which have no files: with --no-store, or --dry-run")
      ->required();
  app.add_option("trace", flags.trace, "Token trace: TRACE.tokens.u32.zst, or what it begins with")
      ->required();
  app.add_option("--offsets", flags.offsets, "Its documents' boundaries");
  app.add_option("--token-map", flags.token_map, "Where the trace holds raw ids: their map");
  app.add_option("--budgets", flags.budgets, "DRAM budgets, by commas")->delimiter(',');
  app.add_option("--blocking-budgets", flags.blocking_budgets,
                 "Those of them that blocking lookups are run with, too: all, none or a list")
      ->delimiter(',');
  app.add_option("--resident-budget", flags.resident_budget,
                 "DRAM that holds every row which the run asks for");
  app.add_flag("--no-store", flags.no_store, "No arm reads the checkpoint's files");
}

void AddModelOptions(CLI::App& app, OverlapFlags& flags) {
  app.add_option("--blocks", flags.block_count, "Blocks of the model")->check(CLI::Range(1, 1024));
  app.add_option("--block-ms", flags.block_ms, "Time of a block in decode")
      ->check(CLI::Range(0.0, 1e4));
  app.add_option("--prefill-block-ms", flags.prefill_block_ms, "Time of a block in prefill")
      ->check(CLI::Range(0.0, 1e4));
  app.add_option("--streams", flags.decode.stream_count, "Sequences decoded side by side")
      ->check(CLI::Range(1, 4096));
  app.add_option("--decode-steps", flags.decode.step_count, "Steps of a round, at most");
  app.add_option("--step-tokens", flags.prefill.step_tokens, "Tokens of a step of prefill")
      ->check(CLI::Range(1, 65535));
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
}

void AddRunOptions(CLI::App& app, OverlapFlags& flags) {
  app.add_option("--warm-seconds", flags.warm_seconds, "Time of that in one arm, at most");
  app.add_option("--phase-seconds", flags.phase_seconds,
                 "Time of decode or prefill in one round, at most: a slower arm has fewer steps");
  app.add_option("--deadline", flags.deadline_seconds,
                 "Seconds from the start on: arms that would not end by then are left out");
  app.add_flag("--dry-run", flags.dry_run,
               "Print what each arm would take in memory and time, and run nothing");
  app.add_option("--memory", flags.memory, "Host memory there is; else the machine is asked");
  app.add_option("--reads-per-second", flags.reads_per_second, "What the plan takes the disk for")
      ->check(CLI::PositiveNumber);
  app.add_flag("--json", flags.json, "One JSON object on stdout");
}

void AddDeviceOptions(CLI::App& app, OverlapFlags& flags) {
  app.add_option("--hbm-budgets", flags.hbm_budgets,
                 "Budgets of the HBM tier, by commas: an arm each for each DRAM budget")
      ->delimiter(',');
  app.add_flag("--hbm-table", flags.hbm_table, "An arm with the whole table in device memory");
  app.add_flag("--pinned-table", flags.pinned_table,
               "Arms with the whole table in pinned host memory, gathered over PCIe");
  app.add_option("--gather-multiprocessors", flags.gather_multiprocessors,
                 "Multiprocessors that a gather may fill; 0: all")
      ->check(CLI::Range(0, 4096));
}

}  // namespace

std::optional<int> ParseOverlapFlags(int argc, char** argv, const char* name, bool on_device,
                                     OverlapFlags& flags) {
  CLI::App app("What a table outside of the model's memory costs", name);
  AddTableOptions(app, flags);
  AddModelOptions(app, flags);
  AddRunOptions(app, flags);
  if (on_device) AddDeviceOptions(app, flags);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return std::nullopt;
}

}  // namespace tiercel::bench
