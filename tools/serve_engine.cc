#include "tools/serve_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <span>
#include <thread>
#include <utility>

#include "tools/replay_schedule.h"

namespace tiercel::tools {
namespace {

using Clock = std::chrono::steady_clock;

/// A thread that sleeps wakes up late by up to so much; the rest is spun away.
constexpr std::chrono::microseconds kWakeUpSlack(300);
/// Tokens of a lookup of the warm-up.
constexpr std::size_t kWarmTokens = 2048;
/// Reads of the bursts that tell what the disk can do, and how many bursts come before each turn
/// of an arm: what is shared can do half as much a minute later, and no arm alone follows them.
constexpr std::uint32_t kCapacityReads = 4096;
constexpr int kCapacityBursts = 2;

std::uint64_t Ns(Clock::duration duration) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count());
}

void ComputeUntil(Clock::time_point time) {
  const Clock::time_point now = Clock::now();
  if (time - now > kWakeUpSlack) std::this_thread::sleep_until(time - kWakeUpSlack);
  while (Clock::now() < time) {
  }
}

/// A layer's rows, at an address that does not change.
struct Rows {
  std::uint32_t layer_id = 0;
  std::size_t row_bytes = 0;
  std::vector<std::byte> bytes;
  std::vector<RowStatus> status;

  Rows(const Store& store, std::uint32_t layer, std::size_t row_count)
      : layer_id(layer),
        row_bytes(store.OutputRowSizeBytes(layer, RowOutput::kStored).value()),
        bytes(row_count * row_bytes),
        status(row_count) {}
};

/// Whether the status of a lookup or a wait lets the simulation go on: a row that cannot
/// be read is the table's affair.
bool Served(const Status& status) {
  return status.ok() || status.code() == StatusCode::kPartial;
}

class ServeEngine {
 public:
  ServeEngine(Store& store, DiskBursts& bursts, const TokenTrace& trace,
              const ServeOptions& options)
      : store_(store),
        bursts_(bursts),
        trace_(trace),
        options_(options),
        history_max_(store.checkpoint().recipe.parameters.order_max - 1),
        column_count_(store.checkpoint().recipe.column_count()),
        reads_per_group_(ReadsPerGroup(store)),
        schedule_(
            trace.offsets,
            {.mode = ReplayMode::kDecode, .stream_count = options.stream_count, .chunk_tokens = 1}),
        prompt_end_(trace.tokens.size()) {
    for (const std::uint32_t layer_id : options.layer_ids) {
      rows_.emplace_back(store, layer_id, options.stream_count * column_count_);
      if (options.prefill_token_count > 0) {
        prompt_rows_.emplace_back(store, layer_id, options.prefill_token_count * column_count_);
      }
    }
  }

  Result<ServeRun> Run();

 private:
  static std::uint32_t ReadsPerGroup(const Store& store) {
    const CheckpointInfo& info = store.checkpoint();
    const bool scales_on_disk =
        info.layers[0].parts.size() > 1 && store.Stats().resident_scale_bytes == 0;
    return info.recipe.parameters.head_count *
           static_cast<std::uint32_t>(scales_on_disk ? info.layers[0].parts.size() : 1);
  }

  [[nodiscard]] Status WarmUp();
  [[nodiscard]] Status MeasureDisk();
  [[nodiscard]] Status RunSteps(ServeArm& arm, std::uint64_t count, bool beside_prompt);
  [[nodiscard]] Status Step(ServeArm& arm);
  [[nodiscard]] Status IdealStep(ServeArm& arm);
  [[nodiscard]] Status KeepPrompt();
  [[nodiscard]] Status CheckTrace();
  void NextRuns();
  [[nodiscard]] Status CheckInterrupt();

  Store& store_;
  DiskBursts& bursts_;
  const TokenTrace& trace_;
  const ServeOptions& options_;
  const std::size_t history_max_;
  const std::size_t column_count_;
  const std::uint32_t reads_per_group_;
  ReplaySchedule schedule_;
  std::vector<ReplayChunk> chunks_;
  std::vector<TokenRun> runs_;
  std::vector<Rows> rows_;
  std::vector<Rows> prompt_rows_;
  std::vector<PrefetchLayer> layers_;
  Ticket prompt_;
  ServePrefill prefill_;
  std::vector<double> burst_seconds_;  ///< Of all rounds.
  std::uint64_t prompt_end_;           ///< Prompts are taken from the trace's end backwards.
  std::uint64_t steps_done_ = 0;
};

