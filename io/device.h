#ifndef TIERCEL_IO_DEVICE_H_
#define TIERCEL_IO_DEVICE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

/// The largest piece that direct reads are widened to.
inline constexpr std::uint32_t kReadBlockBytesMax = 65536;

/// One read of a file of the device. Any offset, any size up to
/// Device::read_size_bytes_max(): the queue widens it to what O_DIRECT wants.
struct ReadRequest {
  std::uint32_t file_index = 0;
  std::uint32_t size_bytes = 0;
  std::uint64_t offset_bytes = 0;
  std::uint64_t tag = 0;  ///< The caller's; comes back with the completion.
};

/// The whole blocks that hold a request.
struct BlockSpan {
  std::uint64_t offset_bytes = 0;
  std::uint32_t size_bytes = 0;
  std::uint32_t skip_bytes = 0;  ///< Bytes before the request's first.
};

/// What became of one read.
struct ReadCompletion {
  std::uint64_t tag = 0;
  /// 0, or a positive errno (see io/read_errors.h). ENODATA: the file ends before the
  /// read does.
  int os_error = 0;
  /// Shape [size_bytes] of the request; empty if os_error is not 0. The memory is
  /// the queue's own and is given back to it when OnRead() returns.
  std::span<const std::byte> bytes;
  /// All that was read, `bytes` among it: from Device::Blocks()' offset on, and as
  /// long, or shorter where the file ends. Others may be served from it.
  std::span<const std::byte> blocks;
};

/// Receives completions, on the thread that runs ReadQueue::Run().
class ReadSink {
 public:
  virtual ~ReadSink() = default;
  /// May call ReadQueue::Submit() to refill the queue, and Flush(); must not call Run().
  virtual void OnRead(const ReadCompletion& completion) noexcept = 0;
};

/// One thread's queue of reads to a device. The queue owns its buffers, so no
/// completion ever touches a caller's memory: the sink copies what it wants.
///
/// Threading: one thread owns a queue and calls everything but Wake(), which any
/// thread may call. Allocates nothing after it was made.
/// Destroying a queue waits for the reads that are in flight; their completions
/// are dropped.
class ReadQueue {
 public:
  virtual ~ReadQueue() = default;

  /// Most reads that may be in flight. Fixed, or shrinking when the kernel runs
  /// out of room (which description() then says).
  [[nodiscard]] virtual std::uint32_t depth() const noexcept = 0;
  /// Reads that were submitted and whose OnRead() has not been called yet.
  [[nodiscard]] virtual std::uint32_t in_flight() const noexcept = 0;

  /// Takes a read on. The kernel may see it only at the next Run(). A read that
  /// cannot be started (out of range, out of memory) completes with its error.
  /// REQUIRES: in_flight() < depth(), a valid file index, 0 < size_bytes <=
  /// read_size_bytes_max().
  virtual void Submit(const ReadRequest& request) noexcept = 0;

  /// Hands what was submitted to the kernel now, without waiting or reporting: the disk
  /// works while the caller does other things before its next Run().
  virtual void Flush() noexcept = 0;

  /// Hands what was submitted to the kernel and reports completions to `sink`, all
  /// that are there. If none is, waits for one, for Wake() or for `timeout`, whichever
  /// comes first (nothing in flight: for the latter two). May wait a little longer, for
  /// several at once, where that saves more than it costs.
  /// Short reads, EINTR and EAGAIN are dealt with inside; EIO is reported.
  /// Sleeps while it waits: never spins.
  virtual void Run(ReadSink& sink, std::chrono::nanoseconds timeout) noexcept = 0;

  /// Makes a Run() that waits return soon, or the next one not wait. Any thread.
  virtual void Wake() noexcept = 0;
};

/// How reads get to the disk.
enum class DeviceEngine : std::uint8_t { kUring, kPread, kMemory };

/// "io_uring", "pread", "memory".
[[nodiscard]] std::string_view Name(DeviceEngine engine) noexcept;

/// Files that are read at random. What is under it: io_uring, a pool of pread
/// threads, or memory.
///
/// Threading: all methods may run concurrently. Outlives its queues.
class Device {
 public:
  virtual ~Device() = default;

