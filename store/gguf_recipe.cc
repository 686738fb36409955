#include "store/gguf_recipe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "engram/primes.h"
#include "engram/recipe_check.h"
#include "store/safetensors.h"

namespace tiercel {
namespace {

constexpr std::array<std::string_view, 2> kGgufPrefixes = {"deepseek41", "deepseek4"};
constexpr std::string_view kEngramInfix = ".engram.";
constexpr std::string_view kArchitectureKey = "general.architecture";
constexpr std::string_view kTokensKey = "tokenizer.ggml.tokens";
constexpr std::string_view kVocabSuffix = ".vocab_size";
constexpr std::uint64_t kGgufInt32Max = std::numeric_limits<std::int32_t>::max();
constexpr std::uint64_t kGgufUint32Max = std::numeric_limits<std::uint32_t>::max();

/// Looks up the keys under one prefix; the first thing that is wrong is kept.
///
/// Threading: one thread at a time.
class GgufKeys {
 public:
  GgufKeys(const GgufValues& values, std::string_view source_name, std::string_view prefix)
      : values_(values), source_name_(source_name), prefix_(prefix) {}

  [[nodiscard]] bool ok() const noexcept { return status_.ok(); }
  [[nodiscard]] Status TakeStatus() { return std::move(status_); }

  void Fail(std::string_view what) {
    if (!ok()) return;
    status_ = Status(StatusCode::kInvalidArgument, fmt::format("{}: {}", source_name_, what));
  }

  [[nodiscard]] std::string Key(std::string_view name) const {
    return fmt::format("{}{}{}", prefix_, kEngramInfix, name);
  }

  [[nodiscard]] const GgufValue* Find(std::string_view name) const {
    const auto found = values_.find(Key(name));
    return found == values_.end() ? nullptr : &found->second;
  }

  /// An integer that may be missing. `names`: one after another, the first that is there.
  std::optional<std::uint64_t> Number(std::initializer_list<std::string_view> names,
                                      std::uint64_t value_max) {
    for (const std::string_view name : names) {
      const GgufValue* const value = Find(name);
      if (value == nullptr) continue;
      if (value->is_array || value->integers.size() != 1 || value->integers.front() > value_max) {
        Fail(fmt::format("{} must be an integer in [0, {}]", Key(name), value_max));
        return std::nullopt;
      }
      return value->integers.front();
    }
    return std::nullopt;
  }

  std::uint64_t Needed(std::initializer_list<std::string_view> names, std::uint64_t value_max) {
    const std::optional<std::uint64_t> value = Number(names, value_max);
    if (!value) Fail(fmt::format("has no {}: is it complete?", Key(*names.begin())));
    return value.value_or(0);
  }

  /// An array of integers; null where it is missing, or is none (which fails).
  const std::vector<std::uint64_t>* List(std::string_view name) {
    const GgufValue* const value = Find(name);
    if (value == nullptr) return nullptr;
    if (!value->is_array || value->integers.size() != value->count) {
      Fail(fmt::format("{} must be an array of integers", Key(name)));
      return nullptr;
    }
    return &value->integers;
  }

 private:
  const GgufValues& values_;
  std::string_view source_name_;
  std::string_view prefix_;
  Status status_;
};

/// The prefix under which there are Engram keys: that of the architecture, if it is one.
Result<std::string_view> FindPrefix(const GgufValues& values, std::string_view source_name) {
  const auto architecture = values.find(kArchitectureKey);
  const std::string stated = architecture == values.end() ? "" : architecture->second.text;
  std::string_view found;
  for (const std::string_view prefix : kGgufPrefixes) {
    if (!values.contains(fmt::format("{}{}layer_ids", prefix, kEngramInfix))) continue;
    if (found.empty() || prefix == stated) found = prefix;
  }
  if (!found.empty()) return found;
  return Status(StatusCode::kNotFound,
                fmt::format("{}: no Engram table: general.architecture is \"{}\", and there is "
                            "neither deepseek41.engram.layer_ids nor deepseek4.engram.layer_ids",
                            source_name, Printable(stated)));
}

/// Puts a recipe together out of the keys.
///
/// Threading: one thread at a time.
class GgufRecipeReader {
 public:
  GgufRecipeReader(const GgufValues& values, std::string_view source_name, std::string_view prefix)
      : values_(values), source_name_(source_name), keys_(values, source_name, prefix) {
    result_.prefix = prefix;
  }

