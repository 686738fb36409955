#ifndef TIERCEL_BENCH_PEERS_ROCKSDB_LOAD_H_
#define TIERCEL_BENCH_PEERS_ROCKSDB_LOAD_H_

#include <rocksdb/table.h>

#include <array>
#include <cstdint>
#include <string>

#include "tiercel/types.h"

namespace tiercel::peers {

/// Layer and row, most significant byte first: keys sort as ids do.
using RocksDbKey = std::array<char, 8>;

[[nodiscard]] inline RocksDbKey MakeRocksDbKey(std::uint32_t layer_index, RowId row) noexcept {
  const std::uint64_t number = std::uint64_t{layer_index} << 48 | Index(row);
  RocksDbKey key{};
  for (std::size_t i = 0; i < key.size(); ++i) {
    key[i] = static_cast<char>(number >> (56 - 8 * i));
  }
  return key;
}

/// How blocks are laid out, for the writer and the reader.
[[nodiscard]] inline rocksdb::BlockBasedTableOptions RocksDbTableOptions() {
  rocksdb::BlockBasedTableOptions options;
  options.block_size = 4096;
  options.block_align = true;  // A block is one page on disk: one read, not two.
  options.filter_policy = nullptr;
  options.cache_index_and_filter_blocks = false;
  return options;
}

/// Where the database lies below the scratch folder.
[[nodiscard]] inline std::string RocksDbDirectory(const std::string& scratch_dir) {
  return scratch_dir + "/rocksdb";
}

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_ROCKSDB_LOAD_H_
