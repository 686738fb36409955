// What a restart costs: a store is served until its cache is warm and saves its hot set; new
// stores load it, and serve the tokens that the first one would have served next.
//
// Arms, in turns, medians of the rounds: the file read from its first byte to its last, 1 MiB
// at a time, 8 in flight, no byte looked at; a store that loads the file with its bytes; the
// pages of the groups' rows read once each in the order in which they lie on disk, neighbours
// in one read of up to 256 KiB, 32 in flight, no byte looked at; a store that loads the keys
// alone. All go past the page cache. Loading is timed from LoadHotSet() until WaitForHotSet()
// returns; Store::Open() is not in it. Memory of a virtual machine that its host has taken back
// comes again at seconds a GiB: before each load, as much as the store takes is written to once
// and given up, so that the kernel has it at hand.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "cache/hot_set_coding.h"
#include "io/device.h"
#include "store/hot_set_file.h"
#include "store/store_impl.h"
#include "tiercel/store.h"
#include "tools/command_line.h"
#include "tools/replay_schedule.h"
#include "tools/token_trace.h"

namespace tiercel::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kPageBytes = 4096;
constexpr std::uint32_t kMergedBytes = 256 << 10;
constexpr std::uint32_t kFileReadBytes = 1 << 20;
constexpr std::uint32_t kFileDepth = 8;
constexpr std::uint32_t kPageDepth = 32;

struct RestartFlags {
  std::string checkpoint;
  std::string trace;
  std::string offsets;
  std::string token_map;
  std::string dram = "1GiB";
  std::string hot_set;
  std::uint64_t warm_tokens = 200000;
  std::uint64_t measured_tokens = 20000;
  std::uint32_t round_count = 3;
  bool json = false;
};

/// One arm: seconds of each round, and what its store hit afterwards.
struct RestartArm {
  std::vector<double> seconds;
  std::vector<double> hit_rates;
  std::uint64_t read_bytes = 0;
};

double Median(std::vector<double> values) {
  if (values.empty()) return 0.0;
  std::ranges::sort(values);
  return values[values.size() / 2];
}

double SecondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// Reads in a given order, as many at a time as the queue takes, and drops the bytes.
class Sweep final : private ReadSink {
 public:
  /// Errors: as OpenDevice(); kIoError.
  Result<double> Run(const std::vector<std::string>& paths, std::span<const ReadRequest> reads,
                     std::uint32_t depth, std::uint32_t read_bytes) {
    Result<OpenedDevice> opened =
        OpenDevice(EngineChoice::kAuto, paths, {.depth = depth, .read_size_bytes_max = read_bytes});
    if (!opened.ok()) return std::move(opened).TakeStatus();
    Result<std::unique_ptr<ReadQueue>> made = opened.value().device->NewQueue();
    if (!made.ok()) return std::move(made).TakeStatus();
    ReadQueue& queue = *made.value();
    failed_ = 0;
    const Clock::time_point begin = Clock::now();
    std::size_t next = 0;
    while (next < reads.size() || queue.in_flight() > 0) {
      while (next < reads.size() && queue.in_flight() < queue.depth()) queue.Submit(reads[next++]);
      queue.Run(*this, std::chrono::seconds(1));
    }
    const double seconds = SecondsSince(begin);
    if (failed_ > 0) return Status(StatusCode::kIoError, fmt::format("{} reads failed", failed_));
    return seconds;
  }

 private:
  void OnRead(const ReadCompletion& completion) noexcept override {
    if (completion.os_error != 0) ++failed_;
  }
  std::uint64_t failed_ = 0;
};

/// The whole file in pieces.
Result<std::vector<ReadRequest>> ReadsOfFile(const std::string& path) {
  std::error_code error;
  const std::uint64_t size_bytes = std::filesystem::file_size(path, error);
  if (error) return Status(StatusCode::kIoError, fmt::format("{}: {}", path, error.message()));
  std::vector<ReadRequest> reads;
  for (std::uint64_t at = 0; at < size_bytes; at += kFileReadBytes) {
    const auto count =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(kFileReadBytes, size_bytes - at));
    reads.push_back({.file_index = 0, .size_bytes = count, .offset_bytes = at, .tag = 0});
  }
  return reads;
}

