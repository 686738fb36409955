#include "tools/replay_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "tools/hot_set_report.h"

namespace tiercel::tools {
namespace {

using Json = nlohmann::ordered_json;

/// The counters of some groups, added up.
struct GroupCounts {
  double groups = 0;
  double hits = 0;
  double joined = 0;
  double fetches = 0;

  void Add(const OrderStats& order) noexcept {
    groups += static_cast<double>(order.groups);
    hits += static_cast<double>(order.dram_hits);
    joined += static_cast<double>(order.joined);
    fetches += static_cast<double>(order.fetches);
  }
};

std::map<std::uint32_t, GroupCounts> CountsByOrder(const StoreStats& stats) {
  std::map<std::uint32_t, GroupCounts> counts;
  for (const OrderStats& order : stats.orders) counts[order.order].Add(order);
  return counts;
}

GroupCounts AllCounts(const StoreStats& stats) {
  GroupCounts counts;
  for (const OrderStats& order : stats.orders) counts.Add(order);
  return counts;
}

std::string Line(std::string_view name, const std::string& text) {
  return fmt::format("  {:<11}  {}\n", name, text);
}

std::string Micros(std::uint64_t ns) {
  return FormatCount((ns + 500) / 1000);
}

std::string SharesLine(std::string_view name, const GroupCounts& counts) {
  return Line(
      name, fmt::format("{:>7} from DRAM {:>7} joined {:>7} fetched  of {} groups",
                        FormatPercent(counts.hits, counts.groups),
                        FormatPercent(counts.joined, counts.groups),
                        FormatPercent(counts.fetches, counts.groups), FormatAmount(counts.groups)));
}

std::string HeadLines(const ReplayReport& report) {
  std::string layers;
  for (const std::uint32_t layer_id : report.layer_ids) {
    layers += fmt::format("{}{}", layers.empty() ? "" : ", ", layer_id);
  }
  std::string text = fmt::format(
      "replay of {} tokens: {}, {} streams, {} token{} a {}\n", FormatCount(report.token_count),
      Name(report.schedule.mode), report.schedule.stream_count, report.schedule.chunk_tokens,
      report.schedule.chunk_tokens == 1 ? "" : "s",
      report.schedule.mode == ReplayMode::kDecode ? "stream and step" : "step");
  text += Line("checkpoint", fmt::format("{} ({}), layers {}", report.path, report.layout, layers));
  if (report.stats.shard != HeadShard{}) {
    text += Line("heads", fmt::format("shard {}, {} columns", FormatShard(report.stats.shard),
                                      report.column_count));
  }
  text += Line("engine", FormatEngine(report.stats));
  if (!report.stats.engine_fallback.empty()) {
    text += Line("", fmt::format("FELL BACK from io_uring: {}", report.stats.engine_fallback));
  }
  text += Line("", FormatReadSettings(report.stats));
  text += Line("cache", report.stats.cache_description);
  if (report.warm_token_count > 0) {
    text += Line("warm-up", fmt::format("{} tokens before these, not counted",
                                        FormatCount(report.warm_token_count)));
  }
  return text;
}

std::string MemoryLine(const ReplayReport& report) {
  const std::uint64_t budget = report.stats.dram_budget_bytes;
  const std::uint64_t peak = report.memory.peak_bytes;
  return Line("memory",
              fmt::format("{} resident, peak {}; budget {}, peak {} {}",
                          FormatBinaryBytes(report.memory.now_bytes), FormatBinaryBytes(peak),
                          FormatBinaryBytes(budget),
                          FormatBinaryBytes(peak > budget ? peak - budget : budget - peak),
                          peak > budget ? "above it" : "below it")) +
         Line("", fmt::format("cache {}, scales {}, read buffers {}",
                              FormatBinaryBytes(report.stats.cache_bytes),
                              FormatBinaryBytes(report.stats.resident_scale_bytes),
                              FormatBinaryBytes(report.stats.read_buffer_bytes)));
}

std::string VerdictLines(const ReplayReport& report) {
  std::string text = Line(
      "rows",
      report.verified
          ? fmt::format("{} rows checked, {}, {} rows failed", FormatCount(report.rows_checked),
                        FormatDifferent(report.rows_different), FormatCount(report.rows_failed))
          : fmt::format("{} rows failed; bytes not checked (--verify checks them)",
                        FormatCount(report.rows_failed)));
  for (const std::string& finding : report.findings) text += Line("", finding);
  return text;
}

Json ShareJson(const GroupCounts& counts) {
  return {{"groups", static_cast<std::uint64_t>(counts.groups)},
          {"dram_hit_rate", Ratio(counts.hits, counts.groups)},
          {"joined_share", Ratio(counts.joined, counts.groups)},
          {"fetched_share", Ratio(counts.fetches, counts.groups)}};
}

Json OrdersJson(const StoreStats& stats) {
  Json json = Json::array();
  for (const auto& [order, counts] : CountsByOrder(stats)) {
    Json entry = {{"order", order}};
    entry.update(ShareJson(counts));
    json.push_back(std::move(entry));
  }
  return json;
}

Json LayerOrdersJson(const StoreStats& stats) {
  Json json = Json::array();
  for (const OrderStats& order : stats.orders) {
    json.push_back({{"layer", order.layer_id},
                    {"order", order.order},
                    {"groups", order.groups},
                    {"dram_hits", order.dram_hits},
                    {"joined", order.joined},
                    {"fetches", order.fetches},
                    {"failed_groups", order.failed_groups},
                    {"cache_insertions", order.cache_insertions},
                    {"cache_evictions", order.cache_evictions},
                    {"cache_rejections", order.cache_rejections},
                    {"cache_ghost_hits", order.cache_ghost_hits},
                    {"cache_resident_groups", order.cache_resident_groups},
                    {"cache_pinned_groups", order.cache_pinned_groups},
                    {"group_bytes", order.group_size_bytes},
                    {"dram_hit_bytes", order.dram_hit_bytes},
                    {"fetched_bytes", order.fetched_bytes}});
  }
  return json;
}

}  // namespace

StepTimes MeasureSteps(std::span<std::uint64_t> step_ns) {
  if (step_ns.empty()) return {};
  std::sort(step_ns.begin(), step_ns.end());
  const auto at = [&step_ns](std::size_t per_mille) {
    // Nearest rank, counted from 1: ceil(n * p).
    const std::size_t rank = (step_ns.size() * per_mille + 999) / 1000;
    return step_ns[rank - 1];
  };
  return {.p50_ns = at(500), .p99_ns = at(990), .p999_ns = at(999), .max_ns = step_ns.back()};
}

StoreStats Difference(StoreStats after, const StoreStats& before) {
  for (std::size_t i = 0; i < after.orders.size() && i < before.orders.size(); ++i) {
    OrderStats& order = after.orders[i];
    const OrderStats& old = before.orders[i];
    order.groups -= old.groups;
    order.dram_hits -= old.dram_hits;
    order.joined -= old.joined;
    order.fetches -= old.fetches;
    order.failed_groups -= old.failed_groups;
    order.cache_insertions -= old.cache_insertions;
    order.cache_evictions -= old.cache_evictions;
    order.cache_rejections -= old.cache_rejections;
    order.cache_ghost_hits -= old.cache_ghost_hits;
    order.dram_hit_bytes -= old.dram_hit_bytes;
    order.fetched_bytes -= old.fetched_bytes;
  }
  after.single_rows -= before.single_rows;
  after.device_reads -= before.device_reads;
  after.device_reads_shared -= before.device_reads_shared;
  after.device_read_bytes -= before.device_read_bytes;
  after.device_read_retries -= before.device_read_retries;
  after.device_read_failures -= before.device_read_failures;
  return after;
}

std::string ReportText(const ReplayReport& report) {
  const auto tokens = static_cast<double>(report.token_count);
  const StoreStats& stats = report.stats;
  const auto reads = static_cast<double>(stats.device_reads);
  const auto read_bytes = static_cast<double>(stats.device_read_bytes);
  std::string text = HeadLines(report);
  text +=
      Line("time", fmt::format("{} in {} lookups, {} with all around them",
                               FormatSeconds(report.lookup_seconds), FormatCount(report.step_count),
                               FormatSeconds(report.wall_seconds)));
  text += Line("throughput", fmt::format("{} tokens/s, {} rows/s",
                                         FormatAmount(Ratio(tokens, report.lookup_seconds)),
                                         FormatAmount(Ratio(static_cast<double>(report.row_count()),
                                                            report.lookup_seconds))));
  text += Line("step", fmt::format("p50 {} us, p99 {} us, p99.9 {} us, max {} us",
                                   Micros(report.steps.p50_ns), Micros(report.steps.p99_ns),
                                   Micros(report.steps.p999_ns), Micros(report.steps.max_ns)));
  text += Line("device", fmt::format("{} reads, {}; {:.1f} reads and {} a token",
                                     FormatAmount(reads), FormatBytes(read_bytes),
                                     Ratio(reads, tokens), FormatBytes(Ratio(read_bytes, tokens))));
  text += Line("", fmt::format("{} reads/s, {}/s; {} tried again, {} failed",
                               FormatAmount(Ratio(reads, report.lookup_seconds)),
                               FormatBytes(Ratio(read_bytes, report.lookup_seconds)),
                               FormatCount(stats.device_read_retries),
                               FormatCount(stats.device_read_failures)));
  text += Line("", fmt::format("a read p50 {} us, p99 {} us, max {} us; {} rows shared one",
                               Micros(stats.device_read_p50_ns), Micros(stats.device_read_p99_ns),
                               Micros(stats.device_read_max_ns),
                               FormatAmount(static_cast<double>(stats.device_reads_shared))));
  text += SharesLine("hits", AllCounts(stats));
  for (const auto& [order, counts] : CountsByOrder(stats)) {
    text += SharesLine(fmt::format("  {}-grams", order), counts);
  }
  text +=
      Line("unique rows", fmt::format("{:.1f} of {} a token, within a step",
                                      Ratio(static_cast<double>(report.distinct_row_count), tokens),
                                      report.layer_ids.size() * report.column_count));
  if (report.hot_set.state != HotSetState::kNone) {
    text += Line("hot set", FormatHotSet(report.hot_set));
    if (!report.hot_set.message.empty()) text += Line("", report.hot_set.message);
  }
  text += MemoryLine(report);
  text += VerdictLines(report);
  return text;
}

std::string ReportJson(const ReplayReport& report) {
  const auto tokens = static_cast<double>(report.token_count);
  const StoreStats& stats = report.stats;
  const GroupCounts counts = AllCounts(stats);
  const auto micros = [](std::uint64_t ns) { return static_cast<double>(ns) / 1000.0; };
  Json json = {
      {"path", report.path},
      {"layout", report.layout},
      {"layers", report.layer_ids},
      {"shard", FormatShard(report.stats.shard)},
      {"mode", Name(report.schedule.mode)},
      {"streams", report.schedule.stream_count},
      {"chunk", report.schedule.chunk_tokens},
      {"warm_tokens", report.warm_token_count},
      {"tokens", report.token_count},
      {"rows", report.row_count()},
      {"steps", report.step_count},
      {"seconds", report.lookup_seconds},
      {"wall_seconds", report.wall_seconds},
      {"tokens_per_second", Ratio(tokens, report.lookup_seconds)},
      {"rows_per_second", Ratio(static_cast<double>(report.row_count()), report.lookup_seconds)},
      {"step_us",
       {{"p50", micros(report.steps.p50_ns)},
        {"p99", micros(report.steps.p99_ns)},
        {"p99.9", micros(report.steps.p999_ns)},
        {"max", micros(report.steps.max_ns)}}}};
  json["device_reads"] = stats.device_reads;
  json["device_reads_shared"] = stats.device_reads_shared;
  json["device_read_us"] = {{"p50", micros(stats.device_read_p50_ns)},
                            {"p99", micros(stats.device_read_p99_ns)},
                            {"max", micros(stats.device_read_max_ns)}};
  json["device_read_bytes"] = stats.device_read_bytes;
  json["device_reads_per_token"] = Ratio(static_cast<double>(stats.device_reads), tokens);
  json["device_read_bytes_per_token"] = Ratio(static_cast<double>(stats.device_read_bytes), tokens);
  json["device_read_retries"] = stats.device_read_retries;
  json["device_read_failures"] = stats.device_read_failures;
  json.update(ShareJson(counts));
  json["orders"] = OrdersJson(stats);
  json["layer_orders"] = LayerOrdersJson(stats);
  if (report.hot_set.state != HotSetState::kNone) json["hot_set"] = HotSetJson(report.hot_set);
  json["unique_rows_per_token"] = Ratio(static_cast<double>(report.distinct_row_count), tokens);
  json["resident_bytes"] = report.memory.now_bytes;
  json["resident_peak_bytes"] = report.memory.peak_bytes;
  json["dram_budget_bytes"] = stats.dram_budget_bytes;
  json["cache_bytes"] = stats.cache_bytes;
  json["resident_scale_bytes"] = stats.resident_scale_bytes;
  json["read_buffer_bytes"] = stats.read_buffer_bytes;
  json["io_threads"] = stats.io_thread_count;
  json["engine"] = stats.engine;
  json["engine_description"] = stats.engine_description;
  json["engine_fallback"] = stats.engine_fallback;
  json["queue_depth"] = stats.queue_depth;
  json["read_block_bytes"] = stats.read_block_bytes;
  json["disk_profile"] = stats.disk_profile;
  json["cache_description"] = stats.cache_description;
  json["verified"] = report.verified;
  json["rows_checked"] = report.rows_checked;
  json["rows_different"] = report.rows_different;
  json["rows_failed"] = report.rows_failed;
  json["findings"] = report.findings;
  return json.dump() + "\n";
}

}  // namespace tiercel::tools
