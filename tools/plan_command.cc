// tiercel plan: tokens a second to expect of so much memory and such a disk.

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "tiercel/disk_profile.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/curve_run.h"
#include "tools/model_flags.h"
#include "tools/plan_model.h"
#include "tools/plan_report.h"
#include "tools/reference_curve.h"

namespace tiercel::tools {
namespace {

/// The table's sizes: an eighth of --dram to eight times as much.
constexpr int kDoublings = 3;
/// A store takes no less.
constexpr std::uint64_t kDramBytesMin = std::uint64_t{16} << 20;

struct PlanFlags {
  std::string dram;
  std::optional<double> iops;
  std::string disk_profile;
  std::string trace;
  std::string offsets;
  ModelFlags model;
  std::string scales = "auto";
  std::optional<double> target;
  std::uint32_t core_count = PlanMachine{}.core_count;
  std::optional<double> cpu_micros_per_read;
  std::string copy_rate = "9.4GB";
  bool json = false;
};

/// Fills in the disk's part of `report`.
Status AddDisk(const PlanFlags& flags, PlanReport& report) {
  if (flags.iops) {
    report.machine.reads_per_second = *flags.iops;
    report.disk = "by --iops";
    return {};
  }
  Result<DiskProfile> profile = LoadDiskProfile(flags.disk_profile);
  if (!profile.ok()) return ErrorOf(profile);
  Result<DiskChoice> choice = ChooseDiskSettings(profile.value().points);
  if (!choice.ok()) return ErrorOf(choice);
  report.machine.reads_per_second = choice.value().iops_max;
  for (const DiskPoint& point : profile.value().points) {
    if (point.block_bytes == choice.value().block_bytes &&
        point.queue_depth == choice.value().queue_depth) {
      report.machine.cpu_ns_per_read = point.cpu_ns_per_read;
    }
  }
  report.disk =
      fmt::format("best of {}, {}", profile.value().disk.description, profile.value().engine);
  return {};
}

/// Hit rates of the store on the trace of --trace, over the caches that will be asked for.
Result<HitCurve> MeasureCurve(const PlanFlags& flags, std::uint64_t dram_bytes) {
  CurveRun run;
  run.verb = "plan";
  Result<TracePaths> paths = FindTrace(flags.trace, flags.offsets);
  if (!paths.ok()) return ErrorOf(paths);
  run.trace = std::move(paths).value();
  run.policies = {CurvePolicy::kOurs};
  for (int doubling = -kDoublings - 1; doubling <= kDoublings; ++doubling) {
    const std::uint64_t size_bytes =
        doubling < 0 ? dram_bytes >> -doubling : dram_bytes << doubling;
    run.size_bytes.push_back(std::max(size_bytes, kDramBytesMin));
  }
  run.size_bytes.erase(std::unique(run.size_bytes.begin(), run.size_bytes.end()),
                       run.size_bytes.end());
  Result<Curve> curve = RunCurve(run, flags.model);
  if (!curve.ok()) return ErrorOf(curve);
  HitCurve result;
  result.source = fmt::format("of {}, {} tokens of it counted", run.trace.tokens,
                              FormatCount(curve.value().token_count));
  for (const CurvePoint& point : curve.value().lines.front().points) {
    result.points.push_back({point.ngram_count, point.hit_rate.rate});
  }
  return result;
}

void AddTarget(const PlanFlags& flags, ScalePlacement scales, PlanReport& report) {
  if (!flags.target) return;
  report.target_tokens_per_second = flags.target;
  // All tables and their slots' metadata: more memory is no use.
  report.target_dram_bytes_max = report.model.table_bytes() + report.model.table_bytes() / 16;
  report.target = PlanForTarget(report.model, report.curve, report.machine, scales, *flags.target,
                                report.target_dram_bytes_max);
  const Result<PlanPoint> most =
      PlanFor(report.model, report.curve, report.machine, scales, report.target_dram_bytes_max);
  if (most.ok()) report.least_reads_per_token = most.value().reads_per_token;
}

Result<ExitCode> RunPlan(const PlanFlags& flags) {
  PlanReport report;
  report.dram_bytes = OrUsage("--dram", ParseByteSize(flags.dram));
  if (report.dram_bytes < kDramBytesMin || report.dram_bytes > std::uint64_t{1} << 50) {
    throw CLI::ValidationError("--dram", flags.dram + " is not between 16MiB and 1024TiB");
  }
  const ScalePlacement scales = OrUsage("--scales", ParseScalePlacement(flags.scales));
  report.machine.core_count = flags.core_count;
  report.machine.copy_bytes_per_second =
      static_cast<double>(OrUsage("--copy-rate", ParseByteSize(flags.copy_rate)));
  if (report.machine.copy_bytes_per_second == 0.0) {
    throw CLI::ValidationError("--copy-rate", "0 bytes a second");
  }
  if (flags.iops.has_value() == !flags.disk_profile.empty()) {
    throw CLI::ValidationError("--iops", "give the disk's reads a second, or --disk-profile FILE");
  }
  CatchInterrupts();
  if (Status status = AddDisk(flags, report); !status.ok()) return status;
  if (flags.cpu_micros_per_read) report.machine.cpu_ns_per_read = *flags.cpu_micros_per_read * 1e3;
  Result<std::shared_ptr<const TokenMap>> map = flags.model.LoadMap();
  if (!map.ok()) return ErrorOf(map);
  Result<Recipe> recipe = flags.model.LoadModel(map.value().get());
  if (!recipe.ok()) return ErrorOf(recipe);
  const RecipeParameters& parameters = recipe.value().parameters;
  report.model = PlanModelOf(recipe.value(), flags.model.SizesOf(parameters),
                             flags.model.like.empty() ? flags.model.config : flags.model.like);
  if (flags.trace.empty()) {
    report.curve = ReferenceCurve(parameters.kind);
  } else {
    Result<HitCurve> curve = MeasureCurve(flags, report.dram_bytes);
    if (!curve.ok()) return ErrorOf(curve);
    report.curve = std::move(curve).value();
  }
  for (int doubling = -kDoublings; doubling <= kDoublings; ++doubling) {
    const std::uint64_t dram_bytes =
        doubling < 0 ? report.dram_bytes >> -doubling : report.dram_bytes << doubling;
    if (dram_bytes < kDramBytesMin) continue;
    Result<PlanPoint> point =
        PlanFor(report.model, report.curve, report.machine, scales, dram_bytes);
    if (point.ok()) {
      report.points.push_back(point.value());
    } else if (doubling == 0) {
      return ErrorOf(point);
    }
  }
  AddTarget(flags, scales, report);
  Print(flags.json ? ReportJson(report) : ReportText(report));
  return ExitCode::kOk;
}

void AddMachineOptions(CLI::App& app, PlanFlags& flags) {
  app.add_option("--iops", flags.iops, "Random 4 KiB reads a second of the disk")
      ->type_name("N")
      ->check(CLI::Range(1.0, 1e12));
  app.add_option("--disk-profile", flags.disk_profile,
                 "Instead of it, a profile from `tiercel calibrate`")
      ->type_name("FILE");
  app.add_option("--cores", flags.core_count, "Cores that the store may use")
      ->type_name("N")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--copy-rate", flags.copy_rate, "Bytes a second that a core copies")
      ->type_name("BYTES")
      ->capture_default_str();
  app.add_option("--cpu-per-read", flags.cpu_micros_per_read,
                 "Microseconds of CPU time a read; else the profile's, or 3")
      ->type_name("US")
      ->check(CLI::Range(0.0, 1e6));
}

}  // namespace

Command AddPlanCommand(CLI::App& program) {
  auto flags = std::make_shared<PlanFlags>();
  CLI::App* const app =
      program.add_subcommand("plan", "Tokens a second to expect of an amount of memory and a disk");
  app->add_option("--dram", flags->dram, "Memory for rows, such as 16GiB")
      ->type_name("BYTES")
      ->required();
  AddMachineOptions(*app, *flags);
  app->add_option("--trace", flags->trace,
                  "Token trace to take hit rates from; else those of the reference trace")
      ->type_name("TRACE");
  app->add_option("--offsets", flags->offsets, "Its documents' boundaries")->type_name("FILE");
  flags->model.AddTo(*app);
  app->add_option("--scales", flags->scales,
                  "Where scales stored apart are kept: auto, resident or disk")
      ->type_name("PLACE")
      ->capture_default_str();
  app->add_option("--target-tokens-per-s", flags->target, "Say which memory gives this many")
      ->type_name("N")
      ->check(CLI::Range(1e-3, 1e12));
  app->add_flag("--json", flags->json, "Print the plan as JSON");
  return {.app = app, .run = [flags] { return RunPlan(*flags); }};
}

}  // namespace tiercel::tools
