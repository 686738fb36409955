// tiercel-peers: the same work on the same checkpoint in every way that people get rows
// of a table today, and in Tiercel, side by side.
//
// Measured: the time from having row ids (Tiercel: token ids) to having rows in the
// caller's memory; CPU time of the process meanwhile. Not measured: opening, more than
// one caller, the copy to a GPU. docs/performance.md has the method.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/prng.h"
#include "bench/peers/arm_list.h"
#include "bench/peers/machine.h"
#include "bench/peers/memory_cgroup.h"
#include "bench/peers/report.h"
#include "bench/peers/runner.h"
#include "bench/peers/workload.h"
#include "tools/command_line.h"

namespace tiercel::peers {
namespace {

const std::string kData = TIERCEL_SOURCE_DIR "/tests/data/";

struct Flags {
  std::string path;
  TracePaths trace = {kData + "sample_trace.tokens.u32.zst", kData + "sample_trace.offsets.u64",
                      kData + "token_map_v3.u32"};
  std::vector<std::string> arms;
  std::vector<std::string> workloads;
  std::uint32_t repeats = 0;  ///< 0: 5, or 3 with --quick.
  std::uint32_t slices_between = RunPlan{}.slices_between;
  double slice_seconds = 0;  ///< 0: 1, or 0.3 with --quick.
  std::string dram = "256MiB";
  std::string limit;
  std::string scratch;
  std::string scales = "resident";
  std::string drop = "all";
  std::uint32_t io_threads = 0;
  std::uint32_t block_bytes = 0;
  WorkloadSizes sizes;
  double cap_seconds = 0;  ///< 0: 10, or 2 with --quick.
  std::uint64_t batches_max = RunContext{}.batches_max;
  std::uint64_t seed = 0;
  bool quick = false;
  std::string json;
  std::string svg;
};

void AddOptions(CLI::App& app, Flags& flags) {
  app.add_option("PATH", flags.path, "Checkpoint made by `tiercel make-checkpoint`")->required();
  app.add_option("--arms", flags.arms, "Arms, such as tiercel,mmap-1; all unless given")
      ->delimiter(',');
  app.add_option("--workloads", flags.workloads, "Such as cold432,prefill; all unless given")
      ->delimiter(',');
  app.add_option("--repeats", flags.repeats, "Slices of each arm at each workload; 5")
      ->check(CLI::Range(1, 1000));
  app.add_option("--slices-between", flags.slices_between,
                 "Slices of other arms between two of the one that all are put beside")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option("--slice-seconds", flags.slice_seconds, "Length of a slice; 1")
      ->check(CLI::Range(0.001, 600.0));
  app.add_option("--dram", flags.dram, "Memory for rows of every arm")->capture_default_str();
  app.add_option("--limit", flags.limit, "Memory limit of an arm; --dram and 384MiB");
  app.add_option("--scratch", flags.scratch, "Folder for RocksDB's copy; PATH-peers");
  app.add_option("--scales", flags.scales, "Scales stored apart: resident, or disk, in all arms")
      ->check(CLI::IsMember({"resident", "disk"}))
      ->capture_default_str();
  app.add_option("--drop", flags.drop, "Page cache dropped before a slice: all, or files alone")
      ->check(CLI::IsMember({"all", "files"}))
      ->capture_default_str();
  app.add_option("--io-threads", flags.io_threads, "Of Tiercel; 0: its own choice")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  app.add_option("--block", flags.block_bytes,
                 "What O_DIRECT reads are widened to, fio's too; 0: the disk's block");
  app.add_option("--tokens", flags.trace.tokens, "Trace; the sample of the source tree");
  app.add_option("--offsets", flags.trace.offsets, "Its documents");
  app.add_option("--token-map", flags.trace.token_map, "Its token map; \"\": compressed ids");
  app.add_option("--prefill-tokens", flags.sizes.prefill_tokens, "Of a prefill batch")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app.add_option("--random-rows", flags.sizes.random_rows, "Rows of a call at random reads")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app.add_option("--replay-tokens", flags.sizes.replay_tokens, "Of a replay, warming included")
      ->capture_default_str();
  app.add_option("--cap-seconds", flags.cap_seconds,
                 "When an arm that takes row after row gives up a batch; 10")
      ->check(CLI::Range(0.01, 3600.0));
  app.add_option("--batches-max", flags.batches_max, "Batches of a slice, at most");
  app.add_option("--seed", flags.seed, "Of windows, names and order; the time unless given");
  app.add_flag("--quick", flags.quick, "Fewer arms, 3 repeats, slices of 0.3 s, small replay");
  app.add_option("--json", flags.json, "Also writes all figures there");
  app.add_option("--svg", flags.svg, "Also draws the ratios there");
}

template <typename T>
T OrUsage(const char* option, Result<T> result) {
  if (!result.ok()) throw CLI::ValidationError(option, std::string(result.status().message()));
  return std::move(result).value();
}

void ChooseArms(const Flags& flags, RunPlan& plan) {
  for (const ArmEntry& arm : AllArms()) {
    const bool named =
        std::find(flags.arms.begin(), flags.arms.end(), arm.name) != flags.arms.end();
    if (named || (flags.arms.empty() && (arm.quick || !flags.quick))) plan.arms.push_back(&arm);
  }
  for (const std::string& name : flags.arms) {
    const bool known = std::any_of(AllArms().begin(), AllArms().end(),
                                   [&name](const ArmEntry& arm) { return arm.name == name; });
    if (known) continue;
    std::string names;
    for (const ArmEntry& arm : AllArms()) names += " " + arm.name;
    throw CLI::ValidationError("--arms", fmt::format("'{}' is none of:{}", name, names));
  }
}

void ChooseWorkloads(const Flags& flags, const Recipe& recipe, RunPlan& plan) {
  const std::vector<Workload> all = MakeWorkloads(recipe, flags.sizes);
  if (flags.workloads.empty()) plan.workloads = all;
  for (const std::string& name : flags.workloads) {
    const auto found =
        std::find_if(all.begin(), all.end(), [&name](const Workload& w) { return w.name == name; });
    if (found == all.end()) {
      std::string names;
      for (const Workload& workload : all) names += " " + workload.name;
      throw CLI::ValidationError("--workloads", fmt::format("'{}' is none of:{}", name, names));
    }
    plan.workloads.push_back(*found);
  }
}

std::vector<std::pair<std::string, std::string>> Facts(const Flags& flags, const RunPlan& plan,
                                                       const RunContext& context,
                                                       const MemoryCgroupParent& cgroups,
                                                       const PageCache& page_cache) {
  const Machine machine = DescribeMachine(flags.path);
  const CheckpointInfo& info = context.table->info();
  const std::string fio = FioVersion();
  return {
      {"machine", fmt::format("{}, {} cores, {} of memory, load {:.2f} before the run", machine.cpu,
                              machine.core_count, tools::FormatBinaryBytes(machine.memory_bytes),
                              machine.load)},
      {"kernel", machine.kernel},
      {"disk", fmt::format("{}; {}; read in blocks of {} B", machine.disk, machine.file_system,
                           context.table->block_bytes())},
      {"table", fmt::format("{}, {} in {} files, {} layers", info.layout,
                            tools::FormatBytes(static_cast<double>(info.table_bytes)),
                            info.files.size(), info.layers.size())},
      {"fio", fio.empty() ? "not installed" : fio},
      {"RocksDB", RocksDbVersion()},
      {"budget", fmt::format("{} for rows in every arm; scales {} in the arms that read the files",
                             tools::FormatBinaryBytes(plan.arm_options.dram_budget_bytes),
                             plan.arm_options.resident_scales ? "in DRAM, within it" : "on disk")},
      {"memory limit", cgroups.enforced() ? fmt::format("{} a process, page cache included ({})",
                                                        tools::FormatBinaryBytes(plan.limit_bytes),
                                                        cgroups.description())
                                          : cgroups.description()},
      {"page cache", page_cache.description() + ", before each slice"},
      {"batches", fmt::format("windows of {} tokens of a trace, ids renamed by a new bijection for "
                              "each batch (replay: each slice), so that no batch asks again for "
                              "rows that another had read; seed {}",
                              tools::FormatCount(context.trace->tokens.size()), plan.seed)},
      {"slices", fmt::format("{} repeats of {} s, arms in random order, the reference after every "
                             "{} others; a new process for each slice, opening not counted",
                             plan.repeat_count, context.slice_seconds, plan.slices_between)},
  };
}

bool Wants(const RunPlan& plan, std::string_view prefix) {
  return std::any_of(plan.arms.begin(), plan.arms.end(),
                     [prefix](const ArmEntry* arm) { return arm->name.starts_with(prefix); });
}

Status WriteReports(const Flags& flags, const Report& report) {
  tools::Print(ReportText(report));
  if (!flags.json.empty()) {
    if (Status status = WriteFileAtomically(flags.json, ReportJson(report)); !status.ok()) {
      return status;
    }
  }
  if (flags.svg.empty()) return {};
  Result<std::string> svg = ReportSvg(report);
  if (!svg.ok()) return std::move(svg).TakeStatus();
  return WriteFileAtomically(flags.svg, svg.value());
}

Status RunPeers(Flags flags) {
  tools::CatchInterrupts();
  RunPlan plan;
  plan.arm_options.dram_budget_bytes = OrUsage("--dram", tools::ParseByteSize(flags.dram));
  plan.limit_bytes = flags.limit.empty()
                         ? plan.arm_options.dram_budget_bytes + (std::uint64_t{384} << 20)
                         : OrUsage("--limit", tools::ParseByteSize(flags.limit));
  plan.arm_options.resident_scales = flags.scales == "resident";
  plan.arm_options.io_thread_count = flags.io_threads;
  plan.repeat_count = flags.repeats != 0 ? flags.repeats : flags.quick ? 3 : 5;
  plan.slices_between = flags.slices_between;
  plan.seed =
      flags.seed != 0
          ? flags.seed
          : static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count());
  if (flags.quick)
    flags.sizes.replay_tokens = std::min<std::uint64_t>(flags.sizes.replay_tokens, 1024);
  ChooseArms(flags, plan);
  while (flags.path.size() > 1 && flags.path.back() == '/') flags.path.pop_back();
  plan.arm_options.scratch_dir = flags.scratch.empty() ? flags.path + "-peers" : flags.scratch;