struct MarkScratch {
  std::vector<RowId> rows;
  std::vector<std::byte> row_bytes;
};

/// Marks the pages of the rows of one group.
void MarkPages(const Store::Impl& store, std::uint32_t space_index, std::uint64_t key,
               MarkScratch& scratch, std::vector<std::vector<bool>>& pages) {
  std::vector<RowId>& rows = scratch.rows;
  const Space& space = store.layout.spaces[space_index];
  const ServedLayer& layer = store.layout.layers[space.layer_index];
  rows.resize(space.row_count);
  std::vector<std::byte>& row_bytes = scratch.row_bytes;
  row_bytes.resize(layer.row_size_bytes);
  store.hasher.RowsOfMix(layer.recipe_index, space.order_index, key, rows);
  for (const RowId row : rows) {
    for (std::uint32_t part = 0; part < store.locator.PartCount(space.layer_index); ++part) {
      if (store.locator.CopyResident(space.layer_index, part, row, row_bytes)) continue;
      const RowRead read = store.locator.Locate(space.layer_index, part, row);
      const std::uint64_t end = read.offset_bytes + read.size_bytes;
      for (std::uint64_t page = read.offset_bytes / kPageBytes; page * kPageBytes < end; ++page) {
        pages[read.file_index][page] = true;
      }
    }
  }
}

/// Each page that holds a part of a saved group's rows, once, in the order on disk.
Result<std::vector<ReadRequest>> ReadsOfPages(Store& store, const std::string& path) {
  const Store::Impl& impl = StoreAccess::ImplOf(store);
  Result<HotSetHeader> header = ReadHotSetHeader(path);
  if (!header.ok()) return std::move(header).TakeStatus();
  std::vector<std::vector<bool>> pages;
  for (const TableFile& file : impl.checkpoint.files) {
    pages.emplace_back(file.size_bytes / kPageBytes + 1);
  }
  Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
  if (!file.ok()) return std::move(file).TakeStatus();
  std::vector<std::byte> block(header.value().block_bytes);
  std::vector<HotGroup> groups;
  MarkScratch scratch;
  for (std::uint64_t i = 0; i < header.value().block_count; ++i) {
    Status status = ReadAt(file.value(), path, header.value().BlockOffset(i), block);
    if (!status.ok()) return status;
    status = DecodeHotSetBlock(header.value(), i, block, path, groups);
    if (!status.ok()) return status;
    // The store that saved it has the spaces in this order.
    for (const HotGroup& group : groups) {
      MarkPages(impl, group.id.space, group.id.key, scratch, pages);
    }
  }
  std::vector<ReadRequest> reads;
  for (std::uint32_t index = 0; index < pages.size(); ++index) {
    const std::uint64_t size_bytes = impl.checkpoint.files[index].size_bytes;
    for (std::uint64_t page = 0; page < pages[index].size(); ++page) {
      if (!pages[index][page]) continue;
      const std::uint64_t at = page * kPageBytes;
      const auto count =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(kPageBytes, size_bytes - at));
      ReadRequest* const last = reads.empty() ? nullptr : &reads.back();
      if (last != nullptr && last->file_index == index &&
          last->offset_bytes + last->size_bytes == at && last->size_bytes + count <= kMergedBytes) {
        last->size_bytes += count;
      } else {
        reads.push_back({.file_index = index, .size_bytes = count, .offset_bytes = at, .tag = 0});
      }
    }
  }
  return reads;
}

/// Serves the trace, chunk by chunk.
class Server {
 public:
  Server(const tools::TokenTrace& trace, const Store& store) : trace_(trace) {
    const std::size_t columns = store.checkpoint().recipe.column_count();
    for (const auto& layer : store.checkpoint().recipe.layers) {
      const std::size_t row_bytes =
          store.OutputRowSizeBytes(layer.layer_id, RowOutput::kStored).value();
      layers_.push_back({.layer_id = layer.layer_id,
                         .bytes = std::vector<std::byte>(kChunkTokens * columns * row_bytes),
                         .status = std::vector<RowStatus>(kChunkTokens * columns)});
    }
    history_max_ = store.checkpoint().recipe.order_count();
  }

