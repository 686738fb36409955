// tiercel warm: loads a hot set and measures it, or tells what one is.

#include <fmt/format.h>

#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>

#include "tiercel/hot_set.h"
#include "tiercel/store.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/hot_set_flags.h"
#include "tools/hot_set_report.h"

namespace tiercel::tools {
namespace {

struct WarmFlags {
  std::string path;
  std::string info;
  HotSetFlags hot_set;
  bool json = false;
  StoreFlags store;
};

std::string FormatTime(std::uint64_t unix_seconds) {
  const auto time = static_cast<std::time_t>(unix_seconds);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

nlohmann::ordered_json InfoJson(const HotSetInfo& info) {
  nlohmann::ordered_json json = {{"path", info.path},
                                 {"version", info.version},
                                 {"image", info.has_bytes},
                                 {"groups", info.group_count},
                                 {"blocks", info.block_count},
                                 {"block_bytes", info.block_bytes},
                                 {"file_bytes", info.file_bytes},
                                 {"saved_at", FormatTime(info.saved_at_s)},
                                 {"table_id", fmt::format("{:016x}", info.table_id)},
                                 {"content_id", fmt::format("{:016x}", info.content_id)},
                                 {"shard", FormatShard(info.shard)},
                                 {"spaces", nlohmann::ordered_json::array()}};
  for (const HotSetInfo::Space& space : info.spaces) {
    json["spaces"].push_back({{"layer", space.layer_id},
                              {"order", space.order},
                              {"group_bytes", space.group_size_bytes},
                              {"groups", space.group_count}});
  }
  return json;
}

std::string InfoText(const HotSetInfo& info) {
  std::string text = fmt::format(
      "{}\n  holds     {} groups, {}\n  file      {}, version {}, {} blocks of {}\n"
      "  saved     {}\n  tables    {:016x}, content {:016x}\n  heads     shard {}\n",
      info.path, FormatCount(info.group_count), info.has_bytes ? "with their bytes" : "keys alone",
      FormatBytes(static_cast<double>(info.file_bytes)), info.version,
      FormatCount(info.block_count), FormatBinaryBytes(info.block_bytes),
      FormatTime(info.saved_at_s), info.table_id, info.content_id, FormatShard(info.shard));
  for (const HotSetInfo::Space& space : info.spaces) {
    text += fmt::format("  layer {:<3} {}-grams  {} groups of {} B\n", space.layer_id, space.order,
                        FormatCount(space.group_count), space.group_size_bytes);
  }
  return text;
}

Result<ExitCode> RunInfo(const WarmFlags& flags) {
  Result<HotSetInfo> info = InspectHotSet(flags.info);
  if (!info.ok()) return ErrorOf(info);
  Print(flags.json ? InfoJson(info.value()).dump() + "\n" : InfoText(info.value()));
  return ExitCode::kOk;
}

Result<ExitCode> RunWarm(const WarmFlags& flags) {
  if (!flags.info.empty()) {
    if (!flags.path.empty() || !flags.hot_set.path.empty()) {
      throw CLI::ValidationError("--info", "takes a file alone, no checkpoint and no --hot-set");
    }
    return RunInfo(flags);
  }
  if (flags.path.empty() || flags.hot_set.path.empty()) {
    throw CLI::ValidationError("warm", "give a checkpoint and --hot-set FILE, or --info FILE");
  }
  const StoreOptions options = flags.store.ToOptions("warm");
  CatchInterrupts();
  Result<std::unique_ptr<Store>> store = Store::Open(flags.path, options);
  if (!store.ok()) return ErrorOf(store);
  Status status = LoadAndWait(*store.value(), flags.hot_set, "warm");
  const HotSetProgress progress = store.value()->HotSet();
  if (progress.state == HotSetState::kNone || progress.state == HotSetState::kCancelled) {
    return status;
  }
  const StoreStats stats = store.value()->Stats();
  if (flags.json) {
    nlohmann::ordered_json json = {{"path", flags.path}, {"hot_set", flags.hot_set.path}};
    json.update(HotSetJson(progress));
    json["cache_bytes"] = stats.cache_bytes;
    json["dram_budget_bytes"] = stats.dram_budget_bytes;
    json["shard"] = FormatShard(stats.shard);
    json["engine"] = stats.engine;
    Print(json.dump() + "\n");
  } else {
    const double seconds = static_cast<double>(progress.elapsed_ns) * 1e-9;
    Print(fmt::format("{}: {}\n{} read at {}/s; {}\n", flags.hot_set.path, FormatHotSet(progress),
                      FormatBytes(static_cast<double>(progress.read_bytes)),
                      FormatBytes(Ratio(static_cast<double>(progress.read_bytes), seconds)),
                      FormatEngine(stats)));
  }
  if (status.ok()) return ExitCode::kOk;
  PrintError("warm", status.ToString());
  return ExitCode::kFindings;
}

}  // namespace

Command AddWarmCommand(CLI::App& program) {
  auto flags = std::make_shared<WarmFlags>();
  flags->store.dram = "1GiB";
  CLI::App* const app =
      program.add_subcommand("warm", "Load a hot set and measure it, or tell what one is");
  app->add_option("PATH", flags->path, "Checkpoint directory");
  app->add_option("--info", flags->info, "Tell what this hot set holds, by its header")
      ->type_name("FILE");
  flags->hot_set.AddTo(*app);
  app->add_flag("--json", flags->json, "Print the report as JSON");
  flags->store.AddTo(*app);
  return {.app = app, .run = [flags] { return RunWarm(*flags); }};
}

}  // namespace tiercel::tools
