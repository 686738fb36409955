// Pages of packed tables and checksum sidecars that somebody else wrote: no read beyond
// them, and nothing that was not written is called intact.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/checksum.h"
#include "store/checksum_sidecar.h"
#include "store/packed_page.h"

namespace {

using tiercel::CheckpointInfo;
using tiercel::ChecksumSidecar;
using tiercel::RowPages;

/// The first bytes choose a row size; the rest is a page.
void CheckPage(std::span<const std::byte> bytes) {
  std::uint32_t row_bytes = 0;
  std::memcpy(&row_bytes, bytes.data(), std::min<std::size_t>(2, bytes.size()));
  row_bytes = row_bytes % 9000 + 1;
  const RowPages pages = tiercel::PagesFor(row_bytes, 77);
  std::vector<std::byte> page(pages.page_size_bytes);
  std::copy_n(bytes.begin(), std::min(bytes.size(), page.size()), page.begin());
  bool all = true;
  for (std::uint32_t row = 0; row < pages.rows_per_page; ++row) {
    all = tiercel::RowIntact(pages, row_bytes, 1000, row, page) && all;
  }
  const bool frame = tiercel::PageFrameIntact(pages, row_bytes, 1000, pages.rows_per_page, page);
  if (!all || !frame) return;
  // A page that passes whole is the one page that these rows make.
  std::vector<std::byte> made(page.size());
  const std::span<const std::byte> rows = std::span<const std::byte>(page).subspan(
      tiercel::RowOffsetInPage(pages, row_bytes, 0), std::size_t{pages.rows_per_page} * row_bytes);
  tiercel::EncodePage(pages, row_bytes, 1000, rows, made);
  TIERCEL_CHECK(made == page);
}

/// A checkpoint of two small files, of which no byte is ever read.
CheckpointInfo SmallTables() {
  CheckpointInfo info;
  info.path = "fuzz";
  info.files = {{.path = "fuzz/a.safetensors", .size_bytes = 50'000},
                {.path = "fuzz/b.safetensors", .size_bytes = 9'999}};
  tiercel::LayerTable& layer = info.layers.emplace_back();
  layer.row_count = 120;
  layer.parts = {
      {.size_bytes = 256,
       .extents = {{.file_index = 0, .offset_bytes = 777, .row_count = 120, .tensor = "a"}},
       .pages = {}},
      {.size_bytes = 8,
       .extents = {{.file_index = 1, .offset_bytes = 13, .row_count = 120, .tensor = "b"}},
       .pages = {}}};
  return info;
}

void CheckSidecar(std::span<const std::byte> bytes) {
  static const CheckpointInfo kTables = SmallTables();
  const auto decode = [](std::span<const std::byte> file) {
    return ChecksumSidecar::Decode(file, "fuzz.checksums", kTables, 5);
  };
  if (const auto sums = decode(bytes); sums.ok()) {
    const std::string again = sums.value().Encode(kTables, 5);
    TIERCEL_CHECK(again.size() == bytes.size() &&
                  std::memcmp(again.data(), bytes.data(), bytes.size()) == 0);
  } else {
    TIERCEL_CHECK(sums.status().message().find("fuzz.checksums") != std::string_view::npos);
  }
  // With the checksums put right.
  if (bytes.size() < 56) return;
  std::vector<std::byte> sealed(bytes.begin(), bytes.end());
  std::uint64_t directory_bytes = 0;
  std::memcpy(&directory_bytes, sealed.data() + 16, 8);
  const std::size_t size = std::min<std::uint64_t>(directory_bytes, sealed.size() - 56);
  const std::uint64_t of_directory =
      tiercel::Checksum64(std::span<const std::byte>(sealed).subspan(56, size));
  const std::uint64_t of_sums =
      tiercel::Checksum64(std::span<const std::byte>(sealed).subspan(56 + size));
  std::memcpy(sealed.data() + 32, &of_directory, 8);
  std::memcpy(sealed.data() + 40, &of_sums, 8);
  const std::uint64_t of_header = tiercel::Checksum64(std::span<const std::byte>(sealed).first(48));
  std::memcpy(sealed.data() + 48, &of_header, 8);
  (void)decode(sealed);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  CheckPage(bytes);
  CheckSidecar(bytes);
  return 0;
}
