#include "store/state_db.h"

#include <fmt/format.h>

#include <filesystem>
#include <system_error>
#include <utility>

#if TIERCEL_HAVE_ROCKSDB
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <array>
#include <atomic>
#include <cstring>

#include "base/errno_status.h"
#include "base/file.h"
#include "base/mutex.h"
#endif

#include "base/byte_order.h"

namespace tiercel {

std::string DefaultStatePath(const std::string& table_path) {
  std::error_code error;
  if (!std::filesystem::is_directory(table_path, error)) return table_path + ".tiercel-state";
  return (std::filesystem::path(table_path) / "tiercel-state").string();
}

bool StateExists(const std::string& path) {
  return StateDb::Exists(path);
}

bool StateDb::Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(std::filesystem::path(path) / "CURRENT", error);
}

Result<std::uint64_t> StateDb::GetNumber(std::string_view name) const {
  Result<std::optional<std::string>> entry = GetEntry(name);
  if (!entry.ok()) return std::move(entry).TakeStatus();
  if (!entry.value().has_value()) return std::uint64_t{0};
  if (entry.value()->size() == sizeof(std::uint64_t)) {
    return LoadLittleEndian<std::uint64_t>(entry.value()->data());
  }
  return Status(StatusCode::kCorruption, fmt::format("state {}: entry '{}' has {} B, not 8", path(),
                                                     name, entry.value()->size()));
}

#if TIERCEL_HAVE_ROCKSDB
namespace {

constexpr char kEntryPrefix = 'c';
constexpr char kRowPrefix = 'r';
constexpr char kRowsEnd = 's';
constexpr std::size_t kSequenceBytes = 8;

/// Takes RocksDB's log, which would otherwise be a file in the directory, even of a state
/// that is only read. What matters comes as a Status.
class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char* /*format*/, va_list /*arguments*/) override {}
};

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

/// The Status for an error of RocksDB's.
Status StateError(const rocksdb::Status& error, const std::string& path, std::string_view what) {
  const std::string text = error.ToString();
  const auto make = [&](StatusCode code, std::string_view advice) {
    return Status(code, fmt::format("state {}: {}: {}; {}", path, what, text, advice));
  };
  if (error.IsIOError() && (Contains(text, "lock hold") || Contains(text, "While lock file"))) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("state {} is open for updates already, in this process or another: "
                              "close that store, or open this one for reading alone "
                              "(Updates::kReadOnly) ({})",
                              path, text));
  }
  if (error.IsNoSpace() || Contains(text, "No space left") || Contains(text, "File too large") ||
      Contains(text, "Disk quota")) {
    return make(StatusCode::kResourceExhausted,
                "nothing of this update is visible; make room on the disk and update again");
  }
  if (Contains(text, "Permission denied") || Contains(text, "Read-only file system")) {
    return make(StatusCode::kPermissionDenied, "check the permissions of the directory");
  }
  if (error.IsCorruption()) {
    return make(StatusCode::kCorruption,
                "the directory is damaged: restore it from a backup, or remove it to go back to "
                "the rows of the table itself");
  }
  if (error.IsNotFound() || error.IsPathNotFound()) {
    return make(StatusCode::kNotFound, "check the path");
  }
  if (error.IsMemoryLimit()) return make(StatusCode::kResourceExhausted, "raise the DRAM budget");
  return make(StatusCode::kIoError, "check the disk and the kernel's log");
}

/// 'r', layer and row with the highest byte first, so that keys sort by layer and row.
std::array<char, 13> RowKey(std::uint32_t layer_id, RowId row) noexcept {
  std::array<char, 13> key;
  key[0] = kRowPrefix;
  const std::uint32_t layer = __builtin_bswap32(layer_id);
  const std::uint64_t index = __builtin_bswap64(Index(row));
  std::memcpy(&key[1], &layer, sizeof(layer));
  std::memcpy(&key[5], &index, sizeof(index));
  return key;
}

rocksdb::Slice SliceOf(std::span<const char> bytes) noexcept {
  return {bytes.data(), bytes.size()};
}

std::string EntryKey(std::string_view name) {
  return fmt::format("{}{}", kEntryPrefix, name);
}

class RocksSnapshot final : public StateSnapshot {
 public:
  /// `db` null: a database that is only read needs no mark. `count` is kept by all snapshots.
  RocksSnapshot(rocksdb::DB* db, std::atomic<std::uint64_t>& count)
      : db_(db), snapshot_(db == nullptr ? nullptr : db->GetSnapshot()), count_(count) {
    count_.fetch_add(1, std::memory_order_relaxed);
  }
  RocksSnapshot(const RocksSnapshot&) = delete;
  RocksSnapshot& operator=(const RocksSnapshot&) = delete;
  ~RocksSnapshot() override {
    if (snapshot_ != nullptr) db_->ReleaseSnapshot(snapshot_);
    count_.fetch_sub(1, std::memory_order_release);  // The database may be closed from now on.
  }
  [[nodiscard]] const rocksdb::Snapshot* get() const noexcept { return snapshot_; }

