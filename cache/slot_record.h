#ifndef TIERCEL_CACHE_SLOT_RECORD_H_
#define TIERCEL_CACHE_SLOT_RECORD_H_

#include <atomic>
#include <cstdint>

namespace tiercel {

/// What the cache knows about one slot besides its bytes. One line holds four.
///
/// Threading: key, space, history and sampled are written while no reader can reach the
/// slot. last_use and uses are anyone's. `linked` belongs to the writer.
struct SlotRecord {
  static constexpr std::uint8_t kUsesMax = 7;

  std::uint64_t key;                    ///< Group key.
  std::atomic<std::uint16_t> last_use;  ///< Tick of the policy's clock.
  std::atomic<std::uint8_t> uses;       ///< Hits since it came; saturates.
  std::uint8_t space;                   ///< Space of the key.
  std::uint8_t history;                 ///< What the ghost table knew of it when it came.
  std::uint8_t sampled;                 ///< 1: its hits and its end are counted.
  std::uint8_t linked;                  ///< 1: the index leads to it.
  std::uint8_t spare;
};
static_assert(sizeof(SlotRecord) == 16);

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SLOT_RECORD_H_