  /// Serves so many tokens from where `schedule` stands. Returns the share of groups that
  /// were in DRAM. Errors: as Store::Lookup(), and kInvalidArgument where the trace ends.
  Result<double> Serve(Store& store, tools::ReplaySchedule& schedule, std::uint64_t token_count) {
    const std::uint64_t end = schedule.token_count() + token_count;
    const auto [groups_before, hits_before] = CountsOf(store);
    std::vector<tools::ReplayChunk> chunks;
    while (schedule.token_count() < end) {
      if (!schedule.Next(chunks)) {
        return Status(StatusCode::kInvalidArgument,
                      fmt::format("the trace ends after {} tokens", schedule.token_count()));
      }
      const tools::ReplayChunk& chunk = chunks.front();
      const std::uint64_t history =
          std::min<std::uint64_t>(chunk.begin - chunk.document_begin, history_max_);
      const std::span<const std::int32_t> tokens = trace_.tokens;
      const TokenRun run = {.history = tokens.subspan(chunk.begin - history, history),
                            .tokens = tokens.subspan(chunk.begin, chunk.end - chunk.begin)};
      std::vector<LayerOutput> outputs;
      for (Layer& layer : layers_) {
        const std::size_t count = run.tokens.size();
        outputs.push_back(
            {.layer_id = layer.layer_id,
             .rows = std::span(layer.bytes).first(layer.bytes.size() / kChunkTokens * count),
             .row_status =
                 std::span(layer.status).first(layer.status.size() / kChunkTokens * count)});
      }
      if (Status status = store.Lookup({&run, 1}, outputs); !status.ok()) return status;
    }
    const auto [groups, hits] = CountsOf(store);
    return static_cast<double>(hits - hits_before) /
           static_cast<double>(std::max<std::uint64_t>(groups - groups_before, 1));
  }

  static constexpr std::uint32_t kChunkTokens = 64;

 private:
  struct Layer {
    std::uint32_t layer_id = 0;
    std::vector<std::byte> bytes;
    std::vector<RowStatus> status;
  };

  static std::pair<std::uint64_t, std::uint64_t> CountsOf(const Store& store) {
    std::uint64_t groups = 0;
    std::uint64_t hits = 0;
    for (const OrderStats& order : store.Stats().orders) {
      groups += order.groups;
      hits += order.dram_hits;
    }
    return {groups, hits};
  }

  const tools::TokenTrace& trace_;
  std::vector<Layer> layers_;
  std::size_t history_max_ = 0;
};

/// What a run found.
struct RestartRun {
  double former_hit_rate = 0.0;
  std::uint64_t group_count = 0;
  std::string engine;
  RestartArm file;
  RestartArm image;
  RestartArm pages;
  RestartArm keys;
};

Result<std::unique_ptr<Store>> OpenStore(const RestartFlags& flags,
                                         const std::shared_ptr<const TokenMap>& token_map) {
  Result<std::uint64_t> dram = tools::ParseByteSize(flags.dram);
  if (!dram.ok()) return std::move(dram).TakeStatus();
  StoreOptions options;
  options.dram_budget_bytes = dram.value();
  options.token_map = token_map;
  options.log = [](std::string_view line) { tools::PrintError("restart_bench", line); };
  return Store::Open(flags.checkpoint, options);
}

/// Has the host of a virtual machine bring so much memory.
void TouchMemory(std::uint64_t size_bytes) {
  void* const memory =
      mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return;  // The store will tell what it lacks.
  madvise(memory, size_bytes, MADV_HUGEPAGE);
  for (std::uint64_t at = 0; at < size_bytes; at += kPageBytes) {
    static_cast<volatile char*>(memory)[at] = 1;
  }
  munmap(memory, size_bytes);
}

/// Restarts from the hot set: how long it takes to load, and what is hit then.
Status Restart(const RestartFlags& flags, const std::shared_ptr<const TokenMap>& token_map,
               const std::string& hot_set, Server& server, tools::ReplaySchedule schedule,
               RestartArm& arm) {
  Result<std::unique_ptr<Store>> opened = OpenStore(flags, token_map);
  if (!opened.ok()) return std::move(opened).TakeStatus();
  Store& store = *opened.value();
  TouchMemory(store.Stats().dram_budget_bytes);  // Its cache is not written to yet.
  const Clock::time_point begin = Clock::now();
  if (Status status = store.LoadHotSet(hot_set); !status.ok()) return status;
  if (Status status = store.WaitForHotSet(); !status.ok()) return status;
  arm.seconds.push_back(SecondsSince(begin));
  arm.read_bytes = store.HotSet().read_bytes;
  Result<double> hit_rate = server.Serve(store, schedule, flags.measured_tokens);
  if (!hit_rate.ok()) return std::move(hit_rate).TakeStatus();
  arm.hit_rates.push_back(hit_rate.value());
  return {};
}

