#include "tools/replay_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>
#include <memory>
#include <vector>

#include "tiercel/synthetic.h"

namespace tiercel::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kFindingsMax = 10;

/// Counts distinct row ids. Emptied in constant time: a slot counts only if it
/// bears the number of the current round.
class DistinctRows {
 public:
  explicit DistinctRows(std::size_t row_count_max)
      : slots_(std::bit_ceil(2 * row_count_max + 2)), mask_(slots_.size() - 1) {}

  void Clear() noexcept {
    ++round_;
    count_ = 0;
  }

  void Add(RowId row) noexcept {
    // Fibonacci hashing; linear probing in a table that is half empty at least.
    std::size_t at = (Index(row) * 0x9E3779B97F4A7C15U >> 32) & mask_;
    while (slots_[at].round == round_) {
      if (slots_[at].row == row) return;
      at = (at + 1) & mask_;
    }
    slots_[at] = {.row = row, .round = round_};
    ++count_;
  }

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }

 private:
  struct Slot {
    RowId row{};
    std::uint64_t round = 0;
  };
  std::vector<Slot> slots_;
  std::size_t mask_;
  std::uint64_t round_ = 1;
  std::uint64_t count_ = 0;
};

/// One layer's part of a step: what was asked for and what came.
struct LayerBuffers {
  const LayerTable* table = nullptr;
  std::uint32_t layer_index = 0;    ///< In the recipe.
  std::vector<std::byte> bytes;     ///< Shape [t, columns, row size].
  std::vector<RowStatus> statuses;  ///< Shape [t, columns].
};

/// Runs the steps. All buffers are allocated once, by the constructor.
/// Threading: one thread at a time.
class Replayer {
 public:
  Replayer(Store& store, std::span<const std::int32_t> tokens,
           std::span<const std::uint64_t> offsets, const ReplayOptions& options);

  [[nodiscard]] Result<ReplayReport> Run();

 private:
  void MakeRuns();
  [[nodiscard]] Status Step();
  [[nodiscard]] Status Examine();
  void ExamineLayer(const LayerBuffers& layer, std::size_t first_token, std::size_t token_count);
  void CheckRow(const LayerBuffers& layer, RowId row, bool dead, std::size_t i);
  void AddFinding(const LayerBuffers& layer, RowId row, const std::string& what);
  void EndWarmUp();

  Store& store_;
  std::span<const std::int32_t> tokens_;
  const ReplayOptions& options_;
  const std::size_t history_max_;
  const std::size_t column_count_;
  ReplaySchedule schedule_;
  ReplayReport report_;
  StoreStats stats_before_;
  Clock::time_point wall_start_;

  std::vector<LayerBuffers> layers_;
  std::vector<ReplayChunk> chunks_;
  std::vector<TokenRun> runs_;
  std::vector<LayerOutput> outputs_;
  std::size_t step_tokens_ = 0;
  std::vector<std::uint64_t> step_ns_;
  // For the statistics and for checking: the ids of one run.
  std::vector<RowId> row_ids_;
  std::vector<std::uint8_t> dead_;
  std::vector<DistinctRows> distinct_;  ///< One a layer.
  std::vector<std::byte> expected_;
};

Replayer::Replayer(Store& store, std::span<const std::int32_t> tokens,
                   std::span<const std::uint64_t> offsets, const ReplayOptions& options)
    : store_(store),
      tokens_(tokens),
      options_(options),
      history_max_(store.checkpoint().recipe.parameters.order_max - 1),
      column_count_(store.checkpoint().recipe.column_count()),
      schedule_(offsets, options.schedule) {
  const std::size_t run_count =
      options.schedule.mode == ReplayMode::kDecode ? options.schedule.stream_count : 1;
  const std::size_t token_count_max = run_count * options.schedule.chunk_tokens;
  const CheckpointInfo& info = store.checkpoint();
  for (const std::uint32_t layer_id : options.layer_ids) {
    LayerBuffers layer;
    for (std::size_t i = 0; i < info.layers.size(); ++i) {
      if (info.layers[i].layer_id != layer_id) continue;
      layer.table = &info.layers[i];
      layer.layer_index = static_cast<std::uint32_t>(i);
    }
    const std::size_t row_bytes = layer.table->shape.row_size_bytes();
    layer.bytes.resize(token_count_max * column_count_ * row_bytes);
    layer.statuses.resize(token_count_max * column_count_);
    expected_.resize(std::max(expected_.size(), row_bytes));
    layers_.push_back(std::move(layer));
    distinct_.emplace_back(token_count_max * column_count_);
  }
  chunks_.reserve(run_count);
  runs_.reserve(run_count);
  outputs_.resize(layers_.size());
  row_ids_.resize(options.schedule.chunk_tokens * column_count_);
  dead_.resize(options.schedule.chunk_tokens);
  step_ns_.reserve(MeasureSchedule(offsets, options.schedule).step_count);

  report_.path = info.path;
  report_.layout = info.layout;
  report_.layer_ids = options.layer_ids;
  report_.column_count = static_cast<std::uint32_t>(column_count_);
  report_.schedule = options.schedule;
  report_.verified = options.verify;
}