  Result<GgufRecipe> Read() {
    ReadParameters();
    if (keys_.ok()) ReadTokenMap();
    if (keys_.ok()) ReadVocabulary();
    if (keys_.ok()) ReadBases();
    if (!keys_.ok()) return keys_.TakeStatus();
    // Bounds first: what follows multiplies and allocates by these numbers.
    if (Status status = CheckParameters(parameters_); !status.ok()) return Named(status);
    if (Status status = ReadLayers(); !status.ok()) return status;
    CheckStated();
    if (!keys_.ok()) return keys_.TakeStatus();
    return std::move(result_);
  }

 private:
  Status Named(const Status& status) const {
    return Status(status.code(), fmt::format("{}: {}", source_name_, status.message()));
  }
  void Note(std::string note) { result_.notes.push_back(std::move(note)); }

  void ReadParameters() {
    RecipeParameters& p = parameters_;
    p.kind = RecipeKind::kDeepSeekV41;
    const auto* const ids = keys_.List("layer_ids");
    if (ids == nullptr) return;
    if (ids->size() > kLayerCountMax) {
      return keys_.Fail(fmt::format("{} has {} entries; at most {} are read",
                                    keys_.Key("layer_ids"), ids->size(), kLayerCountMax));
    }
    for (const std::uint64_t id : *ids) {
      if (id > kGgufUint32Max) return keys_.Fail(fmt::format("layer id {} is none", id));
      p.layer_ids.push_back(static_cast<std::uint32_t>(id));
    }
    const auto small = [this](std::initializer_list<std::string_view> names, std::uint64_t max) {
      return static_cast<std::uint32_t>(keys_.Needed(names, max));
    };
    p.head_count = small({"head_count"}, kHeadCountMax);
    p.head_dim = small({"key_length", "head_dim"}, kHeadDimMax);
    p.order_max = small({"max_ngram_size", "max_ngram"}, kOrderMax);
    p.pad_token =
        static_cast<std::int32_t>(keys_.Needed({"pad_id", "pad_id_compressed"}, kGgufInt32Max));
    if (keys_.ok() && p.order_max < 2) keys_.Fail("max_ngram_size must be at least 2");
  }

  void ReadTokenMap() {
    const auto* const list = keys_.List("token_map");
    if (list == nullptr) return;
    std::vector<std::uint32_t> classes;
    classes.reserve(list->size());
    for (const std::uint64_t value : *list) {
      // What is too large for a class is refused as one; it must not wrap around.
      classes.push_back(static_cast<std::uint32_t>(std::min(value, kGgufUint32Max)));
    }
    Result<TokenMap> map = TokenMap::FromClasses(std::move(classes));
    if (!map.ok()) {
      return keys_.Fail(fmt::format("{}: {}", keys_.Key("token_map"), map.status().message()));
    }
    result_.token_map = std::make_shared<const TokenMap>(std::move(map).value());
  }

