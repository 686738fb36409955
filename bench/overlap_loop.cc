#include "bench/overlap_loop.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "base/prng.h"

namespace tiercel::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kServeTokens = 2048;

double SecondsFrom(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

/// The rows of a step in all layers, in host memory, at addresses that do not change.
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

/// Runs steps and keeps the times.
class Loop {
 public:
  Loop(const OverlapLoop& loop, const OverlapModel& model, std::span<const OverlapStep> steps)
      : loop_(loop), model_(model), steps_(steps), tickets_(loop.ahead + 1) {
    const bool to_host =
        loop.fetch == OverlapFetch::kTickets || loop.fetch == OverlapFetch::kBlocking;
    for (std::size_t i = 0; i < tickets_.size(); ++i) {
      rows_.emplace_back(to_host ? loop.store : nullptr, model.layer_ids, loop.capacity);
    }
    for (const std::uint32_t id : model.layer_ids) needed_after_.push_back(model.block_time * id);
    times_.wait_seconds.resize(model.layer_ids.size());
    times_.digests.resize(steps.size());
  }

  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  ~Loop() {
    for (StepRows& rows : rows_) {
      for (StepRows::Layer& layer : rows.layers) loop_.engine->Unpin(layer.bytes);
    }
  }

  /// Before the first step.
  Status Prepare() {
    for (StepRows& rows : rows_) {
      for (StepRows::Layer& layer : rows.layers) {
        if (Status status = loop_.engine->Pin(layer.bytes); !status.ok()) return status;
      }
    }
    return loop_.engine->Begin(model_, steps_.size(), times_);
  }

  /// Asks for the rows of the `index`th step, where the loop asks beforehand.
  Status Start(std::size_t index, Urgency urgency) {
    const Clock::time_point begin = Clock::now();
    Status status;
    if (loop_.fetch == OverlapFetch::kTickets) status = StartTicket(index, urgency);
    if (loop_.fetch == OverlapFetch::kSource) {
      status = loop_.source->Start(PlaceOf(index), steps_[index], needed_after_);
    }
    times_.start_seconds += SecondsFrom(begin);
    return status;
  }

  /// Runs the blocks.
  Status Run(std::size_t index) {
    const OverlapStep& step = steps_[index];
    if (tickets_[PlaceOf(index)].valid()) tickets_[PlaceOf(index)].Promote();
    Status status = loop_.engine->BeginStep();
    std::size_t next = 0;
    for (std::uint32_t block = 0; status.ok() && block < model_.block_count; ++block) {
      if (loop_.fetch != OverlapFetch::kNone && next < model_.layer_ids.size() &&
          model_.layer_ids[next] == block) {
        if (status = TakeRows(index, next); !status.ok()) return status;
        ++next;
      }
      status = loop_.engine->Compute(block, step.token_count);
    }
    if (status.ok()) status = loop_.engine->EndStep();
    if (status.ok() && loop_.source != nullptr) status = loop_.source->Finish(PlaceOf(index));
    tickets_[PlaceOf(index)] = Ticket();
    times_.token_count += step.token_count;
    ++times_.step_count;
    times_.planned_seconds +=
        std::chrono::duration<double>(model_.block_time * model_.block_count).count();
    return status;
  }

  [[nodiscard]] OverlapTimes& times() noexcept { return times_; }

 private:
  [[nodiscard]] std::size_t PlaceOf(std::size_t index) const { return index % tickets_.size(); }

  Status StartTicket(std::size_t index, Urgency urgency) {
    const OverlapStep& step = steps_[index];
    StepRows& rows = rows_[PlaceOf(index)];
    std::vector<PrefetchLayer> layers;
    for (std::size_t i = 0; i < rows.layers.size(); ++i) {
      layers.push_back({.layer_id = rows.layers[i].layer_id,
                        .needed_after = needed_after_[i],
                        .rows = rows.Rows(i, step.token_count, loop_.capacity),
                        .row_status = rows.Statuses(i, step.token_count, loop_.capacity)});
    }
    Result<Ticket> ticket =
        loop_.store->Start(step.runs, layers, {.format = RowOutput::kBf16, .urgency = urgency});
    if (!ticket.ok()) return std::move(ticket).TakeStatus();
    tickets_[PlaceOf(index)] = std::move(ticket).value();
    return {};
  }

  /// Has the rows of a layer in place, and lets the layer have them.
  Status TakeRows(std::size_t index, std::size_t layer) {
    Status status = loop_.engine->BeginWait(layer);
    OverlapRows rows = {.step = index, .layer = layer, .token_count = steps_[index].token_count};
    if (status.ok()) status = WaitFor(index, rows);
    if (status.ok()) status = loop_.engine->EndWait(layer);
    if (status.ok()) status = loop_.engine->Use(rows);
    return status;
  }

  Status WaitFor(std::size_t index, OverlapRows& rows) {
    const std::size_t place = PlaceOf(index);
    const OverlapStep& step = steps_[index];
    if (loop_.source != nullptr) {
      rows.device = loop_.source->Rows(place, rows.layer);
      if (loop_.fetch == OverlapFetch::kSourceBlocking && rows.layer == 0) {
        Status status = loop_.source->Start(place, step, needed_after_);
        if (!status.ok()) return status;
      }
      return loop_.source->Wait(place, rows.layer);
    }
    if (loop_.fetch == OverlapFetch::kOnDevice) return {};
    StepRows& memory = rows_[place];
    rows.host = memory.Rows(rows.layer, step.token_count, loop_.capacity);
    if (loop_.fetch == OverlapFetch::kTickets) {
      return tickets_[place].Wait(model_.layer_ids[rows.layer]);
    }
    const LayerOutput output = {model_.layer_ids[rows.layer],
                                memory.Rows(rows.layer, step.token_count, loop_.capacity),
                                memory.Statuses(rows.layer, step.token_count, loop_.capacity)};
    return loop_.store->Lookup(step.runs, {&output, 1}, RowOutput::kBf16);
  }

  const OverlapLoop& loop_;
  const OverlapModel& model_;
  const std::span<const OverlapStep> steps_;
  std::deque<StepRows> rows_;    ///< By place, as tickets.
  std::vector<Ticket> tickets_;  ///< Shape [ahead + 1].
  std::vector<std::chrono::nanoseconds> needed_after_;
  OverlapTimes times_;
};

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

std::vector<OverlapStep> DecodeSteps(std::span<const std::int32_t> tokens,
                                     std::span<const OverlapSequence> sequences,
                                     std::size_t history_max, const DecodeOptions& options) {
  struct Stream {
    OverlapSequence sequence;
    std::uint64_t at = 0;
  };
  std::vector<Stream> streams(options.stream_count);
  std::vector<OverlapStep> steps;
  std::size_t next = 0;
  while (steps.size() < options.step_count) {
    OverlapStep step{.token_count = options.stream_count};
    for (Stream& stream : streams) {
      if (stream.at == stream.sequence.end) {
        if (next == sequences.size()) return steps;
        stream = {sequences[next], sequences[next].begin};
        ++next;
      }
      step.runs.push_back(RunOf(tokens, stream.sequence, stream.at++, 1, history_max));
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

std::vector<OverlapStep> PrefillSteps(std::span<const std::int32_t> tokens,
                                      std::span<const OverlapSequence> sequences,
                                      std::size_t history_max, const PrefillOptions& options) {
  std::vector<OverlapStep> steps;
  std::size_t at_sequence = 0;
  std::uint64_t done = 0;  // Tokens of that sequence.
  while (steps.size() < options.step_count && at_sequence < sequences.size()) {
    OverlapStep& step = steps.emplace_back();
    while (step.token_count < options.step_tokens && at_sequence < sequences.size()) {
      const OverlapSequence& sequence = sequences[at_sequence];
      const std::uint64_t count = std::min<std::uint64_t>(options.step_tokens - step.token_count,
                                                          sequence.end - sequence.begin - done);
      step.runs.push_back(RunOf(tokens, sequence, sequence.begin + done, count, history_max));
      step.token_count += count;
      done += count;
      if (sequence.begin + done < sequence.end) continue;
      ++at_sequence;
      done = 0;
    }
  }
  return steps;
}

std::vector<TokenRun> RunsOf(std::span<const std::int32_t> tokens,
                             std::span<const OverlapSequence> sequences) {
  std::vector<TokenRun> runs;
  for (const OverlapSequence& sequence : sequences) {
    runs.push_back(RunOf(tokens, sequence, sequence.begin, sequence.end - sequence.begin, 0));
  }
  return runs;
}

Result<OverlapTimes> RunSteps(const OverlapLoop& options, const OverlapModel& model,
                              std::span<const OverlapStep> steps) {
  Loop loop(options, model, steps);
  if (Status status = loop.Prepare(); !status.ok()) return status;
  const Clock::time_point begin = Clock::now();
  std::size_t started = 0;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    if (SecondsFrom(begin) > options.seconds_max) {
      loop.times().cut = true;
      break;
    }
    for (; started < steps.size() && started <= i + options.ahead; ++started) {
      const Urgency urgency = started == i ? Urgency::kDeadline : Urgency::kBackground;
      if (Status status = loop.Start(started, urgency); !status.ok()) return status;
    }
    if (Status status = loop.Run(i); !status.ok()) return status;
  }
  loop.times().seconds = SecondsFrom(begin);
  if (Status status = options.engine->End(); !status.ok()) return status;
  return loop.times();
}

Result<std::uint64_t> ServeOnce(Store& store, std::span<const TokenRun> runs,
                                std::span<const std::uint32_t> layer_ids, double seconds_max) {
  std::size_t longest = 0;
  for (const TokenRun& run : runs) longest = std::max(longest, run.tokens.size());
  const std::size_t capacity = kServeTokens + longest;
  StepRows rows(&store, layer_ids, capacity);
  const Clock::time_point begin = Clock::now();
  std::uint64_t served = 0;
  std::size_t first = 0;
  std::size_t token_count = 0;
  for (std::size_t i = 0; i < runs.size() && SecondsFrom(begin) <= seconds_max; ++i) {
    token_count += runs[i].tokens.size();
    if (token_count < kServeTokens && i + 1 < runs.size()) continue;
    std::vector<LayerOutput> outputs;
    for (std::size_t layer = 0; layer < rows.layers.size(); ++layer) {
      outputs.push_back({rows.layers[layer].layer_id, rows.Rows(layer, token_count, capacity),
                         rows.Statuses(layer, token_count, capacity)});
    }
    Status status = store.Lookup(runs.subspan(first, i + 1 - first), outputs, RowOutput::kBf16);
    if (!status.ok()) return status;
    first = i + 1;
    served += token_count;
    token_count = 0;
  }
  return served;
}

}  // namespace tiercel::bench
