#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "bench/overlap_arms.h"
#include "tools/command_line.h"

namespace tiercel::bench {
namespace {

using Json = nlohmann::ordered_json;
using Arms = std::span<const OverlapArm>;

/// The arm that others are compared with beside the first; the first where there is but one.
const OverlapArm& SecondOf(Arms arms) {
  return arms[std::min<std::size_t>(1, arms.size() - 1)];
}

/// What an arm has fewer tokens a second than another, in percent.
double LossPercent(const OverlapTimes& arm, const OverlapTimes& base) {
  return 100.0 * (1.0 - tools::Ratio(arm.tokens_per_second(), base.tokens_per_second()));
}

Json TimesJson(const OverlapTimes& times, const OverlapTimes& none, const OverlapTimes& second) {
  return {{"tokens", times.token_count},
          {"steps", times.step_count},
          {"cut", times.cut},
          {"seconds", times.seconds},
          {"tokens_per_second", times.tokens_per_second()},
          {"loss_percent_to_none", LossPercent(times, none)},
          {"loss_percent_to_second", LossPercent(times, second)},
          {"cost_percent", times.cost_percent()},
          {"planned_seconds", times.planned_seconds},
          {"compute_seconds", times.compute_seconds},
          {"start_seconds", times.start_seconds},
          {"exposed_seconds", times.exposed_seconds()},
          {"exposed_seconds_by_layer", times.wait_seconds},
          {"use_seconds", times.use_seconds}};
}

void PrintPhase(Arms arms, const char* name, OverlapTimes OverlapArm::*phase) {
  tools::Print(fmt::format("\n{:<32}{:>10}{:>11}{:>13}{:>10}{:>13}{:>12}{:>12}{:>10}\n", name,
                           "tokens/s", "loss", "to second", "cost", "compute us", "Start() us",
                           "exposed us", "use us"));
  for (const OverlapArm& arm : arms) {
    if (!arm.left_out.empty()) continue;
    const OverlapTimes& times = arm.*phase;
    const double step_us = 1e6 / static_cast<double>(std::max<std::uint64_t>(times.step_count, 1));
    tools::Print(fmt::format(
        "{:<32}{:>10.1f}{:>9.2f} %{:>11.2f} %{:>8.2f} %{:>13.0f}{:>12.0f}{:>12.0f}{:>10.0f}{}\n",
        arm.name, times.tokens_per_second(), LossPercent(times, arms[0].*phase),
        LossPercent(times, SecondOf(arms).*phase), times.cost_percent(),
        times.compute_seconds * step_us, times.start_seconds * step_us,
        times.exposed_seconds() * step_us, times.use_seconds * step_us,
        times.cut ? fmt::format("  cut after {} steps", times.step_count) : ""));
  }
}

}  // namespace

void PrintText(const OverlapFlags& flags, Arms arms) {
  tools::Print(fmt::format(
      "{} blocks, {} ms each in decode ({} streams), {} ms in prefill ({} tokens a step); {} "
      "sequences\nloss: in tokens/s, against no Engram and against the second arm; cost: what rows "
      "took, in percent of steps whose blocks take just their time\n",
      flags.block_count, flags.block_ms, flags.decode.stream_count, flags.prefill_block_ms,
      flags.prefill.step_tokens, flags.sequences.count));
  PrintPhase(arms, "decode", &OverlapArm::decode);
  PrintPhase(arms, "prefill", &OverlapArm::prefill);
  tools::Print("\n");
  for (const OverlapArm& arm : arms) {
    if (!arm.left_out.empty()) {
      tools::Print(fmt::format("{:<32}LEFT OUT: {}\n", arm.name, arm.left_out));
    } else if (arm.budget_bytes > 0) {
      const std::string in_hbm =
          arm.hbm_bytes > 0 ? tools::FormatPercent(arm.hbm_hit_rate, 1.0) + " hits in HBM, " : "";
      tools::Print(fmt::format("{:<32}{}{} in DRAM, {:.1f} reads a token, {} tokens before, {}\n",
                               arm.name, in_hbm, tools::FormatPercent(arm.hit_rate, 1.0),
                               arm.reads_per_token, tools::FormatCount(arm.warm_tokens),
                               arm.engine));
    }
  }
}

void PrintJson(const OverlapFlags& flags, Arms arms) {
  Json json = {{"checkpoint", flags.checkpoint},       {"blocks", flags.block_count},
               {"block_ms", flags.block_ms},           {"prefill_block_ms", flags.prefill_block_ms},
               {"streams", flags.decode.stream_count}, {"step_tokens", flags.prefill.step_tokens},
               {"sequences", flags.sequences.count}};
  json["arms"] = Json::array();
  for (const OverlapArm& arm : arms) {
    Json one = {{"name", arm.name},
                {"dram_budget_bytes", arm.budget_bytes},
                {"hbm_budget_bytes", arm.hbm_bytes}};
    if (!arm.left_out.empty()) {
      one["left_out"] = arm.left_out;
    } else {
      const OverlapArm& second = SecondOf(arms);
      one["warm_tokens"] = arm.warm_tokens;
      one["hbm_hit_rate"] = arm.hbm_hit_rate;
      one["hit_rate"] = arm.hit_rate;
      one["reads_per_token"] = arm.reads_per_token;
      one["engine"] = arm.engine;
      one["decode"] = TimesJson(arm.decode, arms[0].decode, second.decode);
      one["prefill"] = TimesJson(arm.prefill, arms[0].prefill, second.prefill);
    }
    json["arms"].push_back(std::move(one));
  }
  tools::Print(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace tiercel::bench
