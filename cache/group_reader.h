#ifndef TIERCEL_CACHE_GROUP_READER_H_
#define TIERCEL_CACHE_GROUP_READER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cache/group_cache.h"
#include "cache/group_index.h"
#include "cache/shared_header.h"

namespace tiercel {

/// A slot that held a group when it was found.
struct FoundSlot {
  std::uint32_t slot = GroupIndex::kNoSlot;
  std::uint64_t version = 0;  ///< Of the slot then: odd.
};

/// Finds groups in the memory of a cache that another process writes: takes no lock, writes
/// nothing, waits for nobody. A group that comes or goes meanwhile is a miss, whatever the
/// writer does, and however it ends; a hit's bytes are whole and its own. slot_version.h has
/// the protocol and its proof. Every number that comes out of the memory is checked against
/// the header's, and every search ends after 96 entries.
///
/// Threading: immutable once made; all methods may run concurrently, beside the writer.
class GroupReader {
 public:
  /// `header` is of DecodeSharedHeader(), or made up by the writer's process; `memory` is
  /// what it describes, at a multiple of 4096, and must outlive the reader.
  GroupReader(const SharedHeader& header, std::span<const std::byte> memory);

  /// Copies the groups that are resident to their destinations, each of its space's group
  /// size. On a miss the destination is left alone or, where the group was given up as it
  /// was copied, zeroed.
  ///
  ///   spaces   shape [n]: of each target. REQUIRES: below the header's number of spaces.
  ///   targets  shape [n].
  ///   hits     shape [n]: written in full, 1 where the bytes were copied.
  ///   stores   StoresForOutput() of all that the caller fills, in this call and others.
  ///
  /// Returns the number of hits.
  std::uint32_t Lookup(std::span<const std::uint32_t> spaces, std::span<const GroupTarget> targets,
                       std::span<std::uint8_t> hits,
                       CopyStores stores = CopyStores::kCached) const noexcept;

  /// Where the group is, for somebody who will read it there, then call EndSharedLoads()
  /// (slot_version.h), then ask IsUnchanged().
  [[nodiscard]] FoundSlot Find(std::uint32_t space, std::uint64_t key) const noexcept;

  /// Whether the slot held the group that was found there until now: what was read of it
  /// before the call is then whole, if EndSharedLoads() came between. False for what was not
  /// found.
  [[nodiscard]] bool IsUnchanged(std::uint32_t space, const FoundSlot& found) const noexcept;

 private:
  /// A pool as the memory has it.
  struct Pool {
    const std::byte* groups = nullptr;
    const SlotRecord* records = nullptr;
    const SlotVersion* versions = nullptr;
    GroupIndex index;
    std::uint32_t group_size_bytes = 0;
    std::uint32_t stride_bytes = 0;
    std::uint32_t slot_count = 0;

    [[nodiscard]] const std::byte* group(std::uint32_t slot) const noexcept {
      return groups + std::size_t{slot} * stride_bytes;
    }
    [[nodiscard]] FoundSlot Find(std::uint64_t hash, std::uint32_t space,
                                 std::uint64_t key) const noexcept;
  };

  void AskForSlot(std::uint32_t space, std::uint64_t hash, CopyStores stores) const noexcept;
  [[nodiscard]] bool CopyIfThere(std::uint32_t space, std::uint64_t hash, const GroupTarget& target,
                                 CopyStores stores) const noexcept;

  std::vector<Pool> pools_;
  std::vector<std::uint32_t> pool_of_space_;  ///< Shape [spaces]: into pools_.
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_GROUP_READER_H_