/// The keys alone, beside the hot set.
std::string KeysPath(const RestartFlags& flags) {
  return flags.hot_set + ".keys";
}

/// Serves, and saves the hot set; or loads one that is there. Saves its keys.
Status MakeWarm(const RestartFlags& flags, Store& store, Server& server,
                tools::ReplaySchedule& schedule) {
  if (flags.warm_tokens == 0) {
    if (Status status = store.LoadHotSet(flags.hot_set); !status.ok()) return status;
    if (Status status = store.WaitForHotSet(); !status.ok()) return status;
  } else {
    Result<double> warm = server.Serve(store, schedule, flags.warm_tokens);
    if (!warm.ok()) return std::move(warm).TakeStatus();
    Result<HotSetSaved> saved = store.SaveHotSet(flags.hot_set);
    if (!saved.ok()) return std::move(saved).TakeStatus();
  }
  Result<HotSetSaved> keys = store.SaveHotSet(KeysPath(flags), {.bytes = false});
  return keys.ok() ? Status() : std::move(keys).TakeStatus();
}

/// Sweeps the reads once.
Status RunSweep(const std::vector<std::string>& paths, const std::vector<ReadRequest>& reads,
                std::uint32_t depth, std::uint32_t read_bytes, RestartArm& arm) {
  Result<double> seconds = Sweep().Run(paths, reads, depth, read_bytes);
  if (!seconds.ok()) return std::move(seconds).TakeStatus();
  arm.seconds.push_back(seconds.value());
  arm.read_bytes = 0;
  for (const ReadRequest& read : reads) arm.read_bytes += read.size_bytes;
  return {};
}

Result<RestartRun> RunBench(const RestartFlags& flags) {
  std::shared_ptr<const TokenMap> token_map;
  std::uint64_t id_limit = std::uint64_t{1} << 31;
  if (!flags.token_map.empty()) {
    Result<TokenMap> map = TokenMap::Load(flags.token_map);
    if (!map.ok()) return std::move(map).TakeStatus();
    id_limit = map.value().entry_count();
    token_map = std::make_shared<const TokenMap>(std::move(map).value());
  }
  Result<tools::TracePaths> paths = tools::FindTrace(flags.trace, flags.offsets);
  if (!paths.ok()) return std::move(paths).TakeStatus();
  Result<tools::TokenTrace> trace = tools::LoadTokenTrace(paths.value(), id_limit);
  if (!trace.ok()) return std::move(trace).TakeStatus();

  RestartRun run;
  tools::ReplaySchedule schedule(trace.value().offsets, {.chunk_tokens = Server::kChunkTokens});
  std::vector<std::string> table_paths;
  std::vector<ReadRequest> page_reads;
  std::unique_ptr<Server> server;
  {
    Result<std::unique_ptr<Store>> opened = OpenStore(flags, token_map);
    if (!opened.ok()) return std::move(opened).TakeStatus();
    Store& store = *opened.value();
    run.engine = store.Stats().engine;
    for (const TableFile& file : store.checkpoint().files) table_paths.push_back(file.path);
    server = std::make_unique<Server>(trace.value(), store);
    if (Status status = MakeWarm(flags, store, *server, schedule); !status.ok()) return status;
    Result<HotSetHeader> header = ReadHotSetHeader(flags.hot_set);
    if (!header.ok()) return std::move(header).TakeStatus();
    run.group_count = header.value().group_count;
    Result<std::vector<ReadRequest>> reads = ReadsOfPages(store, KeysPath(flags));
    if (!reads.ok()) return std::move(reads).TakeStatus();
    page_reads = std::move(reads).value();
    tools::ReplaySchedule next = schedule;
    Result<double> hit_rate = server->Serve(store, next, flags.measured_tokens);
    if (!hit_rate.ok()) return std::move(hit_rate).TakeStatus();
    run.former_hit_rate = hit_rate.value();
  }
  Result<std::vector<ReadRequest>> file_reads = ReadsOfFile(flags.hot_set);
  if (!file_reads.ok()) return std::move(file_reads).TakeStatus();
  for (std::uint32_t round = 0; round < flags.round_count; ++round) {
    Status status =
        RunSweep({flags.hot_set}, file_reads.value(), kFileDepth, kFileReadBytes, run.file);
    if (!status.ok()) return status;
    status = Restart(flags, token_map, flags.hot_set, *server, schedule, run.image);
    if (!status.ok()) return status;
    status = RunSweep(table_paths, page_reads, kPageDepth, kMergedBytes, run.pages);
    if (!status.ok()) return status;
    status = Restart(flags, token_map, KeysPath(flags), *server, schedule, run.keys);
    if (!status.ok()) return status;
  }
  return run;
}

