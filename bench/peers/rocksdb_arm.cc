// RocksDB with direct reads and a block cache of the budget, asked with MultiGet in its
// array form: what one gets who puts the table into a store that is there already.

#include <dlfcn.h>
#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/version.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "base/file.h"
#include "bench/peers/rocksdb_load.h"
#include "bench/peers/row_list.h"
#include "bench/peers/row_pool.h"

namespace tiercel::peers {
namespace {

/// MultiGet itself works on 32 keys at a time (MultiGetContext::MAX_BATCH_SIZE).
constexpr std::uint32_t kKeysMax = 256;

/// True if the RocksDB library that is loaded knows io_uring at all.
bool LibraryHasIoUring() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&rocksdb::GetRocksVersionAsString), &info) == 0) {
    return false;
  }
  const Result<std::string> library =
      ReadWholeFile(std::filesystem::canonical(info.dli_fname).string(), std::uint64_t{1} << 30);
  return library.ok() && library.value().find("io_uring_queue_init") != std::string::npos;
}

class RocksDbArm final : public Arm {
 public:
  RocksDbArm(const PeerTable& table, std::uint32_t thread_count, bool verify,
             std::unique_ptr<rocksdb::DB> db, std::uint64_t cache_bytes)
      : table_(table), pool_(thread_count), db_(std::move(db)), cache_bytes_(cache_bytes) {
    read_options_.verify_checksums = verify;
    for (std::uint32_t i = 0; i < thread_count; ++i) {
      scratch_.push_back(std::make_unique<Scratch>());
    }
  }

  Status Run(const Batch& batch) override {
    ListRows(table_, batch, rows_);
    // In the order of keys, neighbours share a block, and MultiGet need not sort.
    std::sort(rows_.begin(), rows_.end(),
              [](const WantedRow& a, const WantedRow& b) { return a.key() < b.key(); });
    const auto row_count = static_cast<std::uint32_t>(rows_.size());
    const std::uint32_t piece =
        pool_.thread_count() == 1 ? kKeysMax : pool_.PieceItems(row_count, kKeysMax);
    pool_.Run(row_count, piece,
              [this](std::uint32_t thread, std::uint32_t begin, std::uint32_t end) {
                for (std::uint32_t at = begin; at < end; at += kKeysMax) {
                  Get(*scratch_[thread], at, std::min(end, at + kKeysMax));
                }
              });
    if (failed_.load()) {
      return Status(StatusCode::kIoError, "RocksDB: " + scratch_error_);
    }
    return {};
  }

  [[nodiscard]] std::string description() const override {
    return fmt::format(
        "MultiGet in sorted arrays, direct reads, {} thread{}, block cache {} MiB, checksums {}; "
        "4 KiB blocks, no compression, no bloom filter (every key is there), index in memory "
        "besides",
        pool_.thread_count(), pool_.thread_count() == 1 ? "" : "s", cache_bytes_ >> 20,
        read_options_.verify_checksums ? "on" : "off");
  }

 private:
  struct Scratch {
    std::array<RocksDbKey, kKeysMax> keys;
    std::array<rocksdb::Slice, kKeysMax> slices;
    std::array<rocksdb::PinnableSlice, kKeysMax> values;
    std::array<rocksdb::Status, kKeysMax> statuses;
  };

  void Get(Scratch& scratch, std::uint32_t begin, std::uint32_t end) {
    const std::size_t count = end - begin;
    for (std::size_t i = 0; i < count; ++i) {
      const WantedRow& row = rows_[begin + i];
      scratch.keys[i] = MakeRocksDbKey(row.layer_index, row.row);
      scratch.slices[i] = rocksdb::Slice(scratch.keys[i].data(), scratch.keys[i].size());
    }
    db_->MultiGet(read_options_, db_->DefaultColumnFamily(), count, scratch.slices.data(),
                  scratch.values.data(), scratch.statuses.data(), /*sorted_input=*/true);
    for (std::size_t i = 0; i < count; ++i) {
      const WantedRow& row = rows_[begin + i];
      const std::size_t row_bytes = table_.row_size_bytes(row.layer_index);
      if (!scratch.statuses[i].ok() || scratch.values[i].size() != row_bytes) {
        if (!failed_.exchange(true)) scratch_error_ = scratch.statuses[i].ToString();
        continue;
      }
      std::memcpy(row.out, scratch.values[i].data(), row_bytes);
      scratch.values[i].Reset();
    }
  }

  const PeerTable& table_;
  RowPool pool_;
  std::unique_ptr<rocksdb::DB> db_;
  const std::uint64_t cache_bytes_;
  rocksdb::ReadOptions read_options_;
  std::vector<std::unique_ptr<Scratch>> scratch_;  ///< One a thread.
  std::vector<WantedRow> rows_;
  std::atomic<bool> failed_ = false;
  std::string scratch_error_;  ///< Written by whoever set failed_; read after the pool is done.
};

}  // namespace

bool HasRocksDb() noexcept {
  return true;
}

std::string RocksDbVersion() {
  return fmt::format("{}{}", rocksdb::GetRocksVersionAsString(),
                     LibraryHasIoUring() ? ", built with io_uring"
                                         : ", built without io_uring (so no async_io, and a "
                                           "MultiGet reads block after block)");
}

Result<std::unique_ptr<Arm>> OpenRocksDbArm(const PeerTable& table, const ArmOptions& options,
                                            std::uint32_t thread_count, bool verify_checksums) {
  rocksdb::BlockBasedTableOptions table_options = RocksDbTableOptions();
  table_options.block_cache = rocksdb::NewLRUCache(options.dram_budget_bytes);
  rocksdb::Options db_options;
  db_options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table_options));
  db_options.use_direct_reads = true;
  db_options.max_open_files = -1;  // All tables open, indexes in memory, before any slice.
  db_options.compression = rocksdb::kNoCompression;
  rocksdb::DB* raw = nullptr;
  const rocksdb::Status status =
      rocksdb::DB::OpenForReadOnly(db_options, RocksDbDirectory(options.scratch_dir), &raw);
  if (!status.ok()) return Status(StatusCode::kIoError, "open RocksDB: " + status.ToString());
  return std::unique_ptr<Arm>(std::make_unique<RocksDbArm>(table, thread_count, verify_checksums,
                                                           std::unique_ptr<rocksdb::DB>(raw),
                                                           options.dram_budget_bytes));
}

}  // namespace tiercel::peers
