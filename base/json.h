#ifndef TIERCEL_BASE_JSON_H_
#define TIERCEL_BASE_JSON_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "tiercel/status.h"

namespace tiercel {

/// Limits on a JSON text that somebody else wrote.
struct JsonLimits {
  std::uint32_t depth_max = 64;  ///< Nesting; deeper texts are refused.
};

/// Parses `text` as one JSON value. Unlike nlohmann::json::parse it refuses an
/// object with a key twice (two readers would see two different files) and
/// nesting beyond the limit, and it never throws.
///
/// Errors: kInvalidArgument; the message names `source_name` and the byte offset,
/// or the key that stands twice.
[[nodiscard]] Result<nlohmann::json> ParseJson(std::string_view text, std::string_view source_name,
                                               const JsonLimits& limits = {});

}  // namespace tiercel

#endif  // TIERCEL_BASE_JSON_H_