 private:
  rocksdb::DB* db_;
  const rocksdb::Snapshot* snapshot_;
  std::atomic<std::uint64_t>& count_;
};

/// Keeps RocksDB from going on by itself after a write has failed.
class NoRecovery final : public rocksdb::EventListener {
 public:
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason /*reason*/, rocksdb::Status /*error*/,
                            bool* auto_recovery) override {
    *auto_recovery = false;
  }
};

/// Opens the database of a state that is there, or makes it.
Result<std::unique_ptr<rocksdb::DB>> OpenDatabase(const StateOptions& options, bool writable);

rocksdb::ReadOptions ReadAsOf(const StateSnapshot& at) {
  rocksdb::ReadOptions options;
  options.snapshot = static_cast<const RocksSnapshot&>(at).get();
  return options;
}

class RocksStateDb final : public StateDb {
 public:
  RocksStateDb(StateOptions options, std::unique_ptr<rocksdb::DB> db)
      : options_(std::move(options)), writable_(options_.writable), db_(std::move(db)) {}

  [[nodiscard]] const std::string& path() const noexcept override { return options_.path; }

  [[nodiscard]] std::shared_ptr<const StateSnapshot> TakeSnapshot() override {
    return std::make_shared<RocksSnapshot>(writable_ ? db_.get() : nullptr, snapshot_count_);
  }
  [[nodiscard]] std::uint64_t snapshot_count() const noexcept override {
    return snapshot_count_.load(std::memory_order_acquire);
  }
  [[nodiscard]] bool must_reopen() const noexcept override {
    return failed_.load(std::memory_order_relaxed);
  }

  [[nodiscard]] Status Reopen() override {
    MutexLock lock(open_mutex_);
    db_.reset();
    writable_ = false;
    Result<std::unique_ptr<rocksdb::DB>> db = OpenDatabase(options_, /*writable=*/true);
    if (db.ok()) {
      db_ = std::move(db).value();
      writable_ = true;
      failed_.store(false, std::memory_order_relaxed);
      return {};
    }
    Result<std::unique_ptr<rocksdb::DB>> reader = OpenDatabase(options_, /*writable=*/false);
    if (reader.ok()) db_ = std::move(reader).value();
    return std::move(db).TakeStatus();
  }

  [[nodiscard]] Result<bool> GetRow(const StateSnapshot& at, std::uint32_t layer_id, RowId row,
                                    std::span<std::byte> bytes) const override {
    if (db_ == nullptr) return NotOpen();
    rocksdb::PinnableSlice value;
    const std::array<char, 13> key = RowKey(layer_id, row);
    const rocksdb::Status status =
        db_->Get(ReadAsOf(at), db_->DefaultColumnFamily(), SliceOf(key), &value);
    if (status.IsNotFound()) return false;
    const auto what = [&] { return fmt::format("row {} of layer {}", Index(row), layer_id); };
    if (!status.ok()) return StateError(status, path(), what());
    if (value.size() != kSequenceBytes + bytes.size()) {
      return StateError(rocksdb::Status::Corruption(fmt::format(
                            "{} B where {} are due", value.size(), kSequenceBytes + bytes.size())),
                        path(), what());
    }
    std::memcpy(bytes.data(), value.data() + kSequenceBytes, bytes.size());
    return true;
  }

  [[nodiscard]] Status ForEachRow(
      const StateSnapshot& at, const std::function<Status(const StateRow&)>& visit) const override {
    return ForEachRowBetween(at, rocksdb::Slice(&kRowPrefix, 1), rocksdb::Slice(&kRowsEnd, 1),
                             visit);
  }

  [[nodiscard]] Status ForEachRowOf(
      const StateSnapshot& at, std::uint32_t layer_id, RowId first, RowId end,
      const std::function<Status(const StateRow&)>& visit) const override {
    const std::array<char, 13> begin_key = RowKey(layer_id, first);
    const std::array<char, 13> end_key = RowKey(layer_id, end);
    return ForEachRowBetween(at, SliceOf(begin_key), SliceOf(end_key), visit);
  }

