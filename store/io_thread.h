#ifndef TIERCEL_STORE_IO_THREAD_H_
#define TIERCEL_STORE_IO_THREAD_H_

#include <sched.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include "base/histogram.h"
#include "base/mutex.h"
#include "cache/group_cache.h"
#include "io/device.h"
#include "store/beat.h"
#include "store/counters.h"
#include "store/fetch_table.h"
#include "store/overlay.h"
#include "store/read_table.h"
#include "store/row_locator.h"
#include "store/space.h"
#include "tiercel/checkpoint.h"
#include "tiercel/hasher.h"
#include "tiercel/memory_options.h"

namespace tiercel {

/// What the I/O threads of a store share. All of it outlives them.
struct IoContext {
  const Layout& layout;
  const Hasher& hasher;
  const RowLocator& locator;
  const Device& device;
  const std::vector<TableFile>& files;  ///< The device's, for messages.
  FetchTable& fetches;
  GroupCache& cache;
  Counters& counters;
  Overlay* overlay = nullptr;  ///< Null: no row was updated.
  std::uint32_t read_attempts_max = 3;
  /// Reads in flight of the background, of one thread, while others are about.
  std::uint32_t background_depth = 1;
  /// Whether a thread may look for fetches instead of sleeping: there is another core.
  bool may_spin = true;
  MemoryOptions memory;  ///< The NUMA node whose cores the threads run on.
  /// Receives one line for the first reads that fail for good.
  std::function<void(std::string_view)> log;
};

/// One thread with one read queue: takes fetches by earliest deadline, keeps the
/// queue full, retries what fails, and delivers finished groups to their waiters
/// and to the cache.
///
/// A group's rows are read into a buffer of the thread's own; when the last read
/// is done the group goes to the cache if it is whole, out of the fetch table, and
/// to every waiter. A row that cannot be read is zero and marked; it keeps the
/// group out of the cache, never the other rows from their waiters.
///
/// Fetches of the background (kBackgroundDeadlineNs) wait until no other is queued. While
/// others come now and then, as those of a decode loop do, no more than background_depth
/// reads of the background are in flight, a quarter of that beside other reads, and none is
/// begun when others are due at their beat: what is urgent meets a queue that is nearly
/// empty. Where nothing else came for a while, the background has the whole depth.
///
/// A thread without reads looks for fetches for a little while before it sleeps, for who
/// just got his rows may ask for more; and it is awake when the next ones are due, where
/// they come at a beat (beat.h). Otherwise it sleeps.
///
/// Groups are read once by the fetch table, rows and blocks by the read table. The
/// queue reads every file of the store, so a group whose rows lie on several disks
/// is put together by one thread; several disks are kept busy by several threads.
///
/// Threading: Wake() may be called by any thread. The destructor stops the thread;
/// reads in flight are waited for and dropped.
class IoThread final : private ReadSink {
 public:
  /// Takes all memory and starts the thread.
  IoThread(const IoContext& context, std::unique_ptr<ReadQueue> queue);
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;
  ~IoThread() override;

  /// Memory of one thread besides its queue.
  ///   part_count_max  most parts of a row: see RowLocator::part_count_max().
  [[nodiscard]] static std::uint64_t MemoryBytes(const Layout& layout, std::uint32_t part_count_max,
                                                 std::uint32_t queue_depth) noexcept;

  /// Has the thread look for new fetches.
  void Wake() noexcept { queue_->Wake(); }

  /// The caller goes on computing on the core that it runs on now: the thread is to wake up
  /// on another one. Schedulers like to wake a thread where its waker runs, and there it
  /// would wait until that one sleeps. Any thread; costs a system call where the thread
  /// slept on that core.
  void KeepOffCallersCore() noexcept;

  /// Adds this thread's reads to `latency_ns`: submission to completion. Any thread.
  void MergeReadLatency(Histogram& latency_ns) const TIERCEL_EXCLUDES(latency_mutex_);

 private:
  /// A fetch that this thread reads.
  struct Group {
    Fetch* fetch = nullptr;
    std::uint32_t next_row = 0;  ///< Rows before it have all their reads submitted.
    std::uint32_t next_part = 0;
    std::uint32_t pieces_pending = 0;  ///< Being read.
    std::uint32_t failed_rows = 0;
    bool background = false;
  };

  void Loop() noexcept;
  void WaitIdle() noexcept;
  void SleepUntil(std::uint64_t until_ns) noexcept;
  void LookForFetches(FetchTable::Front than, std::uint64_t until_ns) const noexcept;
  [[nodiscard]] bool OthersAreDue(std::uint64_t now_ns) const noexcept;
  void Refill() noexcept;
  bool BeginGroup() noexcept;
  [[nodiscard]] bool BackgroundMayRead() const noexcept;
  void SubmitReads(std::uint32_t group_index) noexcept;
  void SubmitRead(std::uint32_t read_index) noexcept;
  void OnRead(const ReadCompletion& completion) noexcept override;
  void TakePiece(const RowPiece& piece, std::span<const std::byte> read,
                 std::uint32_t attempts) noexcept;
  void FailRow(const RowPiece& piece, std::uint32_t attempts, int os_error) noexcept;
  void FinishIfDone(std::uint32_t group_index) noexcept;
  void DeliverFinished() noexcept;
  void Deliver(std::uint32_t group_index) noexcept;

  [[nodiscard]] bool AllSubmitted(const Group& group) const noexcept;
  [[nodiscard]] std::span<std::byte> BytesOf(std::uint32_t group_index) noexcept;
  [[nodiscard]] std::span<RowId> RowsOf(std::uint32_t group_index) noexcept;
  [[nodiscard]] std::span<RowStatus> StatusesOf(std::uint32_t group_index) noexcept;

  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  const IoContext& context_;
  std::unique_ptr<ReadQueue> queue_;
  std::vector<Group> groups_;
  std::vector<std::uint32_t> free_groups_;
  std::vector<std::uint32_t> finished_;  ///< Groups that are read and not delivered.
  ReadTable reads_;
  std::vector<std::uint32_t> retries_;       ///< Reads to submit again when there is room.
  std::vector<std::byte> bytes_;             ///< Shape [groups, space_size_bytes_max].
  std::vector<RowId> rows_;                  ///< Shape [groups, head_count].
  std::vector<RowStatus> statuses_;          ///< Shape [groups, head_count].
  std::uint32_t current_group_ = kNone;      ///< The group whose reads are being submitted.
  std::uint32_t background_reads_ = 0;       ///< In flight, or to be tried again.
  std::uint32_t urgent_reads_ = 0;           ///< All others.
  std::uint64_t background_latency_ns_ = 0;  ///< Of a read; a moving mean.
  Beat beat_;
  std::uint64_t delivered_ns_ = 0;     ///< When groups were delivered last.
  std::uint64_t urgent_taken_ns_ = 0;  ///< When a group of no background was begun last.
  bool failure_logged_ = false;
  mutable Mutex latency_mutex_;
  Histogram read_latency_ns_ TIERCEL_GUARDED_BY(latency_mutex_);
  std::atomic<bool> stop_ = false;
  std::atomic<int> slept_on_ = -1;  ///< The core on which the thread fell asleep last.
  cpu_set_t cores_{};               ///< That it may run on. Set before slept_on_ is.
  std::thread thread_;              // Last: starts when all else is there.
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_IO_THREAD_H_