  /// A queue of its own for the calling thread.
  /// Errors: kResourceExhausted (memory, locked memory, threads), kUnavailable
  /// (io_uring is not to be had; the message says why), kIoError.
  [[nodiscard]] virtual Result<std::unique_ptr<ReadQueue>> NewQueue() = 0;

  [[nodiscard]] virtual DeviceEngine engine() const noexcept = 0;
  /// For reports: engine, flags of the ring, O_DIRECT or not, block size.
  [[nodiscard]] virtual std::string description() const = 0;
  /// Largest request that a queue takes.
  [[nodiscard]] virtual std::uint32_t read_size_bytes_max() const noexcept = 0;
  /// Host memory that one queue takes: buffers, ring, thread stacks' touched part.
  [[nodiscard]] virtual std::uint64_t queue_size_bytes() const noexcept = 0;
  /// What the kernel really reads for a request: whole blocks.
  [[nodiscard]] virtual BlockSpan Blocks(const ReadRequest& request) const noexcept = 0;
};

struct DeviceOptions {
  std::uint32_t depth = 128;  ///< Reads in flight in one queue. In [1, 4096].
  /// Largest request. In [1, 1 MiB]. Each of the `depth` buffers holds one,
  /// widened to whole blocks.
  std::uint32_t read_size_bytes_max = 4096;
  /// False: through the page cache. True: O_DIRECT; where a file system has none
  /// (tmpfs), falls back to the page cache and says so in description().
  bool direct = true;
  /// Direct reads are widened to multiples of this: a power of two up to 64 KiB, and
  /// raised to what a file's O_DIRECT demands. 0: the disk's physical block, which is
  /// what it reads in one piece.
  std::uint32_t block_bytes = 0;
  /// io_uring alone: the kernel looks for completions itself instead of taking
  /// interrupts (IORING_SETUP_IOPOLL). For NVMe disks with poll queues (the module
  /// option nvme.poll_queues) and files read with O_DIRECT; the waiting thread burns
  /// its core while reads are in flight, and Wake() is seen at the next completion.
  bool io_poll = false;
  /// io_uring alone: a kernel thread takes submissions (IORING_SETUP_SQPOLL). It
  /// burns a core of its own until it has been idle for 50 ms.
  bool submission_poll = false;
};

/// Opens `paths` for reading through io_uring.
///
/// Errors: kUnavailable (no io_uring: the message names the cause, such as
/// kernel.io_uring_disabled or a seccomp profile, and the way out), kNotFound,
/// kPermissionDenied, kResourceExhausted, kInvalidArgument (an option out of range).
[[nodiscard]] Result<std::unique_ptr<Device>> OpenUringDevice(const std::vector<std::string>& paths,
                                                              const DeviceOptions& options);

/// Opens `paths` for reading through pools of pread threads, one pool a queue, of
/// min(depth, 64) threads. Errors: as above, but never kUnavailable.
[[nodiscard]] Result<std::unique_ptr<Device>> OpenPreadDevice(const std::vector<std::string>& paths,
                                                              const DeviceOptions& options);

/// A device over memory, one "file" for each element. For tests and small tables.
[[nodiscard]] std::unique_ptr<Device> NewMemoryDevice(std::vector<std::vector<std::byte>> files,
                                                      const DeviceOptions& options);

/// Which engine to open.
enum class EngineChoice : std::uint8_t {
  kAuto,   ///< io_uring; pread where it cannot be had.
  kUring,  ///< io_uring or an error.
  kPread,
};

[[nodiscard]] EngineChoice ChoiceOf(Engine engine) noexcept;

struct OpenedDevice {
  std::unique_ptr<Device> device;
  /// Empty, or why kAuto did not get io_uring: for the log and every report.
  std::string fallback_reason;
};

/// Opens `paths` with the engine of choice. Errors: as the engine's own.
[[nodiscard]] Result<OpenedDevice> OpenDevice(EngineChoice choice,
                                              const std::vector<std::string>& paths,
                                              const DeviceOptions& options);

}  // namespace tiercel

#endif  // TIERCEL_IO_DEVICE_H_