void Replayer::MakeRuns() {
  runs_.clear();
  step_tokens_ = 0;
  for (const ReplayChunk& chunk : chunks_) {
    const std::uint64_t history =
        std::min<std::uint64_t>(chunk.begin - chunk.document_begin, history_max_);
    runs_.push_back({.history = tokens_.subspan(chunk.begin - history, history),
                     .tokens = tokens_.subspan(chunk.begin, chunk.end - chunk.begin)});
    step_tokens_ += chunk.end - chunk.begin;
  }
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    LayerBuffers& layer = layers_[i];
    const std::size_t row_count = step_tokens_ * column_count_;
    const std::span<std::byte> bytes =
        std::span(layer.bytes).first(row_count * layer.table->shape.row_size_bytes());
    outputs_[i] = {.layer_id = layer.table->layer_id,
                   .rows = bytes,
                   .row_status = std::span(layer.statuses).first(row_count)};
    // What the store does not write must not pass for the last step's good rows.
    if (options_.verify) std::memset(bytes.data(), 0xA5, bytes.size());
  }
}

Status Replayer::Step() {
  MakeRuns();
  const Clock::time_point start = Clock::now();
  Status status = store_.Lookup(runs_, outputs_);
  const Clock::time_point end = Clock::now();
  if (!status.ok() && status.code() != StatusCode::kPartial) return status;
  step_ns_.push_back(static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(end - start).count()));
  report_.token_count += step_tokens_;
  return Examine();
}

Status Replayer::Examine() {
  for (DistinctRows& distinct : distinct_) distinct.Clear();
  std::size_t first_token = 0;
  for (const TokenRun& run : runs_) {
    const std::size_t count = run.tokens.size();
    for (const LayerBuffers& layer : layers_) {
      Status status = store_.hasher().RowIds(layer.layer_index, run,
                                             std::span(row_ids_).first(count * column_count_),
                                             std::span(dead_).first(count));
      if (!status.ok()) return status;
      ExamineLayer(layer, first_token, count);
    }
    first_token += count;
  }
  for (const DistinctRows& distinct : distinct_) report_.distinct_row_count += distinct.count();
  return Status();
}

void Replayer::ExamineLayer(const LayerBuffers& layer, std::size_t first_token,
                            std::size_t token_count) {
  DistinctRows& distinct = distinct_[static_cast<std::size_t>(&layer - layers_.data())];
  for (std::size_t i = 0; i < token_count * column_count_; ++i) {
    const bool dead = dead_[i / column_count_] != 0;
    if (!dead) distinct.Add(row_ids_[i]);
    CheckRow(layer, row_ids_[i], dead, first_token * column_count_ + i);
  }
}

void Replayer::CheckRow(const LayerBuffers& layer, RowId row, bool dead, std::size_t i) {
  const RowStatus status = layer.statuses[i];
  if (status != RowStatus::kOk && status != RowStatus::kDead) {
    ++report_.rows_failed;
    AddFinding(layer, row, fmt::format("failed: {}", Name(status)));
    return;
  }
  if (!options_.verify) return;
  ++report_.rows_checked;
  const std::size_t row_bytes = layer.table->shape.row_size_bytes();
  const std::span<std::byte> expected = std::span(expected_).first(row_bytes);
  if (status == RowStatus::kDead) {
    std::fill(expected.begin(), expected.end(), std::byte{0});
  } else {
    SyntheticRow(*store_.checkpoint().synthetic_seed, layer.table->layer_id, row,
                 layer.table->shape, expected);
  }
  const bool same = (status == RowStatus::kDead) == dead &&
                    std::memcmp(&layer.bytes[i * row_bytes], expected.data(), row_bytes) == 0;
  if (same) return;
  ++report_.rows_different;
  AddFinding(layer, row, fmt::format("differs ({})", Name(status)));
}

void Replayer::AddFinding(const LayerBuffers& layer, RowId row, const std::string& what) {
  if (report_.findings.size() >= kFindingsMax) return;
  const std::uint64_t position = chunks_.front().begin;
  report_.findings.push_back(fmt::format("layer {} row {} {}, in the step that begins at token {}",
                                         layer.table->layer_id, Index(row), what, position));
}

void Replayer::EndWarmUp() {
  // Wrong rows of the warm-up stay counted: they are findings all the same.
  report_.warm_token_count = report_.token_count;
  report_.token_count = 0;
  report_.distinct_row_count = 0;
  step_ns_.clear();
  stats_before_ = store_.Stats();
  wall_start_ = Clock::now();
}

Result<ReplayReport> Replayer::Run() {
  stats_before_ = store_.Stats();
  wall_start_ = Clock::now();
  bool warm = options_.warm_token_count == 0;
  while (schedule_.Next(chunks_)) {
    if (Status status = Step(); !status.ok()) return status;
    if (!warm && schedule_.token_count() >= options_.warm_token_count) {
      warm = true;
      EndWarmUp();
    }
    if (options_.progress && !options_.progress(schedule_.token_count())) {
      return Status(StatusCode::kCancelled,
                    fmt::format("stopped after {} tokens", schedule_.token_count()));
    }
  }
  report_.wall_seconds = std::chrono::duration<double>(Clock::now() - wall_start_).count();
  report_.stats = Difference(store_.Stats(), stats_before_);
  report_.step_count = step_ns_.size();
  for (const std::uint64_t ns : step_ns_) report_.lookup_seconds += static_cast<double>(ns) * 1e-9;
  report_.steps = MeasureSteps(step_ns_);
  report_.memory = ReadResidentMemory();
  return std::move(report_);
}

}  // namespace

Result<ReplayReport> Replay(Store& store, std::span<const std::int32_t> tokens,
                            std::span<const std::uint64_t> offsets, const ReplayOptions& options) {
  return std::make_unique<Replayer>(store, tokens, offsets, options)->Run();
}

}  // namespace tiercel::tools