  void ReadVocabulary() {
    const std::optional<std::uint64_t> stated =
        keys_.Number({"compressed_vocab_size"}, kGgufInt32Max);
    const TokenMap* const map = result_.token_map.get();
    if (!stated && map == nullptr) {
      return keys_.Fail(
          fmt::format("has neither {} nor {}: how many classes the hash takes is not "
                      "known",
                      keys_.Key("compressed_vocab_size"), keys_.Key("token_map")));
    }
    if (stated && map != nullptr && *stated != map->class_count()) {
      return keys_.Fail(fmt::format(
          "{} has {} classes, but {} is {}: the two are of different "
          "models",
          keys_.Key("token_map"), map->class_count(), keys_.Key("compressed_vocab_size"), *stated));
    }
    parameters_.compressed_vocab_size =
        static_cast<std::uint32_t>(stated ? *stated : map->class_count());
    const std::uint64_t tokens = TokenCount();
    if (map == nullptr) {
      const bool fits = tokens >= parameters_.compressed_vocab_size && tokens <= kGgufInt32Max;
      parameters_.vocab_size = fits ? static_cast<std::uint32_t>(tokens) : 0;
      Note("the file has no token map: tokens are taken as compressed ids unless a map is given");
      return;
    }
    parameters_.vocab_size = static_cast<std::uint32_t>(map->entry_count());
    if (tokens != 0 && tokens != map->entry_count()) {
      Note(fmt::format("the token map has {} entries, but the tokenizer {} tokens",
                       map->entry_count(), tokens));
    }
  }

  /// Tokens of the file's tokenizer, or of the model as the file states it; 0: not known.
  [[nodiscard]] std::uint64_t TokenCount() const {
    const auto tokens = values_.find(kTokensKey);
    if (tokens != values_.end() && tokens->second.is_array) return tokens->second.count;
    const auto size = values_.find(fmt::format("{}{}", result_.prefix, kVocabSuffix));
    if (size == values_.end() || size->second.integers.size() != 1) return 0;
    return size->second.integers.front();
  }

  void ReadBases() {
    const auto* const primes = keys_.List("primes");
    std::optional<std::uint64_t> base = keys_.Number({"vocab_size"}, kHeadSizeEnd - 1);
    if (primes != nullptr && !primes->empty()) {
      // The search begins at the base, so beginning at its first find gives the same.
      const std::uint64_t first = *std::min_element(primes->begin(), primes->end());
      if (base && *base >= 2 && PrimeSupply().Take(*base) != first) {
        Note(
            fmt::format("{} is {}, which is not where the head sizes begin ({}); the latter is "
                        "used",
                        keys_.Key("vocab_size"), *base, first));
        base.reset();
      }
      if (!base) base = std::min(first, kHeadSizeEnd - 1);
    }
    if (!base) {
      return keys_.Fail(fmt::format("has neither {} nor {}: how many rows a head has is not known",
                                    keys_.Key("vocab_size"), keys_.Key("primes")));
    }
    parameters_.head_size_bases.assign(parameters_.order_max - 1, *base);
  }

  /// The rows of a flat array, one of `width` for each layer. Rows that are longer are cut,
  /// with a note, if `longer` allows it. Nothing where the array is missing or does not fit.
  std::optional<std::vector<std::vector<std::uint64_t>>> Rows(std::string_view name,
                                                              std::size_t width, bool longer) {
    const auto* const list = keys_.List(name);
    if (list == nullptr) return std::nullopt;
    const std::size_t layers = parameters_.layer_ids.size();
    const std::size_t stride = list->size() / layers;
    if (list->size() % layers != 0 || stride < width || (stride > width && !longer)) {
      keys_.Fail(fmt::format("{} has {} entries; {} layers of {} need {}", keys_.Key(name),
                             list->size(), layers, width, layers * width));
      return std::nullopt;
    }
    if (stride > width) {
      Note(fmt::format("{} has {} entries a layer; the first {} are used", keys_.Key(name), stride,
                       width));
    }
    std::vector<std::vector<std::uint64_t>> rows;
    for (std::size_t i = 0; i < layers; ++i) {
      const auto first = list->begin() + static_cast<std::ptrdiff_t>(i * stride);
      rows.emplace_back(first, first + static_cast<std::ptrdiff_t>(width));
    }
    return rows;
  }

