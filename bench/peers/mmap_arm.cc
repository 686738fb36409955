// Rows from a mapping of the files, as llama.cpp and most loaders have them: the
// page cache is the cache, a page fault is the read.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/errno_status.h"
#include "bench/peers/row_list.h"
#include "bench/peers/row_pool.h"

namespace tiercel::peers {
namespace {

constexpr std::uintptr_t kPageBytes = 4096;
/// Rows whose pages are asked for before the first of them is touched. The kernel
/// takes 1,024 ranges a call (UIO_MAXIOV).
constexpr std::uint32_t kAdviseRowsMax = 1024;

std::string_view Name(MmapAdvice advice) noexcept {
  switch (advice) {
    case MmapAdvice::kPlain:
      return "no advice: a fault reads ahead";
    case MmapAdvice::kRandom:
      return "MADV_RANDOM";
    case MmapAdvice::kWillNeed:
      return "MADV_RANDOM, MADV_WILLNEED on the rows' pages first";
    case MmapAdvice::kPopulate:
      return "MADV_RANDOM, MADV_POPULATE_READ on the rows' pages first";
  }
  return "";
}

/// A read-only mapping of a whole file.
class Mapping {
 public:
  Mapping(std::byte* data, std::size_t size_bytes) noexcept
      : data_(data), size_bytes_(size_bytes) {}
  Mapping(Mapping&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_bytes_(other.size_bytes_) {}
  Mapping& operator=(Mapping&&) = delete;
  ~Mapping() {
    if (data_ != nullptr) munmap(data_, size_bytes_);
  }
  [[nodiscard]] const std::byte* data() const noexcept { return data_; }

  static Result<Mapping> Make(const TableFile& file, bool random) {
    Result<FileDescriptor> opened = OpenFile(file.path, O_RDONLY);
    if (!opened.ok()) return std::move(opened).TakeStatus();
    void* const data =
        mmap(nullptr, file.size_bytes, PROT_READ, MAP_SHARED, opened.value().get(), 0);
    if (data == MAP_FAILED) return ErrnoStatus(errno, "map " + file.path);
    Mapping mapping(static_cast<std::byte*>(data), file.size_bytes);
    if (random && madvise(data, file.size_bytes, MADV_RANDOM) != 0) {
      return ErrnoStatus(errno, "MADV_RANDOM on " + file.path);
    }
    return mapping;
  }

 private:
  std::byte* data_;
  std::size_t size_bytes_;
};

class MmapArm final : public Arm {
 public:
  MmapArm(const PeerTable& table, MmapAdvice advice, std::uint32_t thread_count,
          std::vector<Mapping> mappings, ScaleTable scales, FileDescriptor self)
      : table_(table),
        advice_(advice),
        pool_(thread_count),
        mappings_(std::move(mappings)),
        scales_(std::move(scales)),
        self_(std::move(self)) {}

  Status Run(const Batch& batch) override {
    ListRows(table_, batch, rows_);
    const auto row_count = static_cast<std::uint32_t>(rows_.size());
    const bool advised = advice_ == MmapAdvice::kWillNeed;
    // An advised piece is as large as the threads' shares allow: the more pages are
    // asked for at once, the more reads are under way together.
    const std::uint32_t piece_rows =
        advised ? std::min((row_count - 1) / pool_.thread_count() + 1, kAdviseRowsMax)
                : pool_.PieceItems(row_count, 64);
    pool_.Run(row_count, piece_rows,
              [this](std::uint32_t, std::uint32_t begin, std::uint32_t end) { Copy(begin, end); });
    if (const int os_error = advice_error_.load(); os_error != 0) {
      return ErrnoStatus(os_error, "madvise of a row's page");
    }
    return {};
  }

  [[nodiscard]] std::string description() const override {
    return fmt::format("mmap, {}{}; {} thread{}; scales {}", Name(advice_),
                       advice_ != MmapAdvice::kWillNeed ? ""
                       : self_.valid()                  ? ", 1,024 ranges a process_madvise()"
                                                        : ", one madvise() a row",
                       pool_.thread_count(), pool_.thread_count() == 1 ? "" : "s",
                       scales_.resident() ? "in DRAM" : "in the mapping");
  }

 private:
  const std::byte* Data(const RowPart& part, RowId row) const noexcept {
    const Place place = table_.Locate(part, row);
    return mappings_[place.file_index].data() + place.offset_bytes;
  }

