#include "base/json.h"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

using nlohmann::json;

/// Builds the value as nlohmann's own DOM parser does, and stops at a key that
/// stands twice and at nesting that is too deep.
class StrictBuilder final : public nlohmann::json_sax<json> {
 public:
  StrictBuilder(std::string_view source_name, const JsonLimits& limits)
      : source_name_(source_name), limits_(limits) {}

  bool null() override { return Put(nullptr); }
  bool boolean(bool value) override { return Put(value); }
  bool number_integer(number_integer_t value) override { return Put(value); }
  bool number_unsigned(number_unsigned_t value) override { return Put(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return Put(value); }
  bool string(string_t& value) override { return Put(std::move(value)); }
  bool binary(binary_t& /*value*/) override { return Fail("binary value in JSON text"); }

  bool start_object(std::size_t /*count*/) override { return Open(json::object()); }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t /*count*/) override { return Open(json::array()); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    if (open_.back()->contains(name)) {
      return Fail(fmt::format("the key \"{}\" stands twice in one object", name.substr(0, 200)));
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*last_token*/,
                   const nlohmann::detail::exception& error) override {
    return Fail(fmt::format("not JSON at byte {}: {}", position, error.what()));
  }

  json& root() { return root_; }
  std::string& error() { return error_; }

 private:
  json* Place(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    json& slot = parent[std::move(key_)];
    slot = std::move(value);
    return &slot;
  }
  bool Put(json value) {
    Place(std::move(value));
    return true;
  }
  bool Open(json value) {
    if (open_.size() >= limits_.depth_max) {
      return Fail(fmt::format("nested deeper than {} levels", limits_.depth_max));
    }
    open_.push_back(Place(std::move(value)));
    return true;
  }
  bool Close() {
    open_.pop_back();
    return true;
  }
  bool Fail(std::string_view what) {
    error_ = fmt::format("{}: {}", source_name_, what);
    return false;
  }

  std::string_view source_name_;
  JsonLimits limits_;
  json root_;
  std::vector<json*> open_;  // Stable: a parent gets no new element while a child is open.
  std::string key_;
  std::string error_;
};

}  // namespace

Result<json> ParseJson(std::string_view text, std::string_view source_name,
                       const JsonLimits& limits) {
  // nlohmann's lexer takes a zero byte for the end and ignores what follows it.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: not JSON at byte {}: a zero byte", source_name, zero));
  }
  StrictBuilder builder(source_name, limits);
  if (!json::sax_parse(text.begin(), text.end(), &builder)) {
    return Status(StatusCode::kInvalidArgument, std::move(builder.error()));
  }
  return std::move(builder.root());
}

}  // namespace tiercel
