#include "store/checkpoint_match.h"

#include <charconv>

namespace tiercel {
namespace {

constexpr std::string_view kV41Weight = "engram.embed.weight";
constexpr std::string_view kV41Scale = "engram.embed.scale";
constexpr std::string_view kDemoWeight = "engram.multi_head_embedding.embedding.weight";
constexpr std::string_view kQwenTable = "ple.ple_embedding.ngram_embedding.";

/// A decimal number as a state dict writes it: no sign, no leading zero.
std::optional<std::uint32_t> ParseIndex(std::string_view digits) noexcept {
  if (digits.empty() || digits.size() > 9 || (digits.size() > 1 && digits.front() == '0')) {
    return std::nullopt;
  }
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

/// Splits "PREFIX.layers.L.REST" at the last "layers.L." that has `rest_start` after it.
std::optional<std::uint32_t> TakeLayer(std::string_view name, std::string_view rest_start,
                                       std::string_view& rest) noexcept {
  constexpr std::string_view kLayers = "layers.";
  const std::size_t at = name.rfind(rest_start);
  if (at == std::string_view::npos || at == 0 || name[at - 1] != '.') return std::nullopt;
  const std::string_view before = name.substr(0, at - 1);  // "PREFIX.layers.L"
  const std::size_t dot = before.rfind('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view head = before.substr(0, dot + 1);  // "PREFIX.layers."
  if (!head.ends_with(kLayers)) return std::nullopt;
  const std::size_t prefix = head.size() - kLayers.size();
  if (prefix > 0 && head[prefix - 1] != '.') return std::nullopt;
  rest = name.substr(at);
  return ParseIndex(before.substr(dot + 1));
}

std::optional<TableTensorName> MatchWhole(std::string_view name, std::string_view suffix,
                                          TensorRole role) noexcept {
  if (!name.ends_with(suffix)) return std::nullopt;
  std::string_view rest;
  const std::optional<std::uint32_t> layer = TakeLayer(name, suffix, rest);
  if (!layer) return std::nullopt;
  return TableTensorName{.layer_id = *layer, .role = role};
}

std::optional<TableTensorName> MatchQwen(std::string_view name) noexcept {
  std::string_view rest;
  const std::optional<std::uint32_t> layer = TakeLayer(name, kQwenTable, rest);
  if (!layer) return std::nullopt;
  rest.remove_prefix(kQwenTable.size());
  if (rest == "weight_scale") {
    return TableTensorName{.layer_id = *layer, .role = TensorRole::kTensorScale};
  }
  constexpr std::string_view kShard = "shard_";
  constexpr std::string_view kWeight = ".weight";
  if (!rest.starts_with(kShard) || !rest.ends_with(kWeight) ||
      rest.size() < kShard.size() + kWeight.size()) {
    return std::nullopt;
  }
  rest.remove_prefix(kShard.size());
  rest.remove_suffix(kWeight.size());
  const std::optional<std::uint32_t> shard = ParseIndex(rest);
  if (!shard) return std::nullopt;
  return TableTensorName{.layer_id = *layer, .role = TensorRole::kShard, .shard_index = *shard};
}

}  // namespace

std::optional<TableTensorName> MatchTableTensor(RecipeKind kind, std::string_view name) noexcept {
  switch (kind) {
    case RecipeKind::kDeepSeekV41: {
      const auto weight = MatchWhole(name, kV41Weight, TensorRole::kRows);
      return weight ? weight : MatchWhole(name, kV41Scale, TensorRole::kBlockScales);
    }
    case RecipeKind::kQwen38:
      return MatchQwen(name);
    case RecipeKind::kEngramDemo:
      return MatchWhole(name, kDemoWeight, TensorRole::kRows);
  }
  return std::nullopt;
}

std::string_view RowsTensorSuffix(RecipeKind kind) noexcept {
  switch (kind) {
    case RecipeKind::kDeepSeekV41:
      return kV41Weight;
    case RecipeKind::kQwen38:
      return "ple.ple_embedding.ngram_embedding.shard_0.weight";
    case RecipeKind::kEngramDemo:
      return kDemoWeight;
  }
  return {};
}

}  // namespace tiercel
