#include "bench/overlap_loop.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <numeric>
#include <utility>

#include "base/prng.h"

namespace tiercel::bench {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr std::size_t kServeTokens = 2048;

/// Adds the time that `work` takes to `seconds`, and returns what it returns.
template <typename Work>
auto Timed(double& seconds, const Work& work) {
  const Clock::time_point begin = Clock::now();
  auto result = work();
  seconds += Seconds(Clock::now() - begin).count();
  return result;
}

/// The rows of a step in all layers, at addresses that do not change.
struct StepRows {
  struct Layer {
    std::uint32_t layer_id = 0;
    std::vector<std::byte> bytes;
    std::vector<RowStatus> status;
  };
  std::vector<Layer> layers;

  StepRows(const Store* store, std::span<const std::uint32_t> layer_ids, std::size_t token_count) {
    if (store == nullptr) return;
    const std::size_t row_count = token_count * store->checkpoint().recipe.column_count();
    for (const std::uint32_t id : layer_ids) {
      const std::size_t row_bytes = store->OutputRowSizeBytes(id, RowOutput::kBf16).value();
      layers.push_back(
          {id, std::vector<std::byte>(row_count * row_bytes), std::vector<RowStatus>(row_count)});
    }
  }
  /// The outputs of a step of so many tokens, of `capacity` that there is room for.
  [[nodiscard]] std::span<std::byte> Rows(std::size_t layer, std::size_t tokens,
                                          std::size_t capacity) {
    return std::span(layers[layer].bytes).first(layers[layer].bytes.size() / capacity * tokens);
  }
  [[nodiscard]] std::span<RowStatus> Statuses(std::size_t layer, std::size_t tokens,
                                              std::size_t capacity) {
    return std::span(layers[layer].status).first(layers[layer].status.size() / capacity * tokens);
  }
};

/// A step: its runs, and the rows on their way to it.
struct Step {
  std::vector<TokenRun> runs;
  std::size_t token_count = 0;
  Ticket ticket;
};

/// Runs steps and keeps the times.
class Loop {
 public:
  Loop(Store* store, const OverlapModel& model, OverlapFetch fetch, std::size_t capacity,
       std::size_t steps_under_way)
      : store_(store), model_(model), fetch_(fetch), capacity_(capacity) {
    for (std::size_t i = 0; i < steps_under_way; ++i) {
      rows_.emplace_back(store, model.layer_ids, capacity);
    }
    times_.wait_seconds.resize(model.layer_ids.size());
  }

  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  ~Loop() {
    for (StepRows& rows : rows_) {
      for (StepRows::Layer& layer : rows.layers) {
        if (model_.release) model_.release(layer.bytes);
      }
    }
  }

  /// Before the first step.
  Status Prepare() {
    for (StepRows& rows : rows_) {
      for (StepRows::Layer& layer : rows.layers) {
        if (!model_.prepare) continue;
        if (Status status = model_.prepare(layer.bytes); !status.ok()) return status;
      }
    }
    return {};
  }

  /// Asks for the rows of `step`, the `index`th of all.
  Status Start(Step& step, std::uint64_t index, Urgency urgency) {
    if (fetch_ != OverlapFetch::kTickets) return {};
    StepRows& rows = rows_[index % rows_.size()];
    std::vector<PrefetchLayer> layers;
    for (std::size_t i = 0; i < rows.layers.size(); ++i) {
      layers.push_back({.layer_id = rows.layers[i].layer_id,
                        .needed_after = model_.block_time * rows.layers[i].layer_id,
                        .rows = rows.Rows(i, step.token_count, capacity_),
                        .row_status = rows.Statuses(i, step.token_count, capacity_)});
    }
    Result<Ticket> ticket = Timed(times_.start_seconds, [&] {
      return store_->Start(step.runs, layers, {.format = RowOutput::kBf16, .urgency = urgency});
    });
    if (!ticket.ok()) return std::move(ticket).TakeStatus();
    step.ticket = std::move(ticket).value();
    return {};
  }

  /// Runs the blocks.
  Status Run(Step& step, std::uint64_t index) {
    std::size_t next = 0;
    for (std::uint32_t block = 0; block < model_.block_count; ++block) {
      if (fetch_ != OverlapFetch::kNone && next < model_.layer_ids.size() &&
          model_.layer_ids[next] == block) {
        if (Status status = TakeRows(step, index, next); !status.ok()) return status;
        ++next;
      }
      Status status = Timed(times_.compute_seconds, [&] { return Compute(block, step); });
      if (!status.ok()) return status;
    }
    if (model_.finish) {
      Status status = Timed(times_.compute_seconds, model_.finish);
      if (!status.ok()) return status;
    }
    times_.token_count += step.token_count;
    ++times_.step_count;
    times_.planned_seconds += Seconds(model_.block_time * model_.block_count).count();
    return {};
  }

