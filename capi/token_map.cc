// tiercel_token_map_*: raw token ids to compressed ones.

#include "tiercel/token_map.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <vector>

#include "capi/convert.h"
#include "capi/errors.h"
#include "capi/handles.h"

namespace tiercel::capi {
namespace {

Result<std::string> ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  if (file && text) return std::move(text).str();
  const int error = errno;
  StatusCode code = StatusCode::kIoError;
  if (error == ENOENT || error == ENOTDIR) code = StatusCode::kNotFound;
  if (error == EACCES || error == EPERM) code = StatusCode::kPermissionDenied;
  return Status(code, path + ": cannot be read: " + std::strerror(error), error);
}

Status GiveMap(Result<TokenMap> made, tiercel_token_map** map) {
  if (!made.ok()) return std::move(made).TakeStatus();
  *map = new tiercel_token_map{std::make_shared<const TokenMap>(std::move(made).value())};
  return {};
}

}  // namespace
}  // namespace tiercel::capi

using tiercel::Result;
using tiercel::Status;
using tiercel::TokenMap;
namespace capi = tiercel::capi;

tiercel_code tiercel_token_map_load(const char* path, tiercel_token_map** map) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (map == nullptr) return capi::IsNull("map");
    *map = nullptr;
    if (path == nullptr) return capi::IsNull("path");
    return capi::GiveMap(TokenMap::Load(path), map);
  });
}

tiercel_code tiercel_token_map_load_tokenizer(const char* path, tiercel_token_map** map) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (map == nullptr) return capi::IsNull("map");
    *map = nullptr;
    if (path == nullptr) return capi::IsNull("path");
    Result<std::string> text = capi::ReadText(path);
    if (!text.ok()) return std::move(text).TakeStatus();
    return capi::GiveMap(TokenMap::FromTokenizerJson(text.value(), path), map);
  });
}

tiercel_code tiercel_token_map_from_classes(const uint32_t* classes, size_t count,
                                            tiercel_token_map** map) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (map == nullptr) return capi::IsNull("map");
    *map = nullptr;
    Status status = capi::CheckArray(classes, count, "classes");
    if (!status.ok()) return status;
    return capi::GiveMap(
        TokenMap::FromClasses(std::vector<std::uint32_t>(classes, classes + count)), map);
  });
}

tiercel_code tiercel_token_map_save(const tiercel_token_map* map, const char* path) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (map == nullptr) return capi::IsNull("map");
    if (path == nullptr) return capi::IsNull("path");
    return map->map->Save(path);
  });
}

tiercel_code tiercel_token_map_get_counts(const tiercel_token_map* map, uint64_t* entry_count,
                                          uint32_t* class_count) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (map == nullptr) return capi::IsNull("map");
    if (entry_count != nullptr) *entry_count = map->map->entry_count();
    if (class_count != nullptr) *class_count = map->map->class_count();
    return {};
  });
}

void tiercel_token_map_close(tiercel_token_map* map) noexcept {
  delete map;
}
