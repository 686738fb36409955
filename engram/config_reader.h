#ifndef TIERCEL_ENGRAM_CONFIG_READER_H_
#define TIERCEL_ENGRAM_CONFIG_READER_H_

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "tiercel/status.h"

namespace tiercel {

/// Token ids and sizes in configs are at most this.
inline constexpr std::uint64_t kInt32Max = std::numeric_limits<std::int32_t>::max();

/// Reads integers out of JSON objects and keeps the first thing that was wrong, so
/// that a reader can take all its keys and look at status() once. After an error
/// every read gives zero or nothing.
///
/// Keys are looked for in the objects in the order given: a model's `text_config`
/// before the top of its config.
///
/// Threading: one thread at a time. Keeps references to what it is made from.
class ConfigReader {
 public:
  ConfigReader(std::string_view source_name, std::vector<const nlohmann::json*> objects)
      : source_name_(source_name), objects_(std::move(objects)) {}

  /// The value of `key`, or null: a key whose value is JSON null counts as missing.
  [[nodiscard]] const nlohmann::json* Find(std::string_view key) const;

  /// The first of `keys` that is there, as an integer in [0, value_max].
  std::uint64_t Integer(std::initializer_list<std::string_view> keys, std::uint64_t value_max);
  std::uint64_t IntegerOr(std::string_view key, std::uint64_t value_max, std::uint64_t otherwise);
  std::optional<std::uint64_t> OptionalInteger(std::initializer_list<std::string_view> keys,
                                               std::uint64_t value_max);
  /// The integers of a list that has at most `count_max` of them.
  std::vector<std::uint64_t> List(std::string_view key, std::uint64_t value_max,
                                  std::size_t count_max);

  /// kInvalidArgument with source, key and value, once something was wrong.
  [[nodiscard]] bool ok() const noexcept { return status_.ok(); }
  /// The status, given away.
  [[nodiscard]] Status TakeStatus() noexcept { return std::move(status_); }
  /// Records an error of the caller's own; the source's name is put before it.
  void Fail(std::string_view what);

 private:
  /// `value` as an integer in [0, value_max], if it is one; else records the error.
  std::uint64_t Check(std::string_view key, const nlohmann::json& value, std::uint64_t value_max);

  std::string_view source_name_;
  std::vector<const nlohmann::json*> objects_;
  Status status_;
};

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_CONFIG_READER_H_