  [[nodiscard]] OverlapTimes& times() noexcept { return times_; }

 private:
  Status Compute(std::uint32_t block, const Step& step) {
    if (model_.compute) return model_.compute(block, step.token_count);
    const Clock::time_point end = Clock::now() + model_.block_time;
    while (Clock::now() < end) {
    }
    return {};
  }

  /// Has the rows of a layer in place, and reads them as the layer would.
  Status TakeRows(Step& step, std::uint64_t index, std::size_t layer) {
    if (fetch_ == OverlapFetch::kOnDevice) {
      if (!model_.use) return {};
      return Timed(times_.use_seconds, [&] { return model_.use(layer, {}, step.token_count); });
    }
    StepRows& rows = rows_[index % rows_.size()];
    const std::span<std::byte> bytes = rows.Rows(layer, step.token_count, capacity_);
    Status status = Timed(times_.wait_seconds[layer], [&] {
      if (fetch_ == OverlapFetch::kTickets) return step.ticket.Wait(model_.layer_ids[layer]);
      const LayerOutput output = {model_.layer_ids[layer], bytes,
                                  rows.Statuses(layer, step.token_count, capacity_)};
      return store_->Lookup(step.runs, {&output, 1}, RowOutput::kBf16);
    });
    if (!status.ok()) return status;
    if (model_.use) {
      return Timed(times_.use_seconds, [&] { return model_.use(layer, bytes, step.token_count); });
    }
    times_.digest = Timed(times_.use_seconds, [&] {
      std::uint64_t digest = times_.digest;
      for (std::size_t i = 0; i + 8 <= bytes.size(); i += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, bytes.data() + i, 8);
        digest = (digest ^ word) * 0x9E3779B97F4A7C15U;
      }
      return digest;
    });
    return {};
  }

  Store* const store_;
  const OverlapModel& model_;
  const OverlapFetch fetch_;
  const std::size_t capacity_;
  std::deque<StepRows> rows_;
  OverlapTimes times_;
};

/// Tokens that hashing looks back at.
std::size_t HistoryOf(const Store* store) {
  return store == nullptr ? 0 : store->checkpoint().recipe.order_count();
}

/// `count` tokens of the sequence from `at` on, with what lies before them in it.
TokenRun RunOf(std::span<const std::int32_t> tokens, const OverlapSequence& sequence,
               std::uint64_t at, std::uint64_t count, std::size_t history_max) {
  const std::uint64_t history = std::min<std::uint64_t>(at - sequence.begin, history_max);
  return {.history = tokens.subspan(at - history, history), .tokens = tokens.subspan(at, count)};
}

}  // namespace

std::vector<OverlapSequence> ChooseSequences(std::span<const std::uint64_t> offsets,
                                             const SequenceChoice& choice) {
  std::vector<std::size_t> documents;
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    if (offsets[i + 1] - offsets[i] >= choice.length_max) documents.push_back(i);
  }
  std::vector<OverlapSequence> sequences;
  if (documents.empty()) return sequences;
  Prng prng(choice.seed);
  std::shuffle(documents.begin(), documents.end(), prng);
  for (std::uint32_t i = 0; i < choice.count; ++i) {
    const std::size_t document = documents[i % documents.size()];
    const std::uint64_t length =
        choice.length_min + prng.Below(choice.length_max - choice.length_min + 1);
    const std::uint64_t room = offsets[document + 1] - offsets[document] - length;
    const std::uint64_t begin = offsets[document] + prng.Below(room + 1);
    sequences.push_back({begin, begin + length});
  }
  return sequences;
}

double OverlapTimes::tokens_per_second() const noexcept {
  return seconds > 0.0 ? static_cast<double>(token_count) / seconds : 0.0;
}

double OverlapTimes::exposed_seconds() const noexcept {
  return std::accumulate(wait_seconds.begin(), wait_seconds.end(), 0.0);
}

double OverlapTimes::cost_percent() const noexcept {
  const double cost = start_seconds + exposed_seconds() + use_seconds;
  return cost > 0.0 ? 100.0 * cost / (planned_seconds + cost) : 0.0;
}