  Result<PeerTable> table = PeerTable::Open(flags.path, flags.block_bytes);
  if (!table.ok()) return std::move(table).TakeStatus();
  const Recipe& recipe = table.value().info().recipe;
  ChooseWorkloads(flags, recipe, plan);
  Result<Hasher> hasher = Hasher::Create(recipe);
  if (!hasher.ok()) return std::move(hasher).TakeStatus();
  Result<PeerTrace> trace = LoadPeerTrace(flags.trace, recipe);
  if (!trace.ok()) return std::move(trace).TakeStatus();
  RunContext context;
  context.table = &table.value();
  context.hasher = &hasher.value();
  context.trace = &trace.value();
  context.sizes = flags.sizes;
  context.slice_seconds = flags.slice_seconds > 0 ? flags.slice_seconds : flags.quick ? 0.3 : 1.0;
  context.cap_seconds = flags.cap_seconds > 0 ? flags.cap_seconds : flags.quick ? 2.0 : 10.0;
  context.batches_max = flags.batches_max;
  if (HasRocksDb() && Wants(plan, "rocksdb")) {
    if (Status status = PrepareRocksDb(table.value(), plan.arm_options.scratch_dir); !status.ok()) {
      return status;
    }
  }
  const MemoryCgroupParent cgroups = MemoryCgroupParent::Find();
  const PageCache page_cache(flags.drop == "all");
  Report report;
  report.facts = Facts(flags, plan, context, cgroups, page_cache);
  Result<std::vector<WorkloadResult>> results = RunAll(plan, context, cgroups, page_cache);
  if (!results.ok()) return std::move(results).TakeStatus();
  report.workloads = std::move(results).value();
  return WriteReports(flags, report);
}

}  // namespace
}  // namespace tiercel::peers

int main(int argc, char** argv) {
  tiercel::peers::Flags flags;
  CLI::App app("Tiercel and its peers at the same work on the same checkpoint");
  tiercel::peers::AddOptions(app, flags);
  try {
    app.parse(argc, argv);
    const tiercel::Status status = tiercel::peers::RunPeers(flags);
    if (status.ok()) return 0;
    fmt::print(stderr, "tiercel-peers: {}\n", status.ToString());
    return status.code() == tiercel::StatusCode::kCorruption ? 1 : 3;
  } catch (const CLI::Error& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "tiercel-peers: {}\n", error.what());
    return 3;
  }
}
