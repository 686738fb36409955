#ifndef TIERCEL_CACHE_SLAB_H_
#define TIERCEL_CACHE_SLAB_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "tiercel/memory_options.h"
#include "tiercel/status.h"

namespace tiercel {

/// Zeroed anonymous memory of the kernel's, given page by page on first touch, of the
/// pages and on the NUMA nodes that options ask for. Move-only; unmaps in the destructor.
///
/// Threading: none of its own.
class Slab {
 public:
  Slab() noexcept = default;
  /// Reserves `size_bytes`, rounded up to pages, and binds them. Touches nothing.
  /// Errors: kResourceExhausted (the kernel refused the mapping; fewer huge pages are set
  /// aside than kHugetlb needs: both numbers and the sysctl are named), and BindMemory()'s.
  [[nodiscard]] static Result<Slab> Map(std::uint64_t size_bytes,
                                        const MemoryOptions& options = {});
  Slab(Slab&& other) noexcept;
  Slab& operator=(Slab&& other) noexcept;
  ~Slab();

  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
  /// "transparent huge pages advised", and where it lies.
  [[nodiscard]] const std::string& pages() const noexcept { return pages_; }

  /// What Map() makes of `size_bytes`, of any pages but huge ones that are set aside.
  [[nodiscard]] static std::uint64_t RoundUp(std::uint64_t size_bytes) noexcept;
  /// The most that fits `budget_bytes` in whole pages.
  [[nodiscard]] static std::uint64_t RoundDown(std::uint64_t budget_bytes,
                                               CachePages pages) noexcept;

 private:
  [[nodiscard]] static Result<Slab> MapHugetlb(std::uint64_t size_bytes);
  [[nodiscard]] static Result<Slab> MapAligned(std::uint64_t size_bytes);
  void Advise(CachePages pages);

  std::span<std::byte> bytes_;
  std::string pages_;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SLAB_H_
