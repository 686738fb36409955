// Writes a hot set file: walks the cache, the most used groups first, into one block after
// another, beside lookups.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <ctime>
#include <filesystem>
#include <new>
#include <utility>

#include "base/clock.h"
#include "base/errno_status.h"
#include "base/file.h"
#include "base/prng.h"
#include "cache/group_export.h"
#include "cache/hot_set_coding.h"
#include "io/aligned_buffer.h"
#include "store/hot_set_file.h"
#include "store/store_impl.h"

namespace tiercel {
namespace {

/// A file that takes the place of another when all of it is there, and is removed if it
/// never is.
class NewFile {
 public:
  [[nodiscard]] static Result<NewFile> Create(const std::string& path) {
    static std::atomic<std::uint64_t> serial = 0;
    NewFile made;
    made.path_ = path;
    made.temporary_ = fmt::format("{}.tmp.{}.{}", path, getpid(), serial++);
    // Past the page cache: an image is as large as the cache, and is not read again soon.
    constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
    Result<FileDescriptor> file = OpenFile(made.temporary_, kFlags | O_DIRECT);
    if (!file.ok() && file.status().os_error() == EINVAL) file = OpenFile(made.temporary_, kFlags);
    if (!file.ok()) return std::move(file).TakeStatus();
    made.file_ = std::move(file).value();
    return made;
  }
  NewFile(NewFile&& other) noexcept = default;
  ~NewFile() {
    if (file_.valid()) unlink(temporary_.c_str());
  }

  [[nodiscard]] Status Write(std::uint64_t offset_bytes, std::span<const std::byte> bytes) {
    return WriteAt(file_, temporary_, offset_bytes, bytes);
  }
  /// Makes the file durable and gives it its name.
  [[nodiscard]] Status Publish() {
    if (fsync(file_.get()) != 0) return ErrnoStatus(errno, "fsync " + temporary_);
    if (rename(temporary_.c_str(), path_.c_str()) != 0) {
      return ErrnoStatus(errno, fmt::format("rename {} to {}", temporary_, path_));
    }
    file_ = FileDescriptor();
    const std::string parent = std::filesystem::path(path_).parent_path().string();
    return SyncDirectory(parent.empty() ? "." : parent);
  }

 private:
  NewFile() = default;

  std::string path_;
  std::string temporary_;
  FileDescriptor file_;
};

/// The header of a file to be written, but for its counts.
Result<HotSetHeader> NewHeader(const Store::Impl& store, const HotSetSaveOptions& options) {
  if (!std::has_single_bit(options.block_bytes) || options.block_bytes < kHotSetBlockBytesMin ||
      options.block_bytes > kHotSetBlockBytesMax) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("HotSetSaveOptions::block_bytes is {}, but must be a power of two "
                              "from {} to {}",
                              options.block_bytes, kHotSetBlockBytesMin, kHotSetBlockBytesMax));
  }
  HotSetHeader header;
  header.has_bytes = options.bytes;
  header.spaces = HotSetSpacesOf(store.layout);
  header.shard = store.checkpoint.recipe.shard;
  const std::uint32_t least_bytes =
      kHotSetBlockHeadBytes + kHotSetEntryBytes +
      (options.bytes ? store.layout.space_size_bytes_max : std::uint32_t{0});
  header.block_bytes = std::max(options.block_bytes, std::bit_ceil(least_bytes));
  if (header.block_bytes > kHotSetBlockBytesMax) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("groups of {} B do not fit a block of {} B: save the keys alone",
                              store.layout.space_size_bytes_max, kHotSetBlockBytesMax));
  }
  Result<TableIdentity> identity = IdentityOf(store.checkpoint);
  if (!identity.ok()) return std::move(identity).TakeStatus();
  header.table_id = identity.value().table_id;
  header.content_id = identity.value().content_id;
  header.saved_at_s = static_cast<std::uint64_t>(std::time(nullptr));
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  static std::atomic<std::uint64_t> serial = 0;
  header.save_id = SplitMix64(static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                              static_cast<std::uint64_t>(now.tv_nsec)) ^
                   SplitMix64((static_cast<std::uint64_t>(getpid()) << 32) + serial++);
  return header;
}

Status WriteBlocks(const GroupCache& cache, const Overlay* overlay,
                   const HotSetSaveOptions& options, NewFile& file, HotSetHeader& header) {
  Result<AlignedBuffer> buffer = AlignedBuffer::Make(header.block_bytes, "a block of a hot set");
  if (!buffer.ok()) return std::move(buffer).TakeStatus();
  const std::span<std::byte> block(buffer.value().data(), header.block_bytes);
  HotSetBlockWriter writer(header, block);
  bool full = false;
  const auto visit = [&](const HotGroup& group) {
    // An image holds the tables' own rows, so that it is good with every state of theirs. The
    // group was found before it is asked about, so that no update gets in between.
    if (options.bytes && overlay != nullptr &&
        overlay->MayHaveRowOf(group.id.space, group.id.key)) {
      return true;
    }
    if (header.group_count == options.group_count_max) return false;
    full = !writer.Add(group);
    if (full) return false;
    ++header.group_count;
    ++header.spaces[group.id.space].group_count;
    return true;
  };
  const auto write = [&]() -> Status {
    writer.Finish(header.block_count);
    Status status = file.Write(header.BlockOffset(header.block_count), block);
    ++header.block_count;
    full = false;
    return status;
  };
  GroupExport walk(cache);
  while (walk.Next(visit) && header.group_count < options.group_count_max) {
    if (!full) continue;
    if (Status status = write(); !status.ok()) return status;
  }
  return writer.group_count() > 0 ? write() : Status();
}

Result<HotSetSaved> Save(const Store::Impl& store, const std::string& path,
                         const HotSetSaveOptions& options) {
  const std::uint64_t begun_ns = MonotonicNs();
  Result<HotSetHeader> made = NewHeader(store, options);
  if (!made.ok()) return std::move(made).TakeStatus();
  HotSetHeader& header = made.value();
  Result<NewFile> file = NewFile::Create(path);
  if (!file.ok()) return std::move(file).TakeStatus();
  Status status = WriteBlocks(*store.cache, store.overlay.get(), options, file.value(), header);
  if (!status.ok()) return status;
  // Last: a file without it is no hot set, whatever became of its writer.
  Result<AlignedBuffer> buffer = AlignedBuffer::Make(kHotSetHeaderBytes, "a hot set's header");
  if (!buffer.ok()) return std::move(buffer).TakeStatus();
  const std::span<std::byte> bytes(buffer.value().data(), kHotSetHeaderBytes);
  EncodeHotSetHeader(header, bytes);
  status = file.value().Write(0, bytes);
  if (status.ok()) status = file.value().Publish();
  if (!status.ok()) return status;
  return HotSetSaved{.group_count = header.group_count,
                     .file_bytes = header.file_bytes(),
                     .elapsed_ns = MonotonicNs() - begun_ns};
}

}  // namespace

Result<HotSetSaved> Store::SaveHotSet(const std::string& path,
                                      const HotSetSaveOptions& options) const {
  try {
    return Save(*impl_, path, options);
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kResourceExhausted, "no memory to save a hot set");
  }
}

}  // namespace tiercel
