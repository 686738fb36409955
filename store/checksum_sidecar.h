#ifndef TIERCEL_STORE_CHECKSUM_SIDECAR_H_
#define TIERCEL_STORE_CHECKSUM_SIDECAR_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/status.h"
#include "tiercel/verify.h"

namespace tiercel {

/// Bytes [offset_bytes, offset_bytes + size_bytes) of a file.
struct FileSpan {
  std::uint64_t offset_bytes = 0;
  std::uint64_t size_bytes = 0;
};

/// Checksums of the 4 KiB pages of a checkpoint's files in which table bytes lie, made
/// once by reading all of them, so that later reads in place can be checked
/// (docs/format.md, "Checksum sidecar"). 4 bytes a page: a thousandth of the table.
///
/// The last page of a file may be short. Bytes of other tensors beside the tables' are
/// summed with their page.
///
/// Threading: immutable once made or read; const methods may run concurrently.
class ChecksumSidecar {
 public:
  static constexpr std::uint32_t kPageBytes = 4096;

  /// Pages [first_page, first_page + page_count) of a file.
  struct Range {
    std::uint64_t first_page = 0;
    std::uint64_t page_count = 0;
    std::uint64_t first_sum = 0;  ///< Into the sums.
  };

  /// One with no sums yet for the pages that the tables of `checkpoint` lie in.
  /// REQUIRES: no packed table.
  [[nodiscard]] static ChecksumSidecar ForTables(const CheckpointInfo& checkpoint);

  /// Where a checkpoint's sidecar lies unless somebody says otherwise: in its directory,
  /// or beside its file.
  [[nodiscard]] static std::string DefaultPath(const CheckpointInfo& checkpoint);

  /// Reads the sidecar of `checkpoint`.
  ///
  /// Errors: kNotFound, kInvalidArgument (no sidecar, of another version, of other tables
  /// or of files of other sizes), kCorruption (damaged or cut short), kIoError.
  [[nodiscard]] static Result<ChecksumSidecar> Read(const std::string& path,
                                                    const CheckpointInfo& checkpoint);

  /// The sidecar that `use` asks for, if there is to be one: none of a packed table.
  ///   path  empty: DefaultPath(), which may be missing with kAuto.
  /// Errors: as Read().
  [[nodiscard]] static Result<std::optional<ChecksumSidecar>> Find(const CheckpointInfo& checkpoint,
                                                                   ChecksumUse use,
                                                                   const std::string& path);

  /// The sums out of a sidecar's bytes, hostile ones too. Errors: as Read().
  ///   table_id  of the checkpoint: see IdentityOf().
  [[nodiscard]] static Result<ChecksumSidecar> Decode(std::span<const std::byte> bytes,
                                                      const std::string& source_name,
                                                      const CheckpointInfo& checkpoint,
                                                      std::uint64_t table_id);
  [[nodiscard]] std::string Encode(const CheckpointInfo& checkpoint, std::uint64_t table_id) const;

  /// Writes it so that a crash leaves the old one or this. Errors: as WriteFileAtomically(),
  /// IdentityOf().
  [[nodiscard]] Status Write(const std::string& path, const CheckpointInfo& checkpoint) const;

  /// The ranges of a file, rising.
  [[nodiscard]] std::span<const Range> ranges(std::uint32_t file_index) const noexcept {
    return files_[file_index].ranges;
  }
  /// Sets the sum of a page. `bytes` is the page, short at the file's end.
  void Set(std::uint32_t file_index, std::uint64_t page, std::span<const std::byte> bytes) noexcept;

  /// The whole pages that hold a span of table bytes, cut off at the file's end.
  [[nodiscard]] FileSpan Cover(std::uint32_t file_index, std::uint64_t offset_bytes,
                               std::uint64_t size_bytes) const noexcept;
  /// Most bytes that Cover() gives for a span of that size.
  [[nodiscard]] static std::uint32_t CoverSizeBytesMax(std::uint32_t size_bytes) noexcept;

  /// Whether pages are what they were.
  ///   offset_bytes  of a page.
  ///   bytes         whole pages, from there on: a Cover(). Pages without a sum are not.
  [[nodiscard]] bool Intact(std::uint32_t file_index, std::uint64_t offset_bytes,
                            std::span<const std::byte> bytes) const noexcept;

  [[nodiscard]] std::uint64_t page_count() const noexcept { return sums_.size(); }
  [[nodiscard]] std::uint64_t memory_bytes() const noexcept;

 private:
  struct File {
    std::uint64_t size_bytes = 0;
    std::vector<Range> ranges;
  };

  [[nodiscard]] const std::uint32_t* SumOf(std::uint32_t file_index,
                                           std::uint64_t page) const noexcept;

  std::vector<File> files_;  ///< As in CheckpointInfo::files.
  std::vector<std::uint32_t> sums_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_CHECKSUM_SIDECAR_H_