void Print(const RestartFlags& flags, const RestartRun& run) {
  const std::pair<const char*, const RestartArm*> arms[] = {{"file_read_in_order", &run.file},
                                                            {"restart_from_image", &run.image},
                                                            {"pages_read_in_order", &run.pages},
                                                            {"restart_from_keys", &run.keys}};
  if (flags.json) {
    nlohmann::ordered_json json = {{"engine", run.engine},
                                   {"group_count", run.group_count},
                                   {"former_hit_rate", run.former_hit_rate}};
    for (const auto& [name, arm] : arms) {
      json[name] = {{"seconds", Median(arm->seconds)},
                    {"seconds_of_rounds", arm->seconds},
                    {"read_bytes", arm->read_bytes},
                    {"hit_rate", Median(arm->hit_rates)}};
    }
    tools::Print(json.dump() + "\n");
    return;
  }
  tools::Print(fmt::format("{} groups saved; {} were hit before, of {} tokens; {}\n",
                           run.group_count, tools::FormatPercent(run.former_hit_rate, 1.0),
                           flags.measured_tokens, run.engine));
  for (const auto& [name, arm] : arms) {
    const double seconds = Median(arm->seconds);
    tools::Print(fmt::format("{:<22}{:>8.2f} s  {:>7.2f} GB/s", name, seconds,
                             static_cast<double>(arm->read_bytes) / seconds / 1e9));
    if (!arm->hit_rates.empty()) {
      const RestartArm& base = arm == &run.image ? run.file : run.pages;
      tools::Print(fmt::format("  {} hit; {:.2f} x the time of the reads alone",
                               tools::FormatPercent(Median(arm->hit_rates), 1.0),
                               seconds / Median(base.seconds)));
    }
    tools::Print("\n");
  }
}

}  // namespace

int RestartMain(int argc, char** argv) {
  CLI::App app("What a restart from a hot set costs", "restart_bench");
  RestartFlags flags;
  app.add_option("checkpoint", flags.checkpoint, "Checkpoint directory")->required();
  app.add_option("trace", flags.trace, "Token trace: TRACE.tokens.u32.zst, or what it begins with")
      ->required();
  app.add_option("--offsets", flags.offsets, "Its documents' boundaries");
  app.add_option("--token-map", flags.token_map, "Where the trace holds raw ids: their map");
  app.add_option("--dram", flags.dram, "DRAM budget of the stores");
  app.add_option("--hot-set", flags.hot_set, "The hot set, which is written")->required();
  app.add_option("--warm-tokens", flags.warm_tokens,
                 "Served before it is saved; 0: the hot set is there");
  app.add_option("--measured-tokens", flags.measured_tokens, "Served to see what is hit");
  app.add_option("--rounds", flags.round_count, "Of all arms")->check(CLI::Range(1, 100));
  app.add_flag("--json", flags.json, "One JSON object on stdout");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  Result<RestartRun> run = RunBench(flags);
  if (!run.ok()) {
    tools::PrintError("restart_bench", run.status().ToString());
    return 1;
  }
  Print(flags, run.value());
  return 0;
}

}  // namespace tiercel::bench

int main(int argc, char** argv) {
  return tiercel::bench::RestartMain(argc, argv);
}