/// Whether the trace has tokens for all steps: told before the first, not after minutes.
Status ServeEngine::CheckTrace() {
  ReplaySchedule schedule = schedule_;
  const auto next = [&] {
    return schedule.Next(chunks_) && chunks_.size() == options_.stream_count;
  };
  const auto too_short = [&](std::string_view what) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("the trace ends after {} tokens, before {}: it takes a longer one, "
                              "or fewer steps or streams",
                              schedule.token_count(), what));
  };
  for (std::uint64_t done = 0; done < options_.warm_token_count; done += chunks_.size()) {
    if (!next()) return too_short("the cache is warm");
  }
  const std::uint64_t arms = options_.prefill_token_count > 0 ? 2 : 1;
  for (std::uint64_t step = 0; step < arms * options_.step_count; ++step) {
    if (!next()) return too_short("the last step");
  }
  return {};
}

/// Sets runs_ to the next token of each stream. REQUIRES: CheckTrace() went well.
void ServeEngine::NextRuns() {
  runs_.clear();
  schedule_.Next(chunks_);
  for (const ReplayChunk& chunk : chunks_) {
    const std::uint64_t history =
        std::min<std::uint64_t>(chunk.begin - chunk.document_begin, history_max_);
    const std::span<const std::int32_t> tokens = trace_.tokens;
    runs_.push_back({.history = tokens.subspan(chunk.begin - history, history),
                     .tokens = tokens.subspan(chunk.begin, chunk.end - chunk.begin)});
  }
}

Status ServeEngine::CheckInterrupt() {
  const std::uint64_t arms = options_.prefill_token_count > 0 ? 2 : 1;
  if (!options_.progress || options_.progress(steps_done_, arms * options_.step_count)) return {};
  return Status(StatusCode::kCancelled, "stopped before the last step");
}

Status ServeEngine::WarmUp() {
  std::vector<TokenRun> batch;
  std::vector<Rows> rows;
  std::vector<LayerOutput> outputs;
  for (const std::uint32_t layer_id : options_.layer_ids) {
    rows.emplace_back(store_, layer_id, (kWarmTokens + options_.stream_count) * column_count_);
  }
  std::uint64_t done = 0;
  while (done < options_.warm_token_count) {
    batch.clear();
    while (batch.size() < std::min<std::uint64_t>(kWarmTokens, options_.warm_token_count - done)) {
      NextRuns();
      batch.insert(batch.end(), runs_.begin(), runs_.end());
    }
    outputs.clear();
    for (Rows& layer : rows) {
      const std::size_t row_count = batch.size() * column_count_;
      outputs.push_back({.layer_id = layer.layer_id,
                         .rows = std::span(layer.bytes).first(row_count * layer.row_bytes),
                         .row_status = std::span(layer.status).first(row_count)});
    }
    if (Status status = store_.Lookup(batch, outputs); !Served(status)) return status;
    if (Status status = CheckInterrupt(); !status.ok()) return status;
    done += batch.size();
  }
  return {};
}

Status ServeEngine::MeasureDisk() {
  for (int i = 0; i < kCapacityBursts; ++i) {
    const std::uint32_t count = kCapacityReads;
    std::chrono::nanoseconds done_after{0};
    if (Status status = bursts_.Read({&count, 1}, {&done_after, 1}); !status.ok()) return status;
    burst_seconds_.push_back(std::chrono::duration<double>(done_after).count());
  }
  return {};
}

Status ServeEngine::Step(ServeArm& arm) {
  const auto block_time = options_.step_time / options_.block_count;
  layers_.clear();
  for (Rows& layer : rows_) {
    layers_.push_back({.layer_id = layer.layer_id,
                       .needed_after = block_time * layer.layer_id,
                       .rows = layer.bytes,
                       .row_status = layer.status});
  }
  const Clock::time_point start = Clock::now();
  Result<Ticket> ticket = store_.Start(runs_, layers_);
  arm.start_ns.push_back(Ns(Clock::now() - start));
  if (!ticket.ok()) return std::move(ticket).TakeStatus();
  Clock::duration exposed{0};
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    ComputeUntil(start + exposed + block_time * rows_[i].layer_id);
    const Clock::time_point asked = Clock::now();
    if (Status status = ticket.value().Wait(rows_[i].layer_id); !Served(status)) return status;
    const Clock::duration waited = Clock::now() - asked;
    exposed += waited;
    const Result<TicketStats> stats = ticket.value().Stats(rows_[i].layer_id);
    arm.layers[i].push_back(
        {.exposed_ns = Ns(waited),
         .groups = stats.value().groups,
         .dram_hits = stats.value().dram_hits,
         .reads = static_cast<std::uint32_t>(stats.value().fetches) * reads_per_group_});
  }
  const Clock::time_point end = start + exposed + options_.step_time;
  ComputeUntil(end);
  arm.seconds += std::chrono::duration<double>(end - start).count();
  return {};
}

