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

void VersionedRow::Raise(std::uint64_t version) {
  std::uint64_t seen = floor.load();
  while (seen < version && !floor.compare_exchange_weak(seen, version)) {
  }
}

void VersionModel::Choose(std::span<const RowId> ids, Prng& prng, std::size_t writer_count) {
  for (std::size_t i = prng.Below(17); i < ids.size(); i += 17) {
    const auto [place, is_new] = rows.try_emplace(ids[i]);
    if (is_new) place->second.writer = rows.size() % writer_count;
  }
}

std::vector<std::uint64_t> VersionModel::Floors(const std::vector<RowId>& ids) const {
  std::vector<std::uint64_t> floors(ids.size());
  for (std::size_t i = 0; i < floors.size(); ++i) {
    const auto found = rows.find(ids[i]);
    if (found != rows.end()) floors[i] = found->second.floor.load();
  }
  return floors;
}

void VersionModel::Judge(RowId id, std::uint64_t floor, std::span<const std::byte> bytes) {
  const auto version = VersionOf(made, layer_id, id, bytes);
  const auto found = rows.find(id);
  const std::uint64_t begun = found == rows.end() ? 0 : found->second.begun.load();
  if (!version.has_value()) {
    ++mixtures;
  } else if (*version < floor) {
    ++went_back;
  } else if (*version > begun) {
    ++never_written;
  } else if (found != rows.end()) {
    found->second.Raise(*version);
    if (*version > 0) ++updated_seen;
  }
}

void VersionModel::Write(Store& store, std::size_t writer) {
  for (std::uint64_t version = 1; !stop; ++version) {
    UpdateBatch batch;
    for (auto& [id, row] : rows) {
      if (row.writer != writer) continue;
      row.begun = version;
      batch.AddVersion(store, layer_id, id, version);
    }
    if (!store.Update(batch.rows()).ok()) ++failures;
    for (auto& [id, row] : rows) {
      if (row.writer == writer) row.Raise(version);
    }
  }
}

}  // namespace tiercel::testing
