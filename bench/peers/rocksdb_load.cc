// Loads the checkpoint's rows into a RocksDB database: sorted tables written one after
// another in the order of ids, then ingested whole. Memory stays at a few pieces.

#include "bench/peers/rocksdb_load.h"

#include <fmt/format.h>
#include <rocksdb/db.h>
#include <rocksdb/sst_file_writer.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/file.h"
#include "bench/peers/arm.h"
#include "bench/peers/peer_table.h"
#include "tools/command_line.h"
#include "tools/progress.h"

namespace tiercel::peers {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kRowsOfATable = 1 << 20;  ///< 277 MB of 264 B rows.
constexpr std::uint64_t kRowsAtOnce = 8192;

Status RocksDbError(std::string_view what, const rocksdb::Status& status) {
  return Status(StatusCode::kIoError, fmt::format("RocksDB: {}: {}", what, status.ToString()));
}

rocksdb::Options LoadOptions() {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.compression = rocksdb::kNoCompression;
  options.bottommost_compression = rocksdb::kNoCompression;
  options.disable_auto_compactions = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(RocksDbTableOptions()));
  return options;
}

/// Writes all rows of all layers to sorted tables.
class Loader {
 public:
  Loader(const PeerTable& table, std::string directory)
      : table_(table), directory_(std::move(directory)), options_(LoadOptions()) {}

  Status Run() {
    std::uint64_t total_rows = 0;
    for (const LayerTable& layer : table_.info().layers) total_rows += layer.row_count;
    tools::ProgressBar bar("rocksdb", tools::ProgressUnit::kRows);
    for (std::uint32_t i = 0; i < table_.info().layers.size(); ++i) {
      std::vector<PartReader> readers;
      for (std::uint32_t p = 0; p < table_.parts(i).size(); ++p) readers.emplace_back(table_, i, p);
      const std::uint64_t row_count = table_.info().layers[i].row_count;
      for (std::uint64_t row = 0; row < row_count; row += kRowsOfATable) {
        if (tools::Interrupted()) return Status(StatusCode::kCancelled, "stopped by a signal");
        const std::uint64_t rows = std::min(kRowsOfATable, row_count - row);
        if (Status status = WriteTable(readers, i, row, rows); !status.ok()) return status;
        done_rows_ += rows;
        bar.Update(done_rows_, total_rows);
      }
    }
    return Ingest();
  }

 private:
  Status WriteTable(std::vector<PartReader>& readers, std::uint32_t layer_index,
                    std::uint64_t first_row, std::uint64_t row_count) {
    const std::string path = fmt::format("{}/rows-{:06}.sst", directory_, files_.size());
    rocksdb::SstFileWriter writer(rocksdb::EnvOptions(), options_);
    if (rocksdb::Status status = writer.Open(path); !status.ok()) return RocksDbError(path, status);
    std::vector<std::byte> row_bytes(table_.row_size_bytes(layer_index));
    std::vector<std::vector<std::byte>> pieces(readers.size());
    for (std::uint64_t done = 0; done < row_count; done += kRowsAtOnce) {
      const std::uint64_t rows = std::min(kRowsAtOnce, row_count - done);
      for (std::size_t p = 0; p < readers.size(); ++p) {
        pieces[p].resize(rows * table_.parts(layer_index)[p].size_bytes);
        if (Status status = readers[p].Next(pieces[p]); !status.ok()) return status;
      }
      for (std::uint64_t i = 0; i < rows; ++i) {
        std::byte* out = row_bytes.data();
        for (std::size_t p = 0; p < readers.size(); ++p) {
          const std::size_t part_bytes = table_.parts(layer_index)[p].size_bytes;
          std::memcpy(out, pieces[p].data() + i * part_bytes, part_bytes);
          out += part_bytes;
        }
        const RocksDbKey key = MakeRocksDbKey(layer_index, RowId{first_row + done + i});
        const rocksdb::Status status = writer.Put(
            rocksdb::Slice(key.data(), key.size()),
            rocksdb::Slice(reinterpret_cast<const char*>(row_bytes.data()), row_bytes.size()));
        if (!status.ok()) return RocksDbError(path, status);
      }
    }
    if (rocksdb::Status status = writer.Finish(); !status.ok()) return RocksDbError(path, status);
    files_.push_back(path);
    return {};
  }

  Status Ingest() {
    rocksdb::DB* raw = nullptr;
    if (rocksdb::Status status = rocksdb::DB::Open(options_, directory_ + "/rocksdb", &raw);
        !status.ok()) {
      return RocksDbError("open", status);
    }
    const std::unique_ptr<rocksdb::DB> db(raw);
    rocksdb::IngestExternalFileOptions ingest;
    ingest.move_files = true;
    if (rocksdb::Status status = db->IngestExternalFile(files_, ingest); !status.ok()) {
      return RocksDbError("ingest", status);
    }
    if (rocksdb::Status status = db->Close(); !status.ok()) return RocksDbError("close", status);
    return {};
  }

  const PeerTable& table_;
  const std::string directory_;
  const rocksdb::Options options_;
  std::vector<std::string> files_;
  std::uint64_t done_rows_ = 0;
};

}  // namespace

Status PrepareRocksDb(const PeerTable& table, const std::string& scratch_dir) {
  const std::string marker = scratch_dir + "/made_from";
  const std::string identity = table.Identity();
  const Result<std::string> made = ReadWholeFile(marker, std::uint64_t{1} << 20);
  if (made.ok() && made.value() == identity) return {};
  std::error_code error;
  // What an interrupted run or another checkpoint left. Only names of ours are removed.
  fs::remove(marker, error);
  fs::remove_all(RocksDbDirectory(scratch_dir), error);
  for (const fs::directory_entry& entry : fs::directory_iterator(scratch_dir, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("rows-") && name.ends_with(".sst")) fs::remove(entry.path(), error);
  }
  fs::create_directories(scratch_dir, error);
  if (error) {
    return Status(StatusCode::kIoError, fmt::format("{}: {}", scratch_dir, error.message()));
  }
  const fs::space_info space = fs::space(scratch_dir, error);
  // Padding and keys add a tenth.
  const std::uint64_t wanted_bytes = table.info().table_bytes / 10 * 11;
  if (!error && space.available < wanted_bytes) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("{} has {} free; the RocksDB arms need {}", scratch_dir,
                              tools::FormatBytes(static_cast<double>(space.available)),
                              tools::FormatBytes(static_cast<double>(wanted_bytes))));
  }
  if (Status status = Loader(table, scratch_dir).Run(); !status.ok()) return status;
  return WriteFileAtomically(marker, identity);
}

}  // namespace tiercel::peers
