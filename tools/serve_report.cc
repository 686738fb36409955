#include "tools/serve_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "tools/command_line.h"
#include "tools/reference_curve.h"
#include "tools/serve_ideal.h"

namespace tiercel::tools {
namespace {

using Json = nlohmann::ordered_json;

/// A wait that ends within this is no late ticket: asking takes so long.
constexpr std::uint64_t kOnTimeNs = 5000;

/// The arm, and what is told of it.
struct ArmSummary {
  const ServeArm* arm = nullptr;
  ServeExposed measured;
  ServeTimes start;
  double step_seconds = 0.0;  ///< Mean, with exposed waits.
  double loss = 0.0;          ///< Against steps that wait for nothing.
  double tokens_per_second = 0.0;
  std::vector<double> late_share;  ///< By layer.
  std::vector<double> reads_per_step;
  std::vector<double> hit_rate;
};

ArmSummary Summarize(const ServeArm& arm, const ServeOptions& options) {
  ArmSummary summary{.arm = &arm, .measured = MeasuredExposed(arm)};
  summary.start = MeasureTimes(arm.start_ns);
  const auto steps = static_cast<double>(arm.start_ns.size());
  const double resident_seconds = std::chrono::duration<double>(options.step_time).count();
  summary.step_seconds = Ratio(arm.seconds, steps);
  summary.loss = 1.0 - Ratio(resident_seconds, summary.step_seconds);
  summary.tokens_per_second = Ratio(options.stream_count, summary.step_seconds);
  for (const std::vector<ServeLayerStep>& layer : arm.layers) {
    double late = 0;
    double reads = 0;
    double groups = 0;
    double hits = 0;
    for (const ServeLayerStep& step : layer) {
      late += step.exposed_ns > kOnTimeNs ? 1 : 0;
      reads += step.reads;
      groups += static_cast<double>(step.groups);
      hits += static_cast<double>(step.dram_hits);
    }
    summary.late_share.push_back(Ratio(late, steps));
    summary.reads_per_step.push_back(Ratio(reads, steps));
    summary.hit_rate.push_back(Ratio(hits, groups));
  }
  return summary;
}

/// Conditions under which the ideal is told.
struct Named {
  std::string key;
  std::string words;
  ServeWhatIf what_if;
};

/// Times as many reads with twice the memory, by the reference curve.
double ReadsWithTwiceTheMemory(const ServeReport& report) {
  double group_bytes = 0;  // Of all orders of a layer, and their number.
  for (const OrderStats& order : report.run.stats.orders) group_bytes += order.group_size_bytes;
  const double ngrams = static_cast<double>(report.run.stats.cache_bytes) *
                        static_cast<double>(report.run.stats.orders.size()) / group_bytes /
                        static_cast<double>(report.options.layer_ids.size());
  const HitCurve curve = ReferenceCurve(report.recipe);
  return Ratio(1.0 - curve.HitRate(2 * ngrams), 1.0 - curve.HitRate(ngrams));
}

std::vector<Named> WhatIfs(const ServeReport& report) {
  return {{"twice_the_iops", "twice the reads a second", {.read_time = 0.5}},
          {"twice_the_dram",
           "twice the memory, by the reference trace",
           {.reads = ReadsWithTwiceTheMemory(report)}},
          {"a_step_earlier",
           "tickets that start a step earlier",
           {.head_start = report.options.step_time}}};
}

/// Reads that the prompt in the background had, of those that the decode steps left.
double PrefillShare(const ServeReport& report) {
  const ServeArm& arm = report.run.beside;
  double own_reads = 0;
  for (const auto& layer : arm.layers) {
    for (const ServeLayerStep& step : layer) own_reads += step.reads;
  }
  const double left = report.run.disk_reads_per_second * arm.seconds - own_reads;
  return Ratio(static_cast<double>(report.run.prefill.reads), left);
}

std::string Micros(double ns) {
  return fmt::format("{:.1f}", ns / 1000);
}

std::string TimesCells(const ServeTimes& times) {
  return fmt::format("{:>10} {:>10} {:>10} {:>10}", Micros(times.mean_ns),
                     Micros(static_cast<double>(times.p50_ns)),
                     Micros(static_cast<double>(times.p99_ns)),
                     Micros(static_cast<double>(times.max_ns)));
}

std::string Row(std::string_view name, const ServeTimes& times) {
  return fmt::format("  {:<34} {}\n", name, TimesCells(times));
}

std::string ArmText(std::string_view name, const ArmSummary& summary, const ServeReport& report) {
  std::string text = fmt::format("{}\n  {:<34} {:>10} {:>10} {:>10} {:>10}\n", name,
                                 "exposed wait, us", "mean", "p50", "p99", "max");
  for (std::size_t i = 0; i < report.options.layer_ids.size(); ++i) {
    text += Row(fmt::format("layer {}", report.options.layer_ids[i]), summary.measured.layers[i]);
  }
  text += Row("step", summary.measured.step);
  text += Row("Start()", summary.start);
  for (std::size_t i = 0; i < report.options.layer_ids.size(); ++i) {
    text += fmt::format("  layer {}: late in {} of steps; {:.1f} reads a step; {} from DRAM\n",
                        report.options.layer_ids[i], FormatPercent(summary.late_share[i], 1),
                        summary.reads_per_step[i], FormatPercent(summary.hit_rate[i], 1));
  }
  text += fmt::format("  a step takes {:.3f} ms: {} more than with a resident table; {} tokens/s\n",
                      summary.step_seconds * 1e3, FormatPercent(summary.loss, 1),
                      FormatAmount(summary.tokens_per_second));
  return text;
}

std::string IdealText(const ServeArm& arm, const ServeReport& report) {
  const ServeExposed ideal = IdealExposed(arm, report.options);
  std::string text = fmt::format("  {:<34} {:>10} {:>10} {:>10} {:>10}\n",
                                 "ideal: as many reads, bare queue", "mean", "p50", "p99", "max");
  for (std::size_t i = 0; i < report.options.layer_ids.size(); ++i) {
    text += Row(fmt::format("layer {}", report.options.layer_ids[i]), ideal.layers[i]);
  }
  return text + Row("step", ideal.step);
}

std::string WhatIfText(const ServeReport& report) {
  std::string text = "ideal step of decode alone, if there were\n";
  for (const Named& named : WhatIfs(report)) {
    text += Row(named.words, IdealExposed(report.run.alone, report.options, named.what_if).step);
  }
  return text;
}

Json TimesJson(const ServeTimes& times) {
  return {{"mean_ns", times.mean_ns},
          {"p50_ns", times.p50_ns},
          {"p99_ns", times.p99_ns},
          {"max_ns", times.max_ns}};
}

Json ExposedJson(const ServeExposed& exposed, const ServeOptions& options) {
  Json layers = Json::array();
  for (std::size_t i = 0; i < options.layer_ids.size(); ++i) {
    Json layer = {{"layer", options.layer_ids[i]}};
    layer.update(TimesJson(exposed.layers[i]));
    layers.push_back(std::move(layer));
  }
  return {{"layers", std::move(layers)}, {"step", TimesJson(exposed.step)}};
}

Json ArmJson(const ArmSummary& summary, const ServeOptions& options) {
  Json json = {{"steps", summary.arm->start_ns.size()},
               {"exposed", ExposedJson(summary.measured, options)},
               {"start", TimesJson(summary.start)},
               {"step_seconds", summary.step_seconds},
               {"loss", summary.loss},
               {"tokens_per_second", summary.tokens_per_second}};
  Json layers = Json::array();
  for (std::size_t i = 0; i < options.layer_ids.size(); ++i) {
    layers.push_back({{"layer", options.layer_ids[i]},
                      {"late_share", summary.late_share[i]},
                      {"reads_per_step", summary.reads_per_step[i]},
                      {"dram_hit_rate", summary.hit_rate[i]}});
  }
  json["layers"] = std::move(layers);
  return json;
}

}  // namespace

std::string ReportText(const ServeReport& report) {
  const ServeOptions& options = report.options;
  std::string text = fmt::format(
      "serve-bench: {} streams, steps of {:.1f} ms in {} blocks\n", options.stream_count,
      std::chrono::duration<double>(options.step_time).count() * 1e3, options.block_count);
  text += fmt::format("  checkpoint {} ({})\n", report.path, report.layout);
  text += fmt::format("  engine     {}\n", FormatEngine(report.run.stats));
  if (!report.run.stats.engine_fallback.empty()) {
    text +=
        fmt::format("             FELL BACK from io_uring: {}\n", report.run.stats.engine_fallback);
  }
  text += fmt::format("  cache      {}\n", report.run.stats.cache_description);
  text += fmt::format("  disk       {} reads/s of a bare queue\n",
                      FormatAmount(report.run.disk_reads_per_second));
  text += ArmText("decode alone", Summarize(report.run.alone, options), report);
  text += IdealText(report.run.alone, report) + WhatIfText(report);
  if (options.prefill_token_count == 0) return text;
  text += ArmText(
      fmt::format("decode beside a prompt of {} tokens", FormatCount(options.prefill_token_count)),
      Summarize(report.run.beside, options), report);
  text += IdealText(report.run.beside, report);
  text += fmt::format("  the prompt had {} of the reads that decode left; {} prompts ended\n",
                      FormatPercent(PrefillShare(report), 1), report.run.prefill.prompt_count);
  return text;
}

std::string ReportJson(const ServeReport& report) {
  const ServeOptions& options = report.options;
  Json json = {{"checkpoint", report.path},
               {"layout", report.layout},
               {"streams", options.stream_count},
               {"step_ns", options.step_time.count()},
               {"blocks", options.block_count},
               {"layers", options.layer_ids},
               {"warm_tokens", options.warm_token_count},
               {"engine", report.run.stats.engine},
               {"engine_fallback", report.run.stats.engine_fallback},
               {"queue_depth", report.run.stats.queue_depth},
               {"dram_budget_bytes", report.run.stats.dram_budget_bytes},
               {"disk_reads_per_second", report.run.disk_reads_per_second}};
  json["alone"] = ArmJson(Summarize(report.run.alone, options), options);
  json["ideal"] = ExposedJson(IdealExposed(report.run.alone, options), options);
  Json what_ifs = Json::object();
  for (const Named& named : WhatIfs(report)) {
    what_ifs[named.key] =
        ExposedJson(IdealExposed(report.run.alone, options, named.what_if), options);
  }
  json["ideal_if"] = std::move(what_ifs);
  if (options.prefill_token_count > 0) {
    json["beside_prefill"] = ArmJson(Summarize(report.run.beside, options), options);
    json["ideal_beside_prefill"] = ExposedJson(IdealExposed(report.run.beside, options), options);
    json["prefill"] = {{"prompt_tokens", options.prefill_token_count},
                       {"prompts_ended", report.run.prefill.prompt_count},
                       {"tokens_of_ended_prompts", report.run.prefill.token_count},
                       {"device_reads", report.run.prefill.reads},
                       {"share_of_remaining_reads", PrefillShare(report)}};
  }
  return json.dump(2) + "\n";
}

}  // namespace tiercel::tools