  [[nodiscard]] Status DropRows(
      std::span<const std::pair<std::string_view, std::string>> entries) override {
    rocksdb::WriteBatch write;
    rocksdb::Status status =
        write.DeleteRange(rocksdb::Slice(&kRowPrefix, 1), rocksdb::Slice(&kRowsEnd, 1));
    for (const auto& [name, value] : entries) {
      if (status.ok()) status = write.Put(EntryKey(name), value);
    }
    if (!status.ok()) return StateError(status, path(), "dropping rows");
    if (Status committed = Commit(write); !committed.ok()) return committed;
    // Gives the disk its space back; what fails here is done the next time.
    const rocksdb::Slice begin(&kRowPrefix, 1);
    const rocksdb::Slice end(&kRowsEnd, 1);
    (void)db_->CompactRange(rocksdb::CompactRangeOptions(), &begin, &end);
    return {};
  }

  [[nodiscard]] Status Write(std::span<const StateBatch> batches) override {
    rocksdb::WriteBatch write;
    std::array<char, kSequenceBytes> sequence{};
    for (const StateBatch& batch : batches) {
      StoreLittleEndian<std::uint64_t>(sequence.data(), batch.sequence);
      for (const RowUpdate& row : batch.rows) {
        const std::array<char, 13> key = RowKey(row.layer_id, row.row);
        const std::array key_parts = {SliceOf(key)};
        const std::array value_parts = {
            SliceOf(sequence),
            rocksdb::Slice(reinterpret_cast<const char*>(row.bytes.data()), row.bytes.size())};
        rocksdb::Status status = write.Put({key_parts.data(), 1}, {value_parts.data(), 2});
        if (!status.ok()) return StateError(status, path(), "an update");
      }
    }
    if (const rocksdb::Status status = write.Put(EntryKey(kSequenceEntry), SliceOf(sequence));
        !status.ok()) {
      return StateError(status, path(), "an update");
    }
    return Commit(write);
  }

  [[nodiscard]] Result<std::optional<std::string>> GetEntry(std::string_view name) const override {
    std::string value;
    const rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), EntryKey(name), &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    if (!status.ok()) return StateError(status, path(), fmt::format("entry {}", name));
    return std::optional<std::string>(std::move(value));
  }

  [[nodiscard]] Status PutEntry(std::string_view name, std::string_view value) override {
    rocksdb::WriteBatch write;
    if (const rocksdb::Status status = write.Put(EntryKey(name), rocksdb::Slice(value));
        !status.ok()) {
      return StateError(status, path(), fmt::format("entry {}", name));
    }
    return Commit(write);
  }

  [[nodiscard]] Result<bool> IsEmpty() const override {
    const std::unique_ptr<rocksdb::Iterator> any(db_->NewIterator(rocksdb::ReadOptions()));
    any->SeekToFirst();
    if (!any->status().ok()) return StateError(any->status(), path(), "its first key");
    return !any->Valid();
  }

  [[nodiscard]] std::uint64_t SizeBytes() const override {
    MutexLock lock(open_mutex_);
    std::uint64_t total = 0;
    if (db_ == nullptr) return 0;
    for (const std::string& name : {rocksdb::DB::Properties::kTotalSstFilesSize,
                                    rocksdb::DB::Properties::kCurSizeAllMemTables}) {
      std::uint64_t value = 0;
      if (db_->GetIntProperty(name, &value)) total += value;
    }
    return total;
  }

 private:
  [[nodiscard]] Status NotOpen() const {
    return Status(StatusCode::kIoError,
                  fmt::format("state {} could not be opened anew after a write had failed; open "
                              "the store anew",
                              path()));
  }

  Status ForEachRowBetween(const StateSnapshot& at, const rocksdb::Slice& begin,
                           const rocksdb::Slice& end,
                           const std::function<Status(const StateRow&)>& visit) const {
    rocksdb::ReadOptions options = ReadAsOf(at);
    options.iterate_upper_bound = &end;
    options.fill_cache = false;
    options.readahead_size = std::size_t{1} << 20;
    const std::unique_ptr<rocksdb::Iterator> row(db_->NewIterator(options));
    for (row->Seek(begin); row->Valid(); row->Next()) {
      if (row->key().size() != 13 || row->value().size() < kSequenceBytes) {
        return StateError(rocksdb::Status::Corruption("a key or value that is no row's"), path(),
                          "rows");
      }
      const char* const key = row->key().data();
      const std::span value(row->value().data(), row->value().size());
      Status status =
          visit({.layer_id = __builtin_bswap32(LoadLittleEndian<std::uint32_t>(key + 1)),
                 .row = RowId{__builtin_bswap64(LoadLittleEndian<std::uint64_t>(key + 5))},
                 .sequence = LoadLittleEndian<std::uint64_t>(value.data()),
                 .bytes = std::as_bytes(value.subspan(kSequenceBytes))});
      if (!status.ok()) return status;
    }
    return row->status().ok() ? Status() : StateError(row->status(), path(), "rows");
  }

  Status Commit(rocksdb::WriteBatch& write) {
    if (db_ == nullptr) return NotOpen();
    if (must_reopen()) {
      return Status(StatusCode::kUnavailable,
                    fmt::format("state {} takes no updates since one failed to be written; open "
                                "the store anew",
                                path()));
    }
    rocksdb::WriteOptions options;
    options.sync = true;
    const rocksdb::Status status = db_->Write(options, &write);
    if (status.ok()) return {};
    failed_.store(true, std::memory_order_relaxed);
    return StateError(status, path(), "an update");
  }

  const StateOptions options_;
  std::atomic<std::uint64_t> snapshot_count_ = 0;
  std::atomic<bool> failed_ = false;
  mutable Mutex open_mutex_;  ///< Of Reopen() and of who may run beside it.
  bool writable_;
  std::unique_ptr<rocksdb::DB> db_;  ///< Null after a Reopen() that failed.
};

