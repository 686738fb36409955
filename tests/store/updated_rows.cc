#include "tests/store/updated_rows.h"

#include <gtest/gtest.h>

#include <cstring>
#include <utility>

#include "base/prng.h"

#if defined(__SANITIZE_THREAD__)
// RocksDB's library is not built for ThreadSanitizer, which therefore does not see the atomics
// that order what it does see of it, such as its memcmp and its frees.
extern "C" const char* __tsan_default_suppressions() {
  return "race:librocksdb.so\ncalled_from_lib:librocksdb.so\n";
}
#endif

namespace tiercel::testing {

std::vector<std::byte> VersionBytes(std::uint32_t layer_id, RowId row, std::uint64_t version,
                                    std::size_t size_bytes) {
  Prng prng(SplitMix64(Index(row) + (std::uint64_t{layer_id} << 40)) ^ SplitMix64(version));
  std::vector<std::byte> bytes(size_bytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(prng());
  std::memcpy(bytes.data(), &version, sizeof(version));
  return bytes;
}

std::optional<std::uint64_t> VersionOf(const MadeCheckpoint& made, std::uint32_t layer_id,
                                       RowId row, std::span<const std::byte> bytes) {
  std::uint64_t version = 0;
  std::memcpy(&version, bytes.data(), sizeof(version));
  const auto is = [bytes](const std::vector<std::byte>& wanted) {
    return wanted.size() == bytes.size() &&
           std::memcmp(wanted.data(), bytes.data(), bytes.size()) == 0;
  };
  if (is(VersionBytes(layer_id, row, version, bytes.size()))) return version;
  if (is(made.Row(layer_id, row))) return 0;
  return std::nullopt;
}

void UpdateBatch::Add(std::uint32_t layer_id, RowId row, std::vector<std::byte> bytes) {
  bytes_.push_back(std::move(bytes));
  rows_.push_back({.layer_id = layer_id, .row = row, .bytes = bytes_.back()});
}

void UpdateBatch::AddVersion(const Store& store, std::uint32_t layer_id, RowId row,
                             std::uint64_t version) {
  const std::uint32_t size_bytes = store.OutputRowSizeBytes(layer_id, RowOutput::kStored).value();
  Add(layer_id, row, VersionBytes(layer_id, row, version, size_bytes));
}

std::vector<std::byte> LookUpRow(Store& store, std::uint32_t layer_id, RowId row) {
  LayerBuffers buffers(store, layer_id, 1, RowOutput::kStored);
  const Status status = store.LookupRows(std::span(&row, 1), buffers.Output());
  if (!status.ok()) {
    ADD_FAILURE() << status.ToString();
    return {};
  }
  return buffers.rows;
}

}  // namespace tiercel::testing
