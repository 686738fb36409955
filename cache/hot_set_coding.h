#ifndef TIERCEL_CACHE_HOT_SET_CODING_H_
#define TIERCEL_CACHE_HOT_SET_CODING_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cache/hot_group.h"
#include "tiercel/recipe.h"
#include "tiercel/status.h"

namespace tiercel {

// The bytes of a hot set file; docs/format.md draws them. A header of kHotSetHeaderBytes,
// then blocks of one size, each with a checksum of its own that is bound to its place and
// to the file. Hottest groups first. No I/O here.

inline constexpr std::uint32_t kHotSetVersion = 1;
inline constexpr std::uint32_t kHotSetHeaderBytes = 8192;
inline constexpr std::uint32_t kHotSetBlockHeadBytes = 32;
inline constexpr std::uint32_t kHotSetEntryBytes = 16;
inline constexpr std::uint32_t kHotSetBlockBytesMin = 4096;
inline constexpr std::uint32_t kHotSetBlockBytesMax = 1 << 20;  ///< The largest read.
inline constexpr std::uint32_t kHotSetSpacesMax = 256;

/// A space as the file knows it: by what it is, not by its index in some store.
struct HotSetSpace {
  std::uint32_t layer_id = 0;
  std::uint32_t order = 0;  ///< n of the n-gram.
  std::uint32_t group_size_bytes = 0;
  std::uint64_t group_count = 0;
};

struct HotSetHeader {
  std::uint32_t block_bytes = 0;  ///< A power of two.
  bool has_bytes = false;         ///< Entries are followed by their groups' bytes.
  std::uint64_t block_count = 0;
  std::uint64_t group_count = 0;
  std::uint64_t save_id = 0;     ///< Another one for each file: blocks of two never mix.
  std::uint64_t table_id = 0;    ///< Of the recipe, the shapes and the files' sizes.
  std::uint64_t content_id = 0;  ///< Of the files' times as well.
  std::uint64_t saved_at_s = 0;  ///< Unix time.
  HeadShard shard;               ///< Whose heads its groups have.
  std::vector<HotSetSpace> spaces;

  /// Where block `index` begins in the file.
  [[nodiscard]] std::uint64_t BlockOffset(std::uint64_t index) const noexcept {
    return kHotSetHeaderBytes + index * block_bytes;
  }
  [[nodiscard]] std::uint64_t file_bytes() const noexcept { return BlockOffset(block_count); }
};

/// Writes the header. REQUIRES: what DecodeHotSetHeader() demands.
///   target  shape [kHotSetHeaderBytes].
void EncodeHotSetHeader(const HotSetHeader& header, std::span<std::byte> target);

/// Reads a header of somebody's file.
///
///   bytes        shape [kHotSetHeaderBytes].
///   source_name  the file, for messages.
///
/// Errors: kInvalidArgument (not a hot set, or of another version), kCorruption (a
/// checksum or a figure that cannot be).
[[nodiscard]] Result<HotSetHeader> DecodeHotSetHeader(std::span<const std::byte> bytes,
                                                      std::string_view source_name);

/// Fills one block.
///
/// Threading: one thread at a time.
class HotSetBlockWriter {
 public:
  /// `block`: shape [header.block_bytes]. Both must outlive the writer.
  HotSetBlockWriter(const HotSetHeader& header, std::span<std::byte> block) noexcept;

  /// Adds a group; false, and nothing done, if the block has no room for it.
  /// REQUIRES: id.space < header.spaces.size(), bytes of that space's size.
  [[nodiscard]] bool Add(const HotGroup& group) noexcept;

  /// Completes the block as number `index` of the file, and begins a new one. After it
  /// `block` is the block to write; the next Add() changes it.
  void Finish(std::uint64_t index) noexcept;

  [[nodiscard]] std::uint32_t group_count() const noexcept { return group_count_; }

 private:
  const HotSetHeader& header_;
  std::span<std::byte> block_;
  std::size_t used_bytes_ = kHotSetBlockHeadBytes;
  std::uint32_t group_count_ = 0;
};

/// Reads block `index` of the file that `header` begins. All of it is checked before
/// anything is given out: `groups` are empty unless the block is whole.
///
///   block   shape [header.block_bytes].
///   groups  replaced. Their space is an index into header.spaces; their bytes lie in
///           `block`, and are empty where the file has none.
///
/// Errors: kCorruption; the message names the block and where it lies.
[[nodiscard]] Status DecodeHotSetBlock(const HotSetHeader& header, std::uint64_t index,
                                       std::span<const std::byte> block,
                                       std::string_view source_name, std::vector<HotGroup>& groups);

/// Puts the right checksum on a header or block: for Encode, and for fuzzers, whose
/// changes would else never get past it.
void SealHotSetHeader(std::span<std::byte> header) noexcept;
void SealHotSetBlock(const HotSetHeader& header, std::uint64_t index,
                     std::span<std::byte> block) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_CACHE_HOT_SET_CODING_H_
