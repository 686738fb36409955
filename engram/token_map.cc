#include "tiercel/token_map.h"

#include <fmt/format.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/byte_order.h"
#include "base/file.h"
#include "base/json.h"
#include "engram/byte_level.h"
#include "engram/normalize.h"
#include "engram/utf8.h"

namespace tiercel {
namespace {

constexpr std::uint64_t kMapSizeBytesMax = 256U << 20;
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD.

Status Invalid(std::string_view source_name, std::string_view what) {
  return Status(StatusCode::kInvalidArgument, fmt::format("{}: {}", source_name, what));
}

/// A token as the tokenizer file spells it.
struct Entry {
  const std::string* text = nullptr;  // Null: no token of that id.
  bool added = false;                 // `text` is literal, not in the byte-level alphabet.
};

/// Collects the tokens of a tokenizer.json by id.
class Vocabulary {
 public:
  /// `size_max`: number of tokens in the file; an id from there on leaves a gap.
  Vocabulary(std::string_view source_name, std::size_t size_max)
      : source_name_(source_name), size_max_(size_max) {}

  Status Add(const std::string& text, const nlohmann::json& id, bool added) {
    if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= size_max_) {
      return Invalid(source_name_,
                     fmt::format("token \"{}\" has no id in [0, {}), the number of tokens",
                                 text.substr(0, 60), size_max_));
    }
    const auto index = id.get<std::size_t>();
    if (index >= entries_.size()) entries_.resize(index + 1);
    Entry& entry = entries_[index];
    // An added token may take the id of a vocabulary string; the tokenizer then
    // decodes the id as the added token.
    if (entry.text != nullptr && (entry.added || !added)) {
      return Invalid(source_name_, fmt::format("id {} stands twice: for \"{}\" and \"{}\"", index,
                                               entry.text->substr(0, 60), text.substr(0, 60)));
    }
    entry = {&text, added};
    return {};
  }

  /// Every id from 0 to the largest has a token.
  [[nodiscard]] Status CheckComplete() const {
    if (entries_.empty()) return Invalid(source_name_, "the vocabulary is empty");
    for (std::size_t id = 0; id < entries_.size(); ++id) {
      if (entries_[id].text == nullptr) {
        return Invalid(source_name_, fmt::format("no token has the id {}; {} is the largest", id,
                                                 entries_.size() - 1));
      }
    }
    return {};
  }

  [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }

 private:
  std::string_view source_name_;
  std::size_t size_max_;
  std::vector<Entry> entries_;
};

Status AddTokens(const nlohmann::json& top, std::string_view source_name,
                 const nlohmann::json::object_t& vocab, Vocabulary& vocabulary) {
  for (const auto& [text, id] : vocab) {
    if (Status s = vocabulary.Add(text, id, false); !s.ok()) return s;
  }
  const auto added = top.find("added_tokens");
  if (added == top.end() || added->is_null()) return vocabulary.CheckComplete();
  for (const nlohmann::json& token : *added) {
    if (!token.is_object() || !token.contains("id") || !token.contains("content") ||
        !token["content"].is_string()) {
      return Invalid(source_name, "an entry of \"added_tokens\" has no \"id\" or \"content\"");
    }
    if (Status s =
            vocabulary.Add(token["content"].get_ref<const std::string&>(), token["id"], true);
        !s.ok()) {
      return s;
    }
  }
  return vocabulary.CheckComplete();
}

/// The string by which tokens are told apart: equal keys, one class.
Result<std::string> KeyOf(const Entry& entry, std::string_view source_name) {
  std::string text = *entry.text;
  if (!entry.added) {
    std::optional<std::string> bytes = BytesOfByteLevel(*entry.text);
    if (!bytes) {
      return Invalid(source_name,
                     fmt::format("vocabulary string \"{}\" is not in the byte-level alphabet",
                                 entry.text->substr(0, 60)));
    }
    text = std::move(*bytes);
  }
  // Half a character: decoding would put U+FFFD there, and tokens that differ would
  // look alike. Their spelling tells them apart.
  if (!IsUtf8(text) || text.find(kReplacement) != std::string::npos) return *entry.text;
  Result<std::string> normal = NormalizeTokenText(text);
  if (normal.ok() && normal.value().empty()) return text;
  return normal;
}

}  // namespace

