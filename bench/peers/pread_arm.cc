// A pool of threads that pread() with O_DIRECT, below a direct-mapped row cache: what
// a good engineer writes in a day (and llama.cpp forks have written).

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/errno_status.h"
#include "base/histogram.h"
#include "bench/peers/row_cache.h"
#include "bench/peers/row_list.h"
#include "bench/peers/row_pool.h"

namespace tiercel::peers {
namespace {

using Clock = std::chrono::steady_clock;

class PreadArm final : public Arm {
 public:
  PreadArm(const PeerTable& table, std::uint32_t thread_count, std::vector<FileDescriptor> files,
           ScaleTable scales, std::unique_ptr<RowCache> cache, AlignedBuffer buffers)
      : table_(table),
        pool_(thread_count),
        files_(std::move(files)),
        scales_(std::move(scales)),
        cache_(std::move(cache)),
        buffers_(std::move(buffers)),
        latency_ns_(thread_count) {}

  /// Bytes of one thread's buffer: a part and the blocks around it.
  static std::size_t BufferBytes(const PeerTable& table) {
    std::size_t part_bytes = 0;
    for (std::uint32_t i = 0; i < table.info().layers.size(); ++i) {
      for (const RowPart& part : table.parts(i)) {
        part_bytes = std::max<std::size_t>(part_bytes, part.size_bytes);
      }
    }
    const std::size_t block = table.block_bytes();
    return (part_bytes + 2 * block - 1) / block * block;
  }

  Status Run(const Batch& batch) override {
    ListRows(table_, batch, rows_);
    const auto row_count = static_cast<std::uint32_t>(rows_.size());
    missing_.assign(row_count, 0);
    // Threads read the cache and nobody writes to it: no locks.
    pool_.Run(row_count, pool_.PieceItems(row_count, 256),
              [this](std::uint32_t, std::uint32_t begin, std::uint32_t end) {
                for (std::uint32_t i = begin; i < end; ++i) Look(i);
              });
    Deduplicate(row_count);
    const auto read_count = static_cast<std::uint32_t>(reads_.size());
    pool_.Run(read_count, pool_.PieceItems(read_count, 8),
              [this](std::uint32_t thread, std::uint32_t begin, std::uint32_t end) {
                for (std::uint32_t i = begin; i < end; ++i) Read(thread, rows_[reads_[i]]);
              });
    for (const auto& [to, from] : repeats_) {
      std::memcpy(rows_[to].out, rows_[from].out, table_.row_size_bytes(rows_[to].layer_index));
    }
    if (const int os_error = read_error_.load(); os_error != 0) {
      return ErrnoStatus(os_error, "pread of a row");
    }
    return {};
  }

  bool TakeReadLatency(std::uint64_t& p50_ns, std::uint64_t& p99_ns) override {
    Histogram all;
    for (Histogram& histogram : latency_ns_) {
      all.Merge(histogram);
      histogram = {};
    }
    p50_ns = all.Percentile(0.5);
    p99_ns = all.Percentile(0.99);
    return all.count() > 0;
  }

  [[nodiscard]] std::string description() const override {
    return fmt::format(
        "O_DIRECT pread of {} B blocks, {} threads; direct-mapped cache of {} rows; repeats in a "
        "batch read once; scales {}",
        table_.block_bytes(), pool_.thread_count(), cache_->slot_count(),
        scales_.resident() ? "in DRAM" : "on disk");
  }

 private:
  void Look(std::uint32_t i) noexcept {
    const WantedRow& row = rows_[i];
    if (!cache_->Get(row.key(), row.out)) {
      missing_[i] = 1;
    } else {
      scales_.Copy(row.layer_index, row.row, row.out);
    }
  }

  /// Splits what is missing into rows to read and repeats of them.
  void Deduplicate(std::uint32_t row_count) {
    reads_.clear();
    repeats_.clear();
    const std::size_t slot_count = std::bit_ceil(std::size_t{row_count} * 2);
    first_.assign(slot_count, UINT32_MAX);
    for (std::uint32_t i = 0; i < row_count; ++i) {
      if (missing_[i] == 0) continue;
      std::size_t at = SplitMix64(rows_[i].key()) & (slot_count - 1);
      while (first_[at] != UINT32_MAX && rows_[first_[at]].key() != rows_[i].key()) {
        at = (at + 1) & (slot_count - 1);
      }
      if (first_[at] == UINT32_MAX) {
        first_[at] = i;
        reads_.push_back(i);
      } else {
        repeats_.emplace_back(i, first_[at]);
      }
    }
  }

