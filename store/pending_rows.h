#ifndef TIERCEL_STORE_PENDING_ROWS_H_
#define TIERCEL_STORE_PENDING_ROWS_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "store/overlaid_rows.h"
#include "store/space.h"
#include "tiercel/hasher.h"
#include "tiercel/overlay.h"
#include "tiercel/recipe.h"

namespace tiercel {

/// The rows that an update is about to show: tells of a group whether it has one, for those
/// who sweep caches.
///
/// Exact, since the marks of OverlaidRows decide. Before these are asked, a group is told apart
/// by its space, if no row is in the columns of it, and each row of it in two cycles, by a
/// set in one block of 8 KiB that stays in the first-level cache.
///
/// Threading: one writer at a time, who marks a row before it is added. Questions may be asked
/// beside Add(), not beside Clear().
class PendingRows final : public ChangingRows {
 public:
  /// All of it outlives this.
  PendingRows(const Layout& layout, const Recipe& recipe, const Hasher& hasher,
              const OverlaidRows& marks) noexcept
      : layout_(layout), recipe_(recipe), hasher_(hasher), marks_(marks) {}

  void Add(OverlaidKey key) noexcept;
  void Clear() noexcept;

  [[nodiscard]] bool IsIn(std::uint32_t space_index, std::uint64_t group_key) const noexcept;
  [[nodiscard]] bool HasRowOf(std::uint32_t layer_id, std::uint32_t order_index,
                              std::uint64_t group_key) const noexcept override;

 private:
  static constexpr std::uint64_t kBits = 65536;
  static std::uint64_t Bit(OverlaidKey key) noexcept {
    return (key * 0x9E3779B97F4A7C15U >> 32) % kBits;
  }
  [[nodiscard]] bool MayHave(OverlaidKey key) const noexcept {
    return (bits_[Bit(key) / 64].load(std::memory_order_relaxed) >> Bit(key) % 64 & 1) != 0;
  }

  const Layout& layout_;
  const Recipe& recipe_;
  const Hasher& hasher_;
  const OverlaidRows& marks_;
  std::array<std::atomic<bool>, 256> touched_{};  ///< By space: the cache knows no more.
  std::array<std::atomic<std::uint64_t>, kBits / 64> bits_{};
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_PENDING_ROWS_H_
