#ifndef TIERCEL_CACHE_SHARED_HEADER_H_
#define TIERCEL_CACHE_SHARED_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "cache/pool_layout.h"
#include "tiercel/recipe.h"
#include "tiercel/status.h"

namespace tiercel {

// What a cache in shared memory says of itself, in its first kSharedHeaderBytes: written
// before anybody else can see it and not changed after that, but for one word in its last
// line (SharedWriterState). Pools follow, each at a multiple of 4096. No system calls here.

/// Of the header, and of all that readers take from memory: PoolLayout, IndexBucket,
/// SlotRecord, SlotVersion and HashGroup(). Whoever changes one of them counts on.
inline constexpr std::uint32_t kSharedVersion = 1;
inline constexpr std::uint32_t kSharedHeaderBytes = 12288;
inline constexpr std::uint32_t kSharedSpacesMax = 256;
inline constexpr std::uint32_t kSharedGroupSizeMax = 1U << 20;

/// A space as the memory knows it: by what it is. Its index is the one that keys are hashed
/// with.
struct SharedSpace {
  std::uint32_t layer_id = 0;
  std::uint32_t order = 0;  ///< n of the n-gram.
  std::uint32_t group_size_bytes = 0;
  std::uint32_t pool = 0;  ///< Into SharedHeader::pools.
};

struct SharedPool {
  std::uint64_t offset_bytes = 0;  ///< From the start of the memory.
  PoolLayout layout;
};

struct SharedHeader {
  std::uint64_t size_bytes = 0;  ///< Of all of the memory.
  std::uint64_t table_id = 0;    ///< Of the recipe, the shapes and the files' sizes.
  std::uint64_t content_id = 0;  ///< Of the files' times as well.
  HeadShard shard;               ///< Whose heads its groups have.
  bool has_updates = false;      ///< Groups have updated rows in them.
  std::vector<SharedPool> pools;
  std::vector<SharedSpace> spaces;
};

/// Writes the header. REQUIRES: what DecodeSharedHeader() demands.
///   target  shape [kSharedHeaderBytes].
void EncodeSharedHeader(const SharedHeader& header, std::span<std::byte> target);

/// Reads the header of somebody's memory. What it returns lies within that memory, and
/// each pool's layout is the one that its number of slots gives.
///
///   bytes              shape [kSharedHeaderBytes]: a copy, which nobody changes.
///   memory_size_bytes  what was mapped.
///   source_name        for messages.
///
/// Errors: kInvalidArgument (not a shared cache, or of another version), kCorruption (a
/// checksum or a figure that cannot be).
[[nodiscard]] Result<SharedHeader> DecodeSharedHeader(std::span<const std::byte> bytes,
                                                      std::uint64_t memory_size_bytes,
                                                      std::string_view source_name);

/// Puts the right checksum on a header: for Encode, and for fuzzers, whose changes would
/// else never get past it.
void SealSharedHeader(std::span<std::byte> header) noexcept;

/// The word that changes: set when the writer closes the cache in an orderly way.
///   memory  the cache's, of kSharedHeaderBytes at least, at a multiple of 64.
void TellWriterClosed(std::span<std::byte> memory) noexcept;
[[nodiscard]] bool IsWriterClosed(std::span<const std::byte> memory) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SHARED_HEADER_H_