/// A step like the last one, whose reads are made by nobody but a queue: it comes at the
/// same time after the last reads, for a disk and a machine that were idle are slower.
Status ServeEngine::IdealStep(ServeArm& arm) {
  const Clock::time_point start = Clock::now();
  std::vector<std::uint32_t> counts;
  for (const auto& layer : arm.layers) counts.push_back(layer.back().reads);
  std::vector<std::chrono::nanoseconds> done_after(counts.size());
  if (Status status = bursts_.Read(counts, done_after); !status.ok()) return status;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    arm.layers[i].back().burst_ns = static_cast<std::uint64_t>(done_after[i].count());
  }
  ComputeUntil(start + options_.step_time);
  return {};
}

/// Has a prompt wait in the background: the next one when the last is served.
Status ServeEngine::KeepPrompt() {
  if (prompt_.valid()) {
    for (const Rows& layer : prompt_rows_) {
      const std::optional<Status> outcome = prompt_.TryWait(layer.layer_id);
      if (!outcome.has_value()) return {};
      if (!Served(*outcome)) return Status(outcome->code(), std::string(outcome->message()));
    }
    ++prefill_.prompt_count;
    prefill_.token_count += options_.prefill_token_count;
  }
  prompt_ = Ticket();
  if (prompt_end_ < options_.prefill_token_count + schedule_.token_count()) {
    return Status(StatusCode::kInvalidArgument, "the trace is too short for so many prompts");
  }
  prompt_end_ -= options_.prefill_token_count;
  const TokenRun run = {
      .history = {},
      .tokens = std::span(trace_.tokens).subspan(prompt_end_, options_.prefill_token_count)};
  std::vector<PrefetchLayer> layers;
  for (Rows& layer : prompt_rows_) {
    layers.push_back({.layer_id = layer.layer_id, .rows = layer.bytes, .row_status = layer.status});
  }
  Result<Ticket> ticket = store_.Start({&run, 1}, layers, {.urgency = Urgency::kBackground});
  if (!ticket.ok()) return std::move(ticket).TakeStatus();
  prompt_ = std::move(ticket).value();
  return {};
}

Status ServeEngine::RunSteps(ServeArm& arm, std::uint64_t count, bool beside_prompt) {
  if (Status status = MeasureDisk(); !status.ok()) return status;
  arm.layers.resize(rows_.size());
  for (std::uint64_t i = 0; i < count; ++i) {
    if (beside_prompt) {
      if (Status status = KeepPrompt(); !status.ok()) return status;
    }
    NextRuns();
    const std::uint64_t reads_before = store_.Stats().device_reads;
    if (Status status = Step(arm); !status.ok()) return status;
    if (beside_prompt) {
      prefill_.reads += store_.Stats().device_reads - reads_before;
      for (const auto& layer : arm.layers) prefill_.reads -= layer.back().reads;
    }
    if (Status status = IdealStep(arm); !status.ok()) return status;
    ++steps_done_;
    if (Status status = CheckInterrupt(); !status.ok()) return status;
  }
  prompt_ = Ticket();
  return {};
}

Result<ServeRun> ServeEngine::Run() {
  ServeRun run;
  if (Status status = CheckTrace(); !status.ok()) return status;
  if (Status status = WarmUp(); !status.ok()) return status;
  for (std::uint32_t round = 0; round < options_.round_count; ++round) {
    const std::uint64_t count = options_.step_count * (round + 1) / options_.round_count -
                                options_.step_count * round / options_.round_count;
    if (Status status = RunSteps(run.alone, count, false); !status.ok()) return status;
    if (options_.prefill_token_count == 0) continue;
    if (Status status = RunSteps(run.beside, count, true); !status.ok()) return status;
  }
  std::ranges::sort(burst_seconds_);
  run.disk_reads_per_second = kCapacityReads / burst_seconds_[burst_seconds_.size() / 2];
  run.prefill = prefill_;
  run.stats = store_.Stats();
  return run;
}

}  // namespace

Result<ServeRun> Serve(Store& store, DiskBursts& bursts, const TokenTrace& trace,
                       const ServeOptions& options) {
  return std::make_unique<ServeEngine>(store, bursts, trace, options)->Run();
}

}  // namespace tiercel::tools
