#include "store/packed_page.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <cstring>

#include "base/byte_order.h"
#include "base/checksum.h"

namespace tiercel {
namespace {

std::uint64_t SealOf(std::uint64_t tag, std::uint64_t first_row) noexcept {
  std::array<std::byte, 8> bytes;
  StoreLittleEndian(bytes.data(), first_row);
  return Checksum64(bytes, tag);
}

bool AllZero(std::span<const std::byte> bytes) noexcept {
  return std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{0}; });
}

bool HeaderIntact(const RowPages& pages, std::uint64_t first_row,
                  std::span<const std::byte> page) noexcept {
  return LoadLittleEndian<std::uint64_t>(page.data()) == SealOf(pages.tag, first_row) &&
         LoadLittleEndian<std::uint64_t>(page.data() + 8) == first_row;
}

}  // namespace

RowPages PagesFor(std::uint32_t row_size_bytes, std::uint64_t tag) noexcept {
  const std::uint32_t with_checksum_bytes = row_size_bytes + kRowChecksumBytes;
  const std::uint32_t one_row_bytes = kPageHeaderBytes + with_checksum_bytes;
  const std::uint32_t page_size_bytes =
      (one_row_bytes + kPackedPageBytes - 1) / kPackedPageBytes * kPackedPageBytes;
  return {.rows_per_page = (page_size_bytes - kPageHeaderBytes) / with_checksum_bytes,
          .page_size_bytes = page_size_bytes,
          .tag = tag};
}

std::uint64_t RowChecksum(std::uint64_t row, std::span<const std::byte> row_bytes) noexcept {
  return Checksum64(row_bytes, row);
}

std::uint64_t EncodePage(const RowPages& pages, std::uint32_t row_size_bytes,
                         std::uint64_t first_row, std::span<const std::byte> rows,
                         std::span<std::byte> page) noexcept {
  const auto row_count = static_cast<std::uint32_t>(rows.size() / row_size_bytes);
  assert(row_count > 0 && row_count <= pages.rows_per_page);
  StoreLittleEndian(page.data(), SealOf(pages.tag, first_row));
  StoreLittleEndian(page.data() + 8, first_row);
  std::uint64_t sum = 0;
  std::byte* checksum = page.data() + kPageHeaderBytes;
  for (std::uint32_t i = 0; i < row_count; ++i, checksum += kRowChecksumBytes) {
    const std::uint64_t value =
        RowChecksum(first_row + i, rows.subspan(std::size_t{i} * row_size_bytes, row_size_bytes));
    StoreLittleEndian(checksum, value);
    sum += value;
  }
  std::byte* const begin = page.data() + RowOffsetInPage(pages, row_size_bytes, 0);
  std::memset(checksum, 0, static_cast<std::size_t>(begin - checksum));
  std::memcpy(begin, rows.data(), rows.size());
  std::byte* const end = begin + rows.size();
  std::memset(end, 0, static_cast<std::size_t>(page.data() + page.size() - end));
  return sum;
}

bool RowIntact(const RowPages& pages, std::uint32_t row_size_bytes, std::uint64_t first_row,
               std::uint32_t row_in_page, std::span<const std::byte> page) noexcept {
  assert(page.size() == pages.page_size_bytes && row_in_page < pages.rows_per_page);
  const std::byte* const checksum =
      page.data() + kPageHeaderBytes + row_in_page * kRowChecksumBytes;
  return HeaderIntact(pages, first_row, page) &&
         LoadLittleEndian<std::uint64_t>(checksum) ==
             RowChecksum(
                 first_row + row_in_page,
                 page.subspan(RowOffsetInPage(pages, row_size_bytes, row_in_page), row_size_bytes));
}

bool PageFrameIntact(const RowPages& pages, std::uint32_t row_size_bytes, std::uint64_t first_row,
                     std::uint32_t row_count, std::span<const std::byte> page) noexcept {
  const std::size_t checksums_end = kPageHeaderBytes + std::size_t{row_count} * kRowChecksumBytes;
  const std::size_t rows_begin = RowOffsetInPage(pages, row_size_bytes, 0);
  const std::size_t rows_end = RowOffsetInPage(pages, row_size_bytes, row_count);
  return HeaderIntact(pages, first_row, page) &&
         AllZero(page.subspan(checksums_end, rows_begin - checksums_end)) &&
         AllZero(page.subspan(rows_end));
}

}  // namespace tiercel
