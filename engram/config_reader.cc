#include "engram/config_reader.h"

#include <fmt/format.h>

#include <string>

namespace tiercel {
namespace {

/// A value as it stands in the file, short enough for a message.
std::string Excerpt(const nlohmann::json& value) {
  if (value.is_structured()) return value.is_array() ? "a list" : "an object";
  // Strings may hold bytes that are not UTF-8; they are replaced, not thrown at us.
  return value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 60);
}

std::string Join(std::initializer_list<std::string_view> keys) {
  std::string joined;
  for (const std::string_view key : keys) {
    joined += fmt::format("{}\"{}\"", joined.empty() ? "" : " or ", key);
  }
  return joined;
}

}  // namespace

const nlohmann::json* ConfigReader::Find(std::string_view key) const {
  for (const nlohmann::json* const object : objects_) {
    const auto found = object->find(key);
    if (found != object->end() && !found->is_null()) return &*found;
  }
  return nullptr;
}

std::optional<std::uint64_t> ConfigReader::OptionalInteger(
    std::initializer_list<std::string_view> keys, std::uint64_t value_max) {
  for (const std::string_view key : keys) {
    if (const nlohmann::json* const value = Find(key)) return Check(key, *value, value_max);
  }
  return std::nullopt;
}

std::uint64_t ConfigReader::Integer(std::initializer_list<std::string_view> keys,
                                    std::uint64_t value_max) {
  const std::optional<std::uint64_t> value = OptionalInteger(keys, value_max);
  if (!value) Fail(fmt::format("the key {} is missing", Join(keys)));
  return value.value_or(0);
}

std::uint64_t ConfigReader::IntegerOr(std::string_view key, std::uint64_t value_max,
                                      std::uint64_t otherwise) {
  return OptionalInteger({key}, value_max).value_or(otherwise);
}

std::vector<std::uint64_t> ConfigReader::List(std::string_view key, std::uint64_t value_max,
                                              std::size_t count_max) {
  const nlohmann::json* const list = Find(key);
  if (list == nullptr) {
    Fail(fmt::format("the key \"{}\" is missing", key));
    return {};
  }
  if (!list->is_array()) {
    Fail(fmt::format("\"{}\" is {}; it must be a list of integers", key, Excerpt(*list)));
    return {};
  }
  if (list->size() > count_max) {
    Fail(fmt::format("\"{}\" has {} entries; at most {} are supported", key, list->size(),
                     count_max));
    return {};
  }
  std::vector<std::uint64_t> values;
  for (const nlohmann::json& value : *list) values.push_back(Check(key, value, value_max));
  return values;
}

void ConfigReader::Fail(std::string_view what) {
  if (!status_.ok()) return;  // What failed first is the cause.
  status_ = Status(StatusCode::kInvalidArgument, fmt::format("{}: {}", source_name_, what));
}

std::uint64_t ConfigReader::Check(std::string_view key, const nlohmann::json& value,
                                  std::uint64_t value_max) {
  // A float is refused even where it is whole: 1e300 is one too.
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > value_max) {
    Fail(fmt::format("\"{}\" holds {}; it must be an integer in [0, {}]", key, Excerpt(value),
                     value_max));
    return 0;
  }
  return value.get<std::uint64_t>();
}

}  // namespace tiercel
