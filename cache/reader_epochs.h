#ifndef TIERCEL_CACHE_READER_EPOCHS_H_
#define TIERCEL_CACHE_READER_EPOCHS_H_

#include <array>
#include <atomic>
#include <cstdint>

namespace tiercel {

/// Epoch-based reclamation: tells a writer when nobody can still be reading what it
/// has unlinked. Readers take no lock, never wait and never retry.
///
/// A reader enters before it follows any link and leaves when it has copied what it
/// found. A writer unlinks, closes the epoch (CloseEpoch() returns its number), and
/// may overwrite what it unlinked once OldestEpoch() is greater than that number.
///
/// A cell holds (epoch << 16) | readers. Only atomic read-modify-writes (RMW) touch
/// a cell, by readers and writers alike. No stand-alone fences, no sequential
/// consistency, hence nothing that ThreadSanitizer does not model.
///
/// Proof that no reader R sees a link that writer W removed before CloseEpoch() = E
/// if W later finds OldestEpoch() > E. W's scan did an RMW on R's cell. RMWs of one
/// cell are totally ordered.
///  (a) R's enter comes after W's scan: it reads W's value or one later in W's
///      release sequence (only RMWs follow), so it synchronises with W's scan. The
///      removal happened before, and by coherence R's loads of the link cannot
///      return the removed value.
///  (b) R left before W's scan: W's RMW reads R's leaving RMW or one after it in its
///      release sequence. All that R read happened before what W overwrites.
///  (c) R is inside during the scan: the cell counts it with an epoch e, and W saw
///      e > E. R, or whoever opened the cell before R joined it, read e from
///      epoch_, that is from CloseEpoch() of E or from an RMW later in its release
///      sequence, with acquire: the removal happened before that. A reader that
///      joins an open cell synchronises with the one that opened it. Again coherence
///      keeps the removed value from R.
/// In all three cases W overwrites nothing that R reads.
///
/// Threading: everything may run concurrently.
class ReaderEpochs {
 public:
  /// More threads than cells may read at a time: they then share cells. A shared
  /// cell keeps the older epoch, which can only delay reuse.
  static constexpr std::uint32_t kCellCount = 64;

  /// Marks the calling thread as a reader; returns the cell to leave. Lock-free; one
  /// RMW on a line that no other thread uses, as long as threads are fewer than cells.
  [[nodiscard]] std::uint32_t Enter() noexcept {
    const std::uint64_t entered = (epoch_.load(std::memory_order_acquire) << kCountBits) | 1;
    const std::uint32_t home = HomeCell();
    for (std::uint32_t i = 0; i < kTries; ++i) {
      std::atomic<std::uint64_t>& cell = cells_[(home + i) % kCellCount].value;
      std::uint64_t seen = cell.load(std::memory_order_relaxed);
      if ((seen & kCountMask) == 0 &&
          cell.compare_exchange_strong(seen, entered, std::memory_order_acq_rel,
                                       std::memory_order_relaxed)) {
        return (home + i) % kCellCount;
      }
    }
    return Join(home, entered);
  }

  /// Undoes Enter(). What was found must not be touched afterwards.
  void Leave(std::uint32_t cell) noexcept {
    cells_[cell].value.fetch_sub(1, std::memory_order_acq_rel);
  }

  /// Ends the current epoch and returns its number. Call after unlinking.
  std::uint64_t CloseEpoch() noexcept { return epoch_.fetch_add(1, std::memory_order_acq_rel); }

  /// The epoch of the reader that entered first among those inside, or the current
  /// epoch if there are none. What was unlinked in an earlier one may be overwritten.
  /// Takes the cells' lines away from their readers: call it once for many slots.
  [[nodiscard]] std::uint64_t OldestEpoch() noexcept {
    std::uint64_t oldest = epoch_.load(std::memory_order_acquire);
    for (Cell& cell : cells_) {
      const std::uint64_t seen = cell.value.fetch_add(0, std::memory_order_acq_rel);
      if ((seen & kCountMask) != 0 && (seen >> kCountBits) < oldest) oldest = seen >> kCountBits;
    }
    return oldest;
  }

  /// The cell that the calling thread tries first: threads take turns.
  [[nodiscard]] static std::uint32_t HomeCell() noexcept {
    thread_local const std::uint32_t home =
        next_home_.fetch_add(1, std::memory_order_relaxed) % kCellCount;
    return home;
  }

 private:
  // 2^16 readers of one cell; 2^48 epochs last 8 years at a million a second.
  static constexpr std::uint32_t kCountBits = 16;
  static constexpr std::uint64_t kCountMask = (std::uint64_t{1} << kCountBits) - 1;
  static constexpr std::uint32_t kTries = 8;

  struct alignas(64) Cell {
    std::atomic<std::uint64_t> value{0};
  };

  std::uint32_t Join(std::uint32_t home, std::uint64_t entered) noexcept {
    std::atomic<std::uint64_t>& cell = cells_[home].value;
    std::uint64_t seen = cell.load(std::memory_order_relaxed);
    for (;;) {  // Lock-free: a failed exchange means that another reader got in or out.
      const std::uint64_t wanted = (seen & kCountMask) == 0 ? entered : seen + 1;
      if (cell.compare_exchange_weak(seen, wanted, std::memory_order_acq_rel,
                                     std::memory_order_relaxed)) {
        return home;
      }
    }
  }

  inline static std::atomic<std::uint32_t> next_home_{0};
  std::array<Cell, kCellCount> cells_;
  alignas(64) std::atomic<std::uint64_t> epoch_{1};
};

/// A reader's stay, for a scope: whatever was found in it keeps its bytes.
class ReaderPin {
 public:
  explicit ReaderPin(ReaderEpochs& epochs) noexcept : epochs_(epochs), cell_(epochs.Enter()) {}
  ~ReaderPin() { epochs_.Leave(cell_); }
  ReaderPin(const ReaderPin&) = delete;
  ReaderPin& operator=(const ReaderPin&) = delete;

  [[nodiscard]] std::uint32_t cell() const noexcept { return cell_; }

 private:
  ReaderEpochs& epochs_;
  std::uint32_t cell_;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_READER_EPOCHS_H_
