#ifndef TIERCEL_STORE_PACKED_PAGE_H_
#define TIERCEL_STORE_PACKED_PAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "tiercel/checkpoint.h"

namespace tiercel {

// A page of a packed table (docs/format.md): a header that says which page of which file
// this is, a checksum for each row, the rows, zeros.
//
//     0     8           16                16 + 8n        16 + 8n + nR
//     +-----+-----------+-----------------+--------------+-------+
//     | seal| first row | n row checksums | n rows of R B | zeros |
//     +-----+-----------+-----------------+--------------+-------+
//
// A row's checksum has the row id in it, and the seal the file's tag and the first row:
// a row or page that lies where another belongs fails as a damaged one does. A page has
// 4,096 bytes, or as many times that as a larger row needs.

inline constexpr std::uint32_t kPackedPageBytes = 4096;
inline constexpr std::uint32_t kPageHeaderBytes = 16;
inline constexpr std::uint32_t kRowChecksumBytes = 8;

/// The pages that rows of that size get. REQUIRES: 0 < row_size_bytes <= 1 MiB.
[[nodiscard]] RowPages PagesFor(std::uint32_t row_size_bytes, std::uint64_t tag) noexcept;

/// Where a row begins in its page.
[[nodiscard]] constexpr std::uint32_t RowOffsetInPage(const RowPages& pages,
                                                      std::uint32_t row_size_bytes,
                                                      std::uint32_t row_in_page) noexcept {
  return kPageHeaderBytes + pages.rows_per_page * kRowChecksumBytes + row_in_page * row_size_bytes;
}

/// XXH3-64 of the row, with its id as the seed: the same in whatever page it lies.
[[nodiscard]] std::uint64_t RowChecksum(std::uint64_t row,
                                        std::span<const std::byte> row_bytes) noexcept;

/// Makes a page of `row_count` rows, ids from first_row on. Returns the sum of their
/// checksums, modulo 2^64.
///   rows  shape [row_count, row_size_bytes], 0 < row_count <= pages.rows_per_page.
///   page  shape [pages.page_size_bytes]. Overlaps nothing.
std::uint64_t EncodePage(const RowPages& pages, std::uint32_t row_size_bytes,
                         std::uint64_t first_row, std::span<const std::byte> rows,
                         std::span<std::byte> page) noexcept;

/// Whether a page that was read is the one that belongs there, and the row in it whole.
/// Says nothing of the page's other rows.
///   page  shape [pages.page_size_bytes].
[[nodiscard]] bool RowIntact(const RowPages& pages, std::uint32_t row_size_bytes,
                             std::uint64_t first_row, std::uint32_t row_in_page,
                             std::span<const std::byte> page) noexcept;

/// Whether all that is no row is as EncodePage() leaves it: header, the checksums of rows
/// that are not there, zeros. Rows are RowIntact()'s to check.
///   row_count  rows that the page should have.
[[nodiscard]] bool PageFrameIntact(const RowPages& pages, std::uint32_t row_size_bytes,
                                   std::uint64_t first_row, std::uint32_t row_count,
                                   std::span<const std::byte> page) noexcept;

}  // namespace tiercel

#endif  // TIERCEL_STORE_PACKED_PAGE_H_
