#include "bench/peers/runner.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "base/prng.h"
#include "bench/peers/child.h"
#include "tools/command_line.h"

namespace tiercel::peers {
namespace {

/// A slice that was run: whose, when, and what came out.
struct Slice {
  std::size_t arm = 0;  ///< Of the workload's arms.
  std::uint32_t repeat = 0;
  std::size_t turn = 0;  ///< In the repeat.
  SliceFigures figures;
};

double SecondsPerRow(const SliceFigures& figures) {
  return figures.seconds / static_cast<double>(figures.rows);
}
double CpuPerRow(const SliceFigures& figures) {
  return figures.cpu_seconds / static_cast<double>(figures.rows);
}

/// Runs one workload's slices.
/// Threading: one thread at a time.
class WorkloadRunner {
 public:
  WorkloadRunner(const RunPlan& plan, const RunContext& context, const MemoryCgroupParent& cgroups,
                 const PageCache& page_cache, const Workload& workload)
      : plan_(plan),
        context_(context),
        cgroups_(cgroups),
        page_cache_(page_cache),
        workload_(workload),
        prng_(SplitMix64(plan.seed) ^ std::hash<std::string>()(workload.name)) {
    for (const ArmEntry* const arm : plan.arms) {
      if (Runs(*arm, workload)) arms_.push_back(arm);
    }
    kept_.resize(arms_.size());
    not_run_.resize(arms_.size());
    descriptions_.resize(arms_.size());
    for (const TableFile& file : context.table->info().files) paths_.push_back(file.path);
  }

  Result<WorkloadResult> Run() {
    for (std::uint32_t repeat = 0; repeat < plan_.repeat_count; ++repeat) {
      std::size_t turn = 0;
      for (const std::size_t arm : Order()) {
        fmt::print(stderr, "{}: repeat {} of {}, {}{}\n", workload_.name, repeat + 1,
                   plan_.repeat_count, arms_[arm]->name,
                   not_run_[arm].empty() ? "" : " (left out)");
        if (!not_run_[arm].empty()) continue;
        Result<SliceFigures> figures = RunOne(arm);
        if (figures.ok()) {
          slices_.push_back({arm, repeat, turn++, figures.value()});
          continue;
        }
        const StatusCode code = figures.status().code();
        const std::string text =
            fmt::format("{}: {}", arms_[arm]->name, figures.status().message());
        if (code == StatusCode::kCancelled || code == StatusCode::kCorruption) {
          return Status(code, fmt::format("{}: {}", workload_.name, text));
        }
        not_run_[arm] = std::string(figures.status().message());
        kept_[arm].reset();
      }
    }
    return Summarise();
  }

 private:
  /// The arm that all others are put beside: fio at random reads, else Tiercel; if it
  /// is not there, whoever comes first.
  [[nodiscard]] std::size_t Reference() const {
    const char* const wanted = workload_.kind == WorkloadKind::kRandom ? kFioName : kTiercelName;
    std::optional<std::size_t> first;
    for (std::size_t i = 0; i < arms_.size(); ++i) {
      if (!not_run_[i].empty()) continue;
      if (arms_[i]->name == wanted) return i;
      if (!first) first = i;
    }
    return first.value_or(0);
  }

  /// The arms of one repeat in random order, the reference now and then among them: the
  /// rate of a shared disk moves within a minute, and a ratio is of neighbours.
  std::vector<std::size_t> Order() {
    const std::size_t reference = Reference();
    std::vector<std::size_t> others;
    for (std::size_t i = 0; i < arms_.size(); ++i) {
      if (i != reference && not_run_[i].empty()) others.push_back(i);
    }
    for (std::size_t i = others.size(); i > 1; --i) {
      std::swap(others[i - 1], others[prng_.Below(i)]);
    }
    std::vector<std::size_t> order;
    if (arms_.empty()) return order;
    order.push_back(reference);
    for (std::size_t i = 0; i < others.size(); ++i) {
      order.push_back(others[i]);
      if ((i + 1) % plan_.slices_between == 0 || i + 1 == others.size()) {
        order.push_back(reference);
      }
    }
    return order;
  }

  Result<SliceFigures> RunOne(std::size_t arm) {
    std::unique_ptr<ArmProcess> process = std::move(kept_[arm]);
    if (process == nullptr) {
      Result<std::unique_ptr<ArmProcess>> started = Start(*arms_[arm]);
      if (!started.ok()) return std::move(started).TakeStatus();
      process = std::move(started).value();
    }
    page_cache_.Drop(paths_);
    Result<SliceFigures> figures = process->RunSlice(workload_, prng_());
    if (!figures.ok()) return figures;
    descriptions_[arm] = process->description();
    if (figures.value().rows == 0 || figures.value().seconds <= 0) {
      return Status(StatusCode::kUnavailable, "it ran, but did nothing that counts");
    }
    if (arms_[arm]->keep_open) kept_[arm] = std::move(process);
    return figures;
  }