Result<OverlapTimes> RunDecode(Store* store, std::span<const std::int32_t> tokens,
                               std::span<const OverlapSequence> sequences,
                               const OverlapModel& model, OverlapFetch fetch,
                               const DecodeOptions& options) {
  Loop loop(store, model, fetch, options.stream_count, 1);
  if (Status status = loop.Prepare(); !status.ok()) return status;
  struct Stream {
    OverlapSequence sequence;
    std::uint64_t at = 0;
  };
  std::vector<Stream> streams(options.stream_count);
  std::size_t next = 0;
  const std::size_t history = HistoryOf(store);
  const Clock::time_point begin = Clock::now();
  for (std::uint64_t index = 0; index < options.step_count; ++index) {
    Step step{.token_count = options.stream_count};
    for (Stream& stream : streams) {
      if (stream.at == stream.sequence.end) {
        if (next == sequences.size()) break;
        stream = {sequences[next], sequences[next].begin};
        ++next;
      }
      step.runs.push_back(RunOf(tokens, stream.sequence, stream.at++, 1, history));
    }
    if (step.runs.size() < streams.size()) break;
    if (Status status = loop.Start(step, index, Urgency::kDeadline); !status.ok()) return status;
    if (Status status = loop.Run(step, index); !status.ok()) return status;
  }
  loop.times().seconds = Seconds(Clock::now() - begin).count();
  return loop.times();
}

Result<OverlapTimes> RunPrefill(Store* store, std::span<const std::int32_t> tokens,
                                std::span<const OverlapSequence> sequences,
                                const OverlapModel& model, OverlapFetch fetch,
                                const PrefillOptions& options) {
  Loop loop(store, model, fetch, options.step_tokens, options.ahead + 1);
  if (Status status = loop.Prepare(); !status.ok()) return status;
  const std::size_t history = HistoryOf(store);
  std::vector<Step> steps;
  std::size_t at_sequence = 0;
  std::uint64_t done = 0;  // Tokens of that sequence.
  while (steps.size() < options.step_count && at_sequence < sequences.size()) {
    Step& step = steps.emplace_back();
    while (step.token_count < options.step_tokens && at_sequence < sequences.size()) {
      const OverlapSequence& sequence = sequences[at_sequence];
      const std::uint64_t count = std::min<std::uint64_t>(options.step_tokens - step.token_count,
                                                          sequence.end - sequence.begin - done);
      step.runs.push_back(RunOf(tokens, sequence, sequence.begin + done, count, history));
      step.token_count += count;
      done += count;
      if (sequence.begin + done < sequence.end) continue;
      ++at_sequence;
      done = 0;
    }
  }
  const Clock::time_point begin = Clock::now();
  std::size_t started = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    for (; started < steps.size() && started <= i + options.ahead; ++started) {
      const Urgency urgency = started == i ? Urgency::kDeadline : Urgency::kBackground;
      if (Status status = loop.Start(steps[started], started, urgency); !status.ok()) return status;
    }
    if (steps[i].ticket.valid()) steps[i].ticket.Promote();
    if (Status status = loop.Run(steps[i], i); !status.ok()) return status;
    steps[i].ticket = Ticket();
  }
  loop.times().seconds = Seconds(Clock::now() - begin).count();
  return loop.times();
}

Status ServeOnce(Store& store, std::span<const std::int32_t> tokens,
                 std::span<const OverlapSequence> sequences,
                 std::span<const std::uint32_t> layer_ids) {
  std::size_t longest = 0;
  for (const OverlapSequence& sequence : sequences) {
    longest = std::max<std::size_t>(longest, sequence.end - sequence.begin);
  }
  const std::size_t capacity = kServeTokens + longest;
  StepRows rows(&store, layer_ids, capacity);
  std::vector<TokenRun> runs;
  std::size_t token_count = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const std::uint64_t length = sequences[i].end - sequences[i].begin;
    runs.push_back(RunOf(tokens, sequences[i], sequences[i].begin, length, 0));
    token_count += length;
    if (token_count < kServeTokens && i + 1 < sequences.size()) continue;
    std::vector<LayerOutput> outputs;
    for (std::size_t layer = 0; layer < rows.layers.size(); ++layer) {
      outputs.push_back({rows.layers[layer].layer_id, rows.Rows(layer, token_count, capacity),
                         rows.Statuses(layer, token_count, capacity)});
    }
    if (Status status = store.Lookup(runs, outputs, RowOutput::kBf16); !status.ok()) return status;
    runs.clear();
    token_count = 0;
  }
  return {};
}

}  // namespace tiercel::bench
