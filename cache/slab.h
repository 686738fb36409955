#ifndef TIERCEL_CACHE_SLAB_H_
#define TIERCEL_CACHE_SLAB_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "tiercel/status.h"

namespace tiercel {

/// Zeroed anonymous memory of the kernel's, given page by page on first touch: huge
/// pages where the kernel grants them, spread over the NUMA nodes where there are
/// several. Move-only; unmaps in the destructor.
///
/// Threading: none of its own.
class Slab {
 public:
  Slab() noexcept = default;
  /// Reserves `size_bytes`, rounded up to pages. Touches nothing.
  /// Errors: kResourceExhausted (the kernel refused the mapping).
  [[nodiscard]] static Result<Slab> Map(std::uint64_t size_bytes);
  Slab(Slab&& other) noexcept;
  Slab& operator=(Slab&& other) noexcept;
  ~Slab();

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  /// "transparent huge pages advised", and where it lies.
  [[nodiscard]] const std::string& pages() const noexcept { return pages_; }

  /// What Map() makes of `size_bytes`.
  [[nodiscard]] static std::uint64_t RoundUp(std::uint64_t size_bytes) noexcept;

 private:
  void AdviseHugePages();
  void SpreadOverNodes();

  std::span<std::byte> bytes_;
  std::string pages_;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SLAB_H_