  void Read(std::uint32_t thread, const WantedRow& row) noexcept {
    std::byte* out = row.out;
    for (const RowPart& part : table_.parts(row.layer_index)) {
      if (out != row.out && scales_.resident()) break;
      ReadPart(thread, part, row.row, out);
      out += part.size_bytes;
    }
    cache_->Put(row.key(), row.out);
    scales_.Copy(row.layer_index, row.row, row.out);
  }

  void ReadPart(std::uint32_t thread, const RowPart& part, RowId row, std::byte* out) noexcept {
    const std::uint64_t block = table_.block_bytes();
    const Place place = table_.Locate(part, row);
    const std::uint64_t first = place.offset_bytes / block * block;
    const std::uint64_t in_buffer = place.offset_bytes - first;
    const std::uint64_t size_bytes = (in_buffer + part.size_bytes + block - 1) / block * block;
    std::byte* const buffer = buffers_.data() + thread * BufferBytes(table_);
    const Clock::time_point begin = Clock::now();
    ssize_t got = 0;
    do {
      got = pread(files_[place.file_index].get(), buffer, size_bytes, static_cast<off_t>(first));
    } while (got < 0 && errno == EINTR);
    latency_ns_[thread].Add(static_cast<std::uint64_t>((Clock::now() - begin).count()));
    // The last block of a file may be cut short; the row's own bytes may not.
    if (got < 0 || static_cast<std::uint64_t>(got) < in_buffer + part.size_bytes) {
      read_error_.store(got < 0 ? errno : ENODATA);
      return;
    }
    std::memcpy(out, buffer + in_buffer, part.size_bytes);
  }

  const PeerTable& table_;
  RowPool pool_;
  std::vector<FileDescriptor> files_;
  ScaleTable scales_;
  std::unique_ptr<RowCache> cache_;
  AlignedBuffer buffers_;
  std::vector<Histogram> latency_ns_;  ///< One a thread.
  std::vector<WantedRow> rows_;
  std::vector<std::uint8_t> missing_;
  std::vector<std::uint32_t> first_;
  std::vector<std::uint32_t> reads_;
  std::vector<std::pair<std::uint32_t, std::uint32_t>> repeats_;
  std::atomic<int> read_error_ = 0;
};

}  // namespace

Result<std::unique_ptr<Arm>> OpenPreadArm(const PeerTable& table, const ArmOptions& options,
                                          std::uint32_t thread_count) {
  std::vector<FileDescriptor> files;
  for (const TableFile& file : table.info().files) {
    Result<FileDescriptor> opened = OpenFile(file.path, O_RDONLY | O_DIRECT);
    if (!opened.ok()) {
      return Status(StatusCode::kUnavailable,
                    fmt::format("no O_DIRECT here: {}", opened.status().message()));
    }
    files.push_back(std::move(opened).value());
  }
  Result<ScaleTable> scales = ScaleTable::Load(table, options.resident_scales);
  if (!scales.ok()) return std::move(scales).TakeStatus();
  const std::size_t buffer_bytes = PreadArm::BufferBytes(table) * thread_count;
  Result<AlignedBuffer> buffers = AlignedBuffer::Make(buffer_bytes, "read buffers");
  if (!buffers.ok()) return std::move(buffers).TakeStatus();
  const std::uint64_t used_bytes = scales.value().size_bytes() + buffer_bytes;
  const std::uint64_t cache_bytes =
      options.dram_budget_bytes > used_bytes ? options.dram_budget_bytes - used_bytes : 0;
  // What a slot holds: the weights, or the whole row where the scales are read, too.
  const std::uint32_t value_bytes =
      scales.value().resident() ? table.parts(0)[0].size_bytes : table.row_size_bytes(0);
  Result<std::unique_ptr<RowCache>> cache = RowCache::Make(cache_bytes, value_bytes);
  if (!cache.ok()) return std::move(cache).TakeStatus();
  return std::unique_ptr<Arm>(
      std::make_unique<PreadArm>(table, thread_count, std::move(files), std::move(scales).value(),
                                 std::move(cache).value(), std::move(buffers).value()));
}

}  // namespace tiercel::peers
