#ifndef TIERCEL_TOKEN_MAP_H_
#define TIERCEL_TOKEN_MAP_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/status.h"

namespace tiercel {

/// The map from a tokenizer's ids to compressed ids ("tokenizer compression"):
/// tokens whose text is equal after normalisation share one class, so that
/// " The", "the" and "THE" hash alike.
///
/// Threading: immutable once made; all methods may run concurrently.
class TokenMap {
 public:
  /// Builds the map from the text of a Hugging Face `tokenizer.json` (byte-level
  /// BPE), as the Engram demo (engram_demo_v1.py, CompressedTokenizer) does.
  /// `source_name` is the file's name for messages. Takes about a second for a
  /// vocabulary of 130,000.
  ///
  /// Errors: kInvalidArgument (not JSON, no model.vocab, an id twice, missing or
  /// out of range, a vocabulary string that is not in the byte-level alphabet).
  [[nodiscard]] static Result<TokenMap> FromTokenizerJson(std::string_view json,
                                                          std::string_view source_name);

  /// Reads a map as written by Save(): little-endian uint32, one per token.
  ///
  /// Errors: kNotFound, kPermissionDenied, kIoError; kInvalidArgument (empty, a
  /// size that is no multiple of 4, or class ids that are not 0, 1, 2, ... in
  /// order of first appearance).
  [[nodiscard]] static Result<TokenMap> Load(const std::string& path);

  /// From class ids in memory, one per token. Errors: as Load().
  [[nodiscard]] static Result<TokenMap> FromClasses(std::vector<std::uint32_t> classes);

  /// Writes the map to `path` through a temporary file and a rename.
  /// Errors: kIoError, kPermissionDenied, kResourceExhausted (disk full); `path`
  /// then holds what it held before.
  [[nodiscard]] Status Save(const std::string& path) const;

  /// Number of token ids the map knows.
  [[nodiscard]] std::size_t entry_count() const noexcept { return classes_.size(); }
  /// Number of classes: the size of the compressed vocabulary.
  [[nodiscard]] std::uint32_t class_count() const noexcept { return class_count_; }
  /// Shape [entry_count()]: the class of each token id.
  [[nodiscard]] std::span<const std::uint32_t> classes() const noexcept { return classes_; }

 private:
  TokenMap(std::vector<std::uint32_t> classes, std::uint32_t class_count) noexcept
      : classes_(std::move(classes)), class_count_(class_count) {}

  std::vector<std::uint32_t> classes_;
  std::uint32_t class_count_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_TOKEN_MAP_H_