  /// The whole pages around a row's first part.
  iovec Pages(const WantedRow& row) const noexcept {
    const RowPart& part = table_.parts(row.layer_index)[0];
    const auto begin = reinterpret_cast<std::uintptr_t>(Data(part, row.row));
    const std::uintptr_t first = begin & ~(kPageBytes - 1);
    const std::uintptr_t end = (begin + part.size_bytes + kPageBytes - 1) & ~(kPageBytes - 1);
    return {reinterpret_cast<void*>(first), end - first};
  }

  void Check(int result) noexcept {
    if (result != 0) advice_error_.store(errno);
  }

  /// Asks for the pages of some rows: reads start, nobody waits.
  void WillNeed(std::uint32_t begin, std::uint32_t end) noexcept {
    std::array<iovec, kAdviseRowsMax> ranges;
    std::uint32_t count = 0;
    for (std::uint32_t i = begin; i < end; ++i) {
      const iovec pages = Pages(rows_[i]);
      if (!self_.valid()) {
        Check(madvise(pages.iov_base, pages.iov_len, MADV_WILLNEED));
        continue;
      }
      ranges[count++] = pages;
      if (count < kAdviseRowsMax && i + 1 < end) continue;
      if (syscall(SYS_process_madvise, self_.get(), ranges.data(), count, MADV_WILLNEED, 0) < 0) {
        advice_error_.store(errno);
      }
      count = 0;
    }
  }

  void Copy(std::uint32_t begin, std::uint32_t end) noexcept {
    if (advice_ == MmapAdvice::kWillNeed) WillNeed(begin, end);
    for (std::uint32_t i = begin; i < end; ++i) {
      const WantedRow& row = rows_[i];
      if (advice_ == MmapAdvice::kPopulate) {
        const iovec pages = Pages(row);
        Check(madvise(pages.iov_base, pages.iov_len, MADV_POPULATE_READ));
      }
      std::byte* out = row.out;
      for (const RowPart& part : table_.parts(row.layer_index)) {
        if (out != row.out && scales_.resident()) break;
        std::memcpy(out, Data(part, row.row), part.size_bytes);
        out += part.size_bytes;
      }
      scales_.Copy(row.layer_index, row.row, row.out);
    }
  }

  const PeerTable& table_;
  const MmapAdvice advice_;
  RowPool pool_;
  std::vector<Mapping> mappings_;
  ScaleTable scales_;
  FileDescriptor self_;  ///< A pidfd, where process_madvise() takes it.
  std::vector<WantedRow> rows_;
  std::atomic<int> advice_error_ = 0;
};

/// A descriptor of this process, if process_madvise() works on it.
FileDescriptor AdvisableSelf(const Mapping& mapping) {
  FileDescriptor self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  const iovec none{const_cast<std::byte*>(mapping.data()), 0};
  if (self.valid() && syscall(SYS_process_madvise, self.get(), &none, 1, MADV_WILLNEED, 0) < 0) {
    return {};
  }
  return self;
}

}  // namespace

Result<std::unique_ptr<Arm>> OpenMmapArm(const PeerTable& table, const ArmOptions& options,
                                         MmapAdvice advice, std::uint32_t thread_count) {
  std::vector<Mapping> mappings;
  for (const TableFile& file : table.info().files) {
    Result<Mapping> mapping = Mapping::Make(file, advice != MmapAdvice::kPlain);
    if (!mapping.ok()) return std::move(mapping).TakeStatus();
    mappings.push_back(std::move(mapping).value());
  }
  if (advice == MmapAdvice::kPopulate &&
      madvise(const_cast<std::byte*>(mappings[0].data()), 0, MADV_POPULATE_READ) != 0) {
    return Status(StatusCode::kUnavailable, "this kernel has no MADV_POPULATE_READ (Linux 5.14)");
  }
  Result<ScaleTable> scales = ScaleTable::Load(table, options.resident_scales);
  if (!scales.ok()) return std::move(scales).TakeStatus();
  FileDescriptor self;
  if (advice == MmapAdvice::kWillNeed) self = AdvisableSelf(mappings[0]);
  return std::unique_ptr<Arm>(
      std::make_unique<MmapArm>(table, advice, thread_count, std::move(mappings),
                                std::move(scales).value(), std::move(self)));
}

}  // namespace tiercel::peers