  Result<std::unique_ptr<ArmProcess>> Start(const ArmEntry& arm) {
    ArmOptions options = plan_.arm_options;
    options.depth = workload_.depth;
    MemoryCgroup group;
    if (cgroups_.enforced()) {
      const std::uint64_t table_bytes = context_.table->info().table_bytes;
      Result<MemoryCgroup> made =
          cgroups_.Make(arm.name, plan_.limit_bytes + (arm.whole_table ? table_bytes : 0));
      if (!made.ok()) return std::move(made).TakeStatus();
      group = std::move(made).value();
    }
    return ArmProcess::Start(arm, options, context_, std::move(group));
  }

  /// The slice of the reference that is nearest to `slice` in its repeat.
  [[nodiscard]] const Slice* NearestReference(const Slice& slice, std::size_t reference) const {
    const Slice* nearest = nullptr;
    const auto distance = [&slice](const Slice& other) {
      return other.turn > slice.turn ? other.turn - slice.turn : slice.turn - other.turn;
    };
    for (const Slice& other : slices_) {
      if (other.arm != reference || other.repeat != slice.repeat) continue;
      if (nearest == nullptr || distance(other) < distance(*nearest)) nearest = &other;
    }
    return nearest;
  }

  [[nodiscard]] ArmResult ResultOf(std::size_t arm, std::size_t reference) const {
    ArmResult result{
        .name = arms_[arm]->name, .description = descriptions_[arm], .not_run = not_run_[arm]};
    if (!result.not_run.empty()) return result;
    std::vector<double> rate, batch, cpu, p50, p99, time_ratio, cpu_ratio, p99_ratio;
    for (const Slice& slice : slices_) {
      if (slice.arm != arm) continue;
      const SliceFigures& figures = slice.figures;
      result.cut = result.cut || figures.cut_batches > 0;
      rate.push_back(1 / SecondsPerRow(figures));
      batch.push_back(figures.seconds / figures.batches);
      cpu.push_back(CpuPerRow(figures));
      if (figures.p99_ns > 0) {
        p50.push_back(static_cast<double>(figures.p50_ns));
        p99.push_back(static_cast<double>(figures.p99_ns));
      }
      const Slice* const beside = NearestReference(slice, reference);
      if (arm == reference || beside == nullptr) continue;
      time_ratio.push_back(SecondsPerRow(figures) / SecondsPerRow(beside->figures));
      // CPU time comes in ticks: a very short slice may seem to have had none.
      if (beside->figures.cpu_seconds > 0) {
        cpu_ratio.push_back(CpuPerRow(figures) / CpuPerRow(beside->figures));
      }
      if (figures.p99_ns > 0 && beside->figures.p99_ns > 0) {
        p99_ratio.push_back(static_cast<double>(figures.p99_ns) /
                            static_cast<double>(beside->figures.p99_ns));
      }
    }
    result.rows_per_second = SpreadOf(std::move(rate));
    result.batch_seconds = SpreadOf(std::move(batch));
    result.cpu_seconds_per_row = SpreadOf(std::move(cpu));
    result.p50_ns = SpreadOf(std::move(p50));
    result.p99_ns = SpreadOf(std::move(p99));
    result.time_ratio = SpreadOf(std::move(time_ratio));
    result.cpu_ratio = SpreadOf(std::move(cpu_ratio));
    result.p99_ratio = SpreadOf(std::move(p99_ratio));
    return result;
  }

  [[nodiscard]] WorkloadResult Summarise() const {
    WorkloadResult result{.workload = workload_};
    const std::size_t reference = Reference();
    for (std::size_t i = 0; i < arms_.size(); ++i) result.arms.push_back(ResultOf(i, reference));
    if (!arms_.empty() && not_run_[reference].empty()) result.reference = arms_[reference]->name;
    return result;
  }

  const RunPlan& plan_;
  const RunContext& context_;
  const MemoryCgroupParent& cgroups_;
  const PageCache& page_cache_;
  const Workload& workload_;
  Prng prng_;
  std::vector<const ArmEntry*> arms_;
  std::vector<std::unique_ptr<ArmProcess>> kept_;  ///< By arm; null: not kept open.
  std::vector<std::string> not_run_;               ///< By arm.
  std::vector<std::string> descriptions_;          ///< By arm.
  std::vector<std::string> paths_;
  std::vector<Slice> slices_;
};

}  // namespace

Spread SpreadOf(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {median, values.front(), values.back(), values.size()};
}

Result<std::vector<WorkloadResult>> RunAll(const RunPlan& plan, const RunContext& context,
                                           const MemoryCgroupParent& cgroups,
                                           const PageCache& page_cache) {
  std::vector<WorkloadResult> results;
  for (const Workload& workload : plan.workloads) {
    WorkloadRunner runner(plan, context, cgroups, page_cache, workload);
    Result<WorkloadResult> result = runner.Run();
    if (!result.ok()) return std::move(result).TakeStatus();
    results.push_back(std::move(result).value());
  }
  return results;
}

}  // namespace tiercel::peers