rocksdb::Options DatabaseOptions(const StateOptions& wanted) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.info_log = std::make_shared<NoLog>();
  options.listeners.push_back(std::make_shared<NoRecovery>());
  options.max_bgerror_resume_count = 0;
  // All tables stay open, so that one who only reads does not miss those that the one who
  // writes has replaced meanwhile.
  options.max_open_files = -1;
  options.write_buffer_size = wanted.write_buffer_bytes;
  options.max_write_buffer_number = 2;
  options.max_background_jobs = 2;
  options.compression = rocksdb::kNoCompression;  // Rows hardly shrink.
  // A log that is damaged before its end is an error, never a shorter log.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.track_and_verify_wals_in_manifest = true;
  options.stats_dump_period_sec = 0;  // Nothing wakes up by itself.
  options.stats_persist_period_sec = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(wanted.cache_bytes, /*num_shard_bits=*/2);
  table.cache_index_and_filter_blocks = true;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

Result<std::unique_ptr<rocksdb::DB>> OpenDatabase(const StateOptions& options, bool writable) {
  // Whoever writes may remove a file between two looks of one who reads.
  constexpr int kTriesMax = 5;
  const rocksdb::Options database = DatabaseOptions(options);
  rocksdb::Status status;
  for (int tries = 0; tries < kTriesMax; ++tries) {
    rocksdb::DB* db = nullptr;
    status = writable ? rocksdb::DB::Open(database, options.path, &db)
                      : rocksdb::DB::OpenForReadOnly(database, options.path, &db);
    if (status.ok()) return std::unique_ptr<rocksdb::DB>(db);
    if (writable || !(status.IsPathNotFound() || Contains(status.ToString(), "No such"))) break;
  }
  return StateError(status, options.path, "it cannot be opened");
}

/// Makes the directory of a state that is to be written to. One that holds other things than
/// a database's is somebody else's.
Status PrepareDirectory(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (fs::exists(path, error)) {
    if (!fs::is_directory(path, error)) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{} is no directory: name one for the state", path));
    }
    for (const fs::directory_entry& entry : fs::directory_iterator(path, error)) {
      const std::string name = entry.path().filename().string();
      // What a process leaves that ended while it made the database.
      const bool ours = name == "LOCK" || name == "IDENTITY" || name.starts_with("MANIFEST-") ||
                        name.starts_with("OPTIONS-") || name.ends_with(".log") ||
                        name.ends_with(".dbtmp") || name == "CURRENT";
      if (ours) continue;
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("{} holds no state, but other files ('{}' among them): name an "
                                "empty or a new directory",
                                path, name));
    }
    if (error) return ErrnoStatus(error.value(), "list " + path);
    return {};
  }
  if (!fs::create_directory(path, error)) return ErrnoStatus(error.value(), "mkdir " + path);
  const std::string parent = fs::path(path).parent_path().string();
  return SyncDirectory(parent.empty() ? "." : parent);
}

}  // namespace

Result<std::unique_ptr<StateDb>> StateDb::Open(const StateOptions& options) {
  if (!Exists(options.path)) {
    if (!options.writable) {
      return Status(StatusCode::kNotFound,
                    fmt::format("there is no state in {}: update a row of the table first, or "
                                "check the path",
                                options.path));
    }
    if (Status status = PrepareDirectory(options.path); !status.ok()) return status;
  }
  Result<std::unique_ptr<rocksdb::DB>> db = OpenDatabase(options, options.writable);
  if (!db.ok()) return std::move(db).TakeStatus();
  return std::unique_ptr<StateDb>(std::make_unique<RocksStateDb>(options, std::move(db).value()));
}

#else

Result<std::unique_ptr<StateDb>> StateDb::Open(const StateOptions& options) {
  return Status(StatusCode::kUnavailable,
                fmt::format("{}: this library was built without RocksDB, so it knows no updated "
                            "rows; build it with TIERCEL_ROCKSDB=ON, or open the table without "
                            "them (Updates::kOff)",
                            options.path));
}

#endif

}  // namespace tiercel