  Status ReadLayers() {
    const std::size_t columns = std::size_t{parameters_.order_max - 1} * parameters_.head_count;
    const auto multipliers = Rows("multipliers", parameters_.order_max, true);
    const auto primes = Rows("primes", columns, false);
    const auto offsets = Rows("offsets", columns, false);
    if (!keys_.ok()) return keys_.TakeStatus();
    Result<Recipe> derived = BuildRecipe(parameters_);
    if (!derived.ok() && (!multipliers || !primes)) return Named(derived.status());
    if (!derived.ok()) {
      Note(fmt::format("the recipe is the file's alone; the formulas give none: {}",
                       derived.status().message()));
    }
    std::vector<LayerRecipe> layers(parameters_.layer_ids.size());
    for (std::size_t i = 0; i < layers.size(); ++i) {
      LayerRecipe& layer = layers[i];
      if (derived.ok()) layer = derived.value().layers[i];
      layer.layer_id = parameters_.layer_ids[i];
      if (multipliers) {
        if (derived.ok())
          Compare("multipliers", layer.layer_id, (*multipliers)[i], layer.multipliers);
        layer.multipliers = (*multipliers)[i];
      }
      if (primes) {
        if (derived.ok()) Compare("primes", layer.layer_id, (*primes)[i], layer.head_sizes);
        layer.head_sizes = (*primes)[i];
      }
    }
    Result<Recipe> recipe = PinRecipe(parameters_, std::move(layers));
    if (!recipe.ok()) return Named(recipe.status());
    result_.recipe = std::move(recipe).value();
    for (std::size_t i = 0; offsets && i < result_.recipe.layers.size(); ++i) {
      if ((*offsets)[i] == result_.recipe.layers[i].offsets) continue;
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{}: {}: those of layer {} are not the sums of its head sizes: "
                                "this release cannot read such a table",
                                source_name_, keys_.Key("offsets"), parameters_.layer_ids[i]));
    }
    return {};
  }

  void Compare(std::string_view name, std::uint32_t layer_id,
               const std::vector<std::uint64_t>& stated,
               const std::vector<std::uint64_t>& derived) {
    const auto at = std::mismatch(stated.begin(), stated.end(), derived.begin(), derived.end());
    if (at.first == stated.end()) return;
    Note(
        fmt::format("{} of layer {} are not those of the formulas (entry {}: {}, not {}); the "
                    "file's are used",
                    keys_.Key(name), layer_id, at.first - stated.begin(), *at.first, *at.second));
  }

  void CheckStated() {
    const auto* const row_counts = keys_.List("num_embeddings");
    if (row_counts == nullptr) return;
    std::vector<std::uint64_t> expected;
    for (const LayerRecipe& layer : result_.recipe.layers) expected.push_back(layer.row_count);
    if (*row_counts == expected) return;
    keys_.Fail(
        fmt::format("{} does not state the rows that the head sizes give ({} for the first "
                    "layer): the file contradicts itself",
                    keys_.Key("num_embeddings"), expected.front()));
  }

  const GgufValues& values_;
  std::string_view source_name_;
  GgufKeys keys_;
  RecipeParameters parameters_;
  GgufRecipe result_;
};

}  // namespace

bool IsGgufRecipeKey(std::string_view key) noexcept {
  if (key == kArchitectureKey || key == kTokensKey) return true;
  return std::any_of(kGgufPrefixes.begin(), kGgufPrefixes.end(), [key](std::string_view prefix) {
    if (!key.starts_with(prefix)) return false;
    const std::string_view rest = key.substr(prefix.size());
    return rest == kVocabSuffix || rest.starts_with(kEngramInfix);
  });
}

Result<GgufRecipe> ReadGgufRecipe(const GgufValues& values, std::string_view source_name) {
  Result<std::string_view> prefix = FindPrefix(values, source_name);
  if (!prefix.ok()) return std::move(prefix).TakeStatus();
  return GgufRecipeReader(values, source_name, prefix.value()).Read();
}

}  // namespace tiercel
