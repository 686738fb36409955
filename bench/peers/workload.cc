#include "bench/peers/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "tiercel/token_map.h"
#include "tools/token_file.h"

namespace tiercel::peers {
namespace {

/// Tokens that a replay takes at once, at most: a chunk of a chunked prefill.
constexpr std::uint64_t kReplayChunkTokens = 64;

/// Ids that a recipe hashes: all below this.
std::uint32_t Vocabulary(const RecipeParameters& parameters) {
  return parameters.kind == RecipeKind::kQwen38 ? parameters.vocab_size
                                                : parameters.compressed_vocab_size;
}

}  // namespace

std::vector<Workload> MakeWorkloads(const Recipe& recipe, const WorkloadSizes& sizes) {
  const std::uint32_t columns = recipe.column_count();
  const std::size_t layers = recipe.layers.size();
  const std::uint32_t cold_tokens = std::max(1U, 432 / columns);
  std::vector<Workload> workloads;
  workloads.push_back({.name = "cold432",
                       .token_count = cold_tokens,
                       .all_layers = false,
                       .summary = fmt::format("{} cold rows: {} tokens of one layer",
                                              cold_tokens * columns, cold_tokens)});
  workloads.push_back({.name = "decode48",
                       .token_count = 1,
                       .summary = fmt::format("{} cold rows: a token of {} layers, a decode step",
                                              columns * layers, layers)});
  workloads.push_back({.name = "prefill",
                       .token_count = sizes.prefill_tokens,
                       .summary = fmt::format("{} cold rows: a prefill of {} tokens, {} layers",
                                              columns * layers * sizes.prefill_tokens,
                                              sizes.prefill_tokens, layers)});
  for (const std::uint32_t depth : {16U, 64U}) {
    workloads.push_back({.name = fmt::format("random{}", depth),
                         .kind = WorkloadKind::kRandom,
                         .token_count = sizes.random_rows,
                         .all_layers = false,
                         .depth = depth,
                         .summary = fmt::format("single reads at random, {} in flight", depth)});
  }
  const auto chunk_tokens = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(sizes.replay_tokens / 4, 1, kReplayChunkTokens));
  workloads.push_back(
      {.name = "replay",
       .kind = WorkloadKind::kReplay,
       .token_count = chunk_tokens,
       .summary = fmt::format("{} tokens of the trace in chunks of {}, {} layers; the first half "
                              "fills the caches and does not count",
                              sizes.replay_tokens, chunk_tokens, layers)});
  return workloads;
}

Result<PeerTrace> LoadPeerTrace(const TracePaths& paths, const Recipe& recipe) {
  PeerTrace trace;
  std::vector<std::uint32_t> classes;
  const bool mapped = recipe.parameters.kind != RecipeKind::kQwen38 && !paths.token_map.empty();
  if (mapped) {
    Result<TokenMap> map = TokenMap::Load(paths.token_map);
    if (!map.ok()) return std::move(map).TakeStatus();
    classes.assign(map.value().classes().begin(), map.value().classes().end());
  }
  const std::uint32_t vocabulary = Vocabulary(recipe.parameters);
  tools::ReadTokensOptions options;
  options.id_limit = mapped ? classes.size() : vocabulary;
  Result<tools::TokenFile> file = tools::ReadTokens(paths.tokens, options);
  if (!file.ok()) return std::move(file).TakeStatus();
  Result<std::vector<std::uint64_t>> offsets = tools::ReadOffsets(paths.offsets);
  if (!offsets.ok()) return std::move(offsets).TakeStatus();
  trace.tokens = std::move(file).value().tokens;
  trace.offsets = std::move(offsets).value();
  if (trace.offsets.back() != trace.tokens.size()) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("{} ends at token {}, but {} holds {}: they do not belong together",
                    paths.offsets, trace.offsets.back(), paths.tokens, trace.tokens.size()));
  }
  for (std::int32_t& token : trace.tokens) {
    if (token == kDeadToken) {
      return Status(StatusCode::kInvalidArgument,
                    paths.tokens + " holds dead tokens, which have no rows; use one without");
    }
    if (mapped) token = static_cast<std::int32_t>(classes[static_cast<std::size_t>(token)]);
    if (static_cast<std::uint32_t>(token) >= vocabulary) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("{} holds an id beyond the checkpoint's {}", paths.tokens, vocabulary));
    }
  }
  return trace;
}

Renaming::Renaming(std::uint64_t seed, std::uint32_t vocabulary, std::optional<std::int32_t> kept)
    : vocabulary_(vocabulary), kept_(kept) {
  Prng prng(seed);
  do {
    factor_ = 1 + prng.Below(vocabulary - 1);
  } while (std::gcd(factor_, std::uint64_t{vocabulary}) != 1);
  shift_ = prng.Below(vocabulary);
  if (kept_) kept_image_ = Map(*kept_);
}

std::int32_t Renaming::Map(std::int32_t token) const noexcept {
  // Both below 2^31, so the product is below 2^62.
  return static_cast<std::int32_t>((factor_ * static_cast<std::uint64_t>(token) + shift_) %
                                   vocabulary_);
}

