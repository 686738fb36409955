#include "capi/structs.h"

#include <fmt/format.h>

namespace tiercel::capi {
namespace {

/// struct_size and one member more: the least that a struct can have had.
constexpr std::size_t kStructSizeMin = 16;

}  // namespace

Status CheckStructSize(std::size_t struct_size, const char* name) {
  if (struct_size >= kStructSizeMin && struct_size <= kStructSizeMax && struct_size % 8 == 0) {
    return {};
  }
  return {StatusCode::kInvalidArgument,
          fmt::format("struct_size of `{}` is {}, which no version of it has; call its _init "
                      "function with its sizeof first",
                      name, struct_size)};
}

Status CheckTail(const void* given, std::size_t known_size, std::size_t given_size,
                 const char* name) {
  const auto* bytes = static_cast<const unsigned char*>(given);
  for (std::size_t i = known_size; i < given_size; ++i) {
    if (bytes[i] == 0) continue;
    return {StatusCode::kInvalidArgument,
            fmt::format("`{}` is of a newer version ({} bytes; libtiercel " TIERCEL_PROJECT_VERSION
                        " knows {}) and byte {} is not 0: it asks for what this library does not "
                        "have",
                        name, given_size, known_size, i)};
  }
  return {};
}

}  // namespace tiercel::capi