Result<TokenMap> TokenMap::FromTokenizerJson(std::string_view json, std::string_view source_name) {
  const Result<nlohmann::json> parsed = ParseJson(json, source_name);
  if (!parsed.ok()) {
    return Status(parsed.status().code(), std::string(parsed.status().message()));
  }
  const nlohmann::json& top = parsed.value();
  const bool has_vocab = top.is_object() && top.contains("model") && top["model"].is_object() &&
                         top["model"].contains("vocab") && top["model"]["vocab"].is_object();
  if (!has_vocab) {
    return Invalid(source_name, "no object \"model.vocab\": not the tokenizer.json of a BPE");
  }
  const auto& vocab = top["model"]["vocab"].get_ref<const nlohmann::json::object_t&>();
  const auto added = top.find("added_tokens");
  if (added != top.end() && !added->is_null() && !added->is_array()) {
    return Invalid(source_name, "\"added_tokens\" is no list");
  }
  const std::size_t added_count = added != top.end() ? added->size() : 0;
  Vocabulary vocabulary(source_name, vocab.size() + added_count);
  if (Status s = AddTokens(top, source_name, vocab, vocabulary); !s.ok()) return s;

  std::vector<std::uint32_t> classes;
  classes.reserve(vocabulary.entries().size());
  std::unordered_map<std::string, std::uint32_t> class_of_key;
  for (const Entry& entry : vocabulary.entries()) {
    Result<std::string> key = KeyOf(entry, source_name);
    if (!key.ok()) return std::move(key).TakeStatus();
    const auto next = static_cast<std::uint32_t>(class_of_key.size());
    classes.push_back(class_of_key.try_emplace(std::move(key).value(), next).first->second);
  }
  return TokenMap(std::move(classes), static_cast<std::uint32_t>(class_of_key.size()));
}

Result<TokenMap> TokenMap::FromClasses(std::vector<std::uint32_t> classes) {
  if (classes.empty() || classes.size() > std::numeric_limits<std::int32_t>::max()) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("a token map of {} entries; it must have 1 to 2^31 - 1", classes.size()));
  }
  std::uint32_t class_count = 0;
  for (std::size_t id = 0; id < classes.size(); ++id) {
    if (classes[id] > class_count) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("not a token map: token {} has class {}, but only {} classes "
                                "appeared before it",
                                id, classes[id], class_count));
    }
    if (classes[id] == class_count) ++class_count;
  }
  return TokenMap(std::move(classes), class_count);
}

Result<TokenMap> TokenMap::Load(const std::string& path) {
  Result<std::string> bytes = ReadWholeFile(path, kMapSizeBytesMax);
  if (!bytes.ok()) return std::move(bytes).TakeStatus();
  const std::string& text = bytes.value();
  if (text.size() % sizeof(std::uint32_t) != 0) {
    return Invalid(path, fmt::format("{} bytes; a token map has 4 for each token", text.size()));
  }
  std::vector<std::uint32_t> classes;
  classes.reserve(text.size() / sizeof(std::uint32_t));
  for (std::size_t at = 0; at < text.size(); at += sizeof(std::uint32_t)) {
    classes.push_back(LoadLittleEndian<std::uint32_t>(text.data() + at));
  }
  Result<TokenMap> map = FromClasses(std::move(classes));
  if (!map.ok()) return Invalid(path, map.status().message());
  return map;
}

Status TokenMap::Save(const std::string& path) const {
  std::string bytes(classes_.size() * sizeof(std::uint32_t), '\0');
  for (std::size_t i = 0; i < classes_.size(); ++i) {
    StoreLittleEndian(bytes.data() + i * sizeof(std::uint32_t), classes_[i]);
  }
  return WriteFileAtomically(path, bytes);
}

}  // namespace tiercel