std::int32_t Renaming::operator()(std::int32_t token) const noexcept {
  if (!kept_) return Map(token);
  if (token == *kept_) return token;
  const std::int32_t image = Map(token);
  // Whoever is mapped to the kept id takes what the kept id does not use.
  return image == *kept_ ? kept_image_ : image;
}

BatchSource::BatchSource(const PeerTable& table, const Hasher& hasher, const PeerTrace& trace,
                         const Workload& workload, const WorkloadSizes& sizes, std::uint64_t seed)
    : table_(table),
      hasher_(hasher),
      trace_(trace),
      workload_(workload),
      prng_(seed),
      layers_(table.info().layers.size()),
      replay_tokens_(std::min<std::uint64_t>(sizes.replay_tokens, trace.tokens.size())) {}

Result<const Batch*> BatchSource::Next() {
  batch_.runs.clear();
  batch_.layers.clear();
  ++batch_count_;
  switch (workload_.kind) {
    case WorkloadKind::kRandom:
      NextRandom();
      break;
    case WorkloadKind::kCold:
      if (Status status = NextWindow(); !status.ok()) return status;
      break;
    case WorkloadKind::kReplay: {
      std::uint64_t begin = 0;
      std::uint64_t end = 0;
      std::uint64_t document_begin = 0;
      if (!TakeReplayChunk(begin, end, document_begin)) return nullptr;
      if (!replay_renaming_) replay_renaming_ = NewRenaming();
      if (Status status = UseWindow(document_begin, begin, end, *replay_renaming_); !status.ok()) {
        return status;
      }
      break;
    }
  }
  return &batch_;
}

void BatchSource::NextRandom() {
  const auto layer = static_cast<std::uint32_t>(batch_count_ % layers_.size());
  AddLayer(layer, workload_.token_count);
  for (RowId& row : layers_[layer].rows) {
    row = RowId{prng_.Below(table_.info().layers[layer].row_count)};
  }
}

/// A window of the trace anywhere, across documents' boundaries like a packed prompt,
/// with names of its own.
Status BatchSource::NextWindow() {
  const std::uint64_t history = hasher_.recipe().parameters.order_max - 1;
  const std::uint64_t wanted = workload_.token_count + history;
  if (trace_.tokens.size() <= wanted) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("the trace of {} tokens is too short for a window of {}",
                              trace_.tokens.size(), wanted));
  }
  const std::uint64_t begin = prng_.Below(trace_.tokens.size() - wanted);
  return UseWindow(begin, begin + history, begin + wanted, NewRenaming());
}

bool BatchSource::TakeReplayChunk(std::uint64_t& begin, std::uint64_t& end,
                                  std::uint64_t& document_begin) {
  while (replay_document_ + 1 < trace_.offsets.size() &&
         replay_at_ == trace_.offsets[replay_document_ + 1]) {
    ++replay_document_;
  }
  if (replayed_tokens_ >= replay_tokens_ || replay_document_ + 1 >= trace_.offsets.size()) {
    return false;
  }
  warming_ = replayed_tokens_ < replay_tokens_ / 2;
  document_begin = trace_.offsets[replay_document_];
  begin = replay_at_;
  end = std::min(begin + workload_.token_count, trace_.offsets[replay_document_ + 1]);
  replay_at_ = end;
  replayed_tokens_ += end - begin;
  return true;
}

Renaming BatchSource::NewRenaming() {
  const RecipeParameters& parameters = hasher_.recipe().parameters;
  const bool segments = parameters.kind == RecipeKind::kQwen38;
  return Renaming(prng_(), Vocabulary(parameters),
                  segments ? std::optional(parameters.eos_token) : std::nullopt);
}

Status BatchSource::UseWindow(std::uint64_t history_begin, std::uint64_t begin, std::uint64_t end,
                              const Renaming& renaming) {
  const std::uint64_t history_max = hasher_.recipe().parameters.order_max - 1;
  const std::uint64_t history = std::min(begin - history_begin, history_max);
  tokens_.clear();
  for (std::uint64_t at = begin - history; at < end; ++at) {
    tokens_.push_back(renaming(trace_.tokens[at]));
  }
  const std::span<const std::int32_t> tokens = tokens_;
  batch_.runs.push_back({.history = tokens.first(history), .tokens = tokens.subspan(history)});
  const std::size_t row_count = (end - begin) * hasher_.recipe().column_count();
  for (std::uint32_t i = 0; i < layers_.size(); ++i) {
    if (!workload_.all_layers && i != batch_count_ % layers_.size()) continue;
    AddLayer(i, row_count);
    if (Status status = hasher_.RowIds(i, batch_.runs[0], layers_[i].rows, {}); !status.ok()) {
      return status;
    }
  }
  return {};
}

void BatchSource::AddLayer(std::uint32_t layer_index, std::size_t row_count) {
  LayerMemory& memory = layers_[layer_index];
  memory.rows.resize(row_count);
  // Filled with what no arm leaves standing, and touched, so that no fault is timed.
  memory.out.assign(row_count * table_.row_size_bytes(layer_index), std::byte{0xA5});
  memory.row_status.assign(row_count, RowStatus::kIoError);
  batch_.layers.push_back({layer_index, memory.rows, memory.out, memory.row_status});
}

}  // namespace tiercel::peers
