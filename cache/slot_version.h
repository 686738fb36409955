#ifndef TIERCEL_CACHE_SLOT_VERSION_H_
#define TIERCEL_CACHE_SLOT_VERSION_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/copy_bytes.h"

// ThreadSanitizer does not model fences: under it each word is ordered by itself instead,
// which other processors than x86 pay for.
#if defined(__SANITIZE_THREAD__)
#define TIERCEL_ORDERS_EACH_WORD 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TIERCEL_ORDERS_EACH_WORD 1
#endif
#endif
#ifndef TIERCEL_ORDERS_EACH_WORD
#define TIERCEL_ORDERS_EACH_WORD 0
#endif

namespace tiercel {

/// How often a slot of shared memory was taken and given up. Odd: it holds the group that
/// its record names, and its bytes do not change. Even: it is free, being written, or was
/// given up, whatever an old link may say. Zeroed memory is a slot that was never used.
///
/// Readers in other processes cannot write, so they have no epoch (reader_epochs.h) to keep
/// a slot's bytes as they are. They look twice instead: a sequence lock for each slot.
///
/// The writer gives up a slot:  V: version + 1 (even), release.   One thread at a time.
///   writes another group:      D: key, space and bytes, each after V (see below),
///   publishes it:              P: version + 1 (odd), release.
/// A reader:                    1: version, acquire: v, which must be odd,
///                              2: key and space, which must be the group's,
///                              3: the bytes,
///                              4: version once more, after 3: it must be v still.
///
/// Proof that what a reader takes is whole, and of the group that it asked for. 1 reads the
/// P that published v (nobody else stores v: versions only grow, and 2^64 do not wrap), so
/// all that was written before it is seen: 2 and 3 see the bytes of that publication or
/// later ones. Let 2 or 3 see a byte of a later D. Its store is ordered after the V that
/// made the version v + 1 or more, and 4 after its load: by release on each store and
/// acquire on each load of the record and, under ThreadSanitizer, of the bytes' words; else by
/// a release fence before the bytes' stores and an acquire fence after their loads. So V
/// happened before 4, and 4 cannot read v: the reader takes nothing.
///
/// The bytes of a hot set may be written in any way: to a slot that was never published, whose
/// version is 0, so that nobody comes to 3.
///
/// What may be torn, then: all that is read between 1 and 4, and the links that led here, which
/// are hints. What is never torn: a version, a key. A reader never waits for a version: another
/// one is a miss. A writer that dies leaves each slot either published, and good for ever, or
/// even, and a miss for ever.
using SlotVersion = std::atomic<std::uint64_t>;
static_assert(sizeof(SlotVersion) == 8 && SlotVersion::is_always_lock_free);

[[nodiscard]] constexpr bool HoldsGroup(std::uint64_t version) noexcept {
  return version % 2 != 0;
}

/// A word of a slot's bytes, whatever they are.
using GroupWord [[gnu::may_alias]] = std::uint64_t;

/// D, of the bytes: into a slot of whole words, by the writer.
///   slot   at a multiple of 16; the word that the group ends in is the slot's.
///   bytes  shape [size_bytes].
inline void StoreSharedGroup(std::byte* slot, const std::byte* bytes,
                             std::uint32_t size_bytes) noexcept {
  constexpr int kOrder = TIERCEL_ORDERS_EACH_WORD ? __ATOMIC_RELEASE : __ATOMIC_RELAXED;
  if constexpr (TIERCEL_ORDERS_EACH_WORD == 0) std::atomic_thread_fence(std::memory_order_release);
  auto* const words = reinterpret_cast<GroupWord*>(slot);
  const std::uint32_t word_count = size_bytes / 8;
  for (std::uint32_t i = 0; i < word_count; ++i) {
    std::uint64_t word;
    std::memcpy(&word, bytes + std::size_t{i} * 8, 8);
    __atomic_store_n(words + i, word, kOrder);
  }
  if (size_bytes % 8 == 0) return;
  std::uint64_t word = 0;
  std::memcpy(&word, bytes + std::size_t{word_count} * 8, size_bytes % 8);
  __atomic_store_n(words + word_count, word, kOrder);
}

/// What keeps 4 after loads that were made in another way than by LoadSharedGroup(): of bytes
/// that somebody read where they lie.
inline void EndSharedLoads() noexcept {
  if constexpr (TIERCEL_ORDERS_EACH_WORD == 0) std::atomic_thread_fence(std::memory_order_acquire);
}

/// 3, and what keeps 4 after it.
///
/// Not by atomic words but under ThreadSanitizer: 8 B at a time are too few to have enough of
/// a group's lines on their way, and a copy took twice as long (cache_bench, shared_hit). It
/// is what the standard's byte-wise atomic memcpy (P1478) is made of: a memcpy that the
/// compiler can neither put off nor look into, and a fence that the processor keeps.
///
///   destination  shape [size_bytes].
///   slot         at a multiple of 16.
inline void LoadSharedGroup(std::byte* destination, const std::byte* slot, std::uint32_t size_bytes,
                            [[maybe_unused]] CopyStores stores) noexcept {
#if TIERCEL_ORDERS_EACH_WORD
  for (std::uint32_t done = 0; done < size_bytes; done += 8) {
    const std::uint64_t word =
        __atomic_load_n(reinterpret_cast<const GroupWord*>(slot + done), __ATOMIC_ACQUIRE);
    std::memcpy(destination + done, &word, size_bytes - done < 8 ? size_bytes - done : 8);
  }
#else
  asm volatile("" : "+r"(slot) : : "memory");  // NOLINT(hicpp-no-assembler)
  CopyBytes(destination, slot, size_bytes, stores);
  asm volatile("" : : "r"(destination) : "memory");  // NOLINT(hicpp-no-assembler)
  EndSharedLoads();
#endif
}

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SLOT_VERSION_H_
