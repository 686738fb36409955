// What checking a read costs: a row of a packed page, and a row in place whose pages a
// sidecar has the sums of. A read from an NVMe disk takes 10,000 to 100,000 ns.

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/prng.h"
#include "store/checksum_sidecar.h"
#include "store/packed_page.h"

namespace tiercel {
namespace {

constexpr std::size_t kPages = 1024;  // 4 MiB: beyond the second-level cache, as reads are.

std::vector<std::byte> RandomBytes(std::size_t size_bytes) {
  std::vector<std::byte> bytes(size_bytes);
  Prng prng(1);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(prng());
  return bytes;
}

/// Checks one row of each page in turn. Argument: bytes of a row.
void PackedRowCheck(benchmark::State& state) {
  const auto row_bytes = static_cast<std::uint32_t>(state.range(0));
  const RowPages pages = PagesFor(row_bytes, 7);
  const std::vector<std::byte> rows =
      RandomBytes(std::size_t{kPages} * pages.rows_per_page * row_bytes);
  std::vector<std::byte> file(kPages * pages.page_size_bytes);
  const std::size_t page_rows_bytes = std::size_t{pages.rows_per_page} * row_bytes;
  for (std::size_t page = 0; page < kPages; ++page) {
    EncodePage(pages, row_bytes, page * pages.rows_per_page,
               std::span(rows).subspan(page * page_rows_bytes, page_rows_bytes),
               std::span(file).subspan(page * pages.page_size_bytes, pages.page_size_bytes));
  }
  std::size_t page = 0;
  for (auto _ : state) {
    const bool intact =
        RowIntact(pages, row_bytes, page * pages.rows_per_page,
                  static_cast<std::uint32_t>(page % pages.rows_per_page),
                  std::span(file).subspan(page * pages.page_size_bytes, pages.page_size_bytes));
    if (!intact) state.SkipWithError("a page does not pass its check");
    page = (page + 1) % kPages;
  }
}
BENCHMARK(PackedRowCheck)->Name("packed_row_check")->Arg(264)->Arg(320)->Arg(160);

/// Makes whole pages. Argument: bytes of a row. Reports bytes of rows.
void PackedPageMake(benchmark::State& state) {
  const auto row_bytes = static_cast<std::uint32_t>(state.range(0));
  const RowPages pages = PagesFor(row_bytes, 7);
  const std::size_t page_rows_bytes = std::size_t{pages.rows_per_page} * row_bytes;
  const std::vector<std::byte> rows = RandomBytes(kPages * page_rows_bytes);
  std::vector<std::byte> page_bytes(pages.page_size_bytes);
  std::size_t page = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        EncodePage(pages, row_bytes, page * pages.rows_per_page,
                   std::span(rows).subspan(page * page_rows_bytes, page_rows_bytes), page_bytes));
    page = (page + 1) % kPages;
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(page_rows_bytes));
}
BENCHMARK(PackedPageMake)->Name("packed_page_make")->Arg(264);

/// Checks the page, or the two, that a row of 256 B in place lies in.
void SidecarRowCheck(benchmark::State& state) {
  const auto page_count = static_cast<std::uint64_t>(state.range(0));
  CheckpointInfo info;
  info.files = {{.path = "none", .size_bytes = kPages * ChecksumSidecar::kPageBytes}};
  LayerTable& layer = info.layers.emplace_back();
  layer.row_count = kPages * 16;
  layer.parts = {{.size_bytes = 256,
                  .extents = {{.row_count = layer.row_count, .tensor = "rows"}},
                  .pages = {}}};
  ChecksumSidecar sums = ChecksumSidecar::ForTables(info);
  const std::vector<std::byte> file = RandomBytes(info.files[0].size_bytes);
  for (std::uint64_t page = 0; page < kPages; ++page) {
    sums.Set(
        0, page,
        std::span(file).subspan(page * ChecksumSidecar::kPageBytes, ChecksumSidecar::kPageBytes));
  }
  std::uint64_t page = 0;
  for (auto _ : state) {
    const std::uint64_t offset = page * ChecksumSidecar::kPageBytes;
    if (!sums.Intact(0, offset,
                     std::span(file).subspan(offset, page_count * ChecksumSidecar::kPageBytes))) {
      state.SkipWithError("a page does not pass its check");
    }
    page = (page + page_count) % kPages;
  }
}
BENCHMARK(SidecarRowCheck)->Name("sidecar_pages_check")->Arg(1)->Arg(2);

}  // namespace
}  // namespace tiercel
