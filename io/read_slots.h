#ifndef TIERCEL_IO_READ_SLOTS_H_
#define TIERCEL_IO_READ_SLOTS_H_

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/check.h"
#include "io/aligned_buffer.h"
#include "io/device.h"

namespace tiercel {

/// The longest that a Run() of a queue waits: so that a deadline cannot overflow.
inline constexpr std::chrono::nanoseconds kRunTimeoutMax = std::chrono::hours(24);

/// What reads of a device's files must keep to. All are powers of two. Buffered
/// files need no alignment: all ones.
struct ReadLimits {
  std::uint32_t block_bytes = 1;             ///< Requests are widened to multiples of this.
  std::uint32_t offset_alignment_bytes = 1;  ///< Divides block_bytes; a rest may start at these.
  std::uint32_t memory_alignment_bytes = 64;
};

/// Widens a request to whole blocks. REQUIRES: its end is at most kReadEndMax.
[[nodiscard]] constexpr BlockSpan Widen(const ReadRequest& request,
                                        std::uint32_t block_bytes) noexcept {
  const std::uint64_t mask = block_bytes - 1;
  const std::uint64_t begin = request.offset_bytes & ~mask;
  const std::uint64_t end = (request.offset_bytes + request.size_bytes + mask) & ~mask;
  return {.offset_bytes = begin,
          .size_bytes = static_cast<std::uint32_t>(end - begin),
          .skip_bytes = static_cast<std::uint32_t>(request.offset_bytes - begin)};
}

/// Largest end of a read that is passed to the kernel: off_t's limit, less room to
/// widen. No file is that large, so a read beyond it is a read past the end.
inline constexpr std::uint64_t kReadEndMax =
    static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) - (1U << 20);

/// Most bytes that Widen() makes of a request of up to `read_size_bytes_max`: its
/// first byte may be the last of a block, so it is widened by up to a block less one
/// byte at the front, and then to a whole block.
[[nodiscard]] constexpr std::uint64_t WidenedSizeBytesMax(std::uint32_t read_size_bytes_max,
                                                          std::uint32_t block_bytes) noexcept {
  const std::uint64_t mask = block_bytes - 1;
  return (read_size_bytes_max + mask + mask) & ~mask;
}

/// What is to be done with a slot after the kernel answered.
enum class SlotStep : std::uint8_t {
  kDone,    ///< Report it: os_error says how it went.
  kAgain,   ///< Read the rest now.
  kNoRoom,  ///< The kernel is out of room: read again, but a little later.
};

/// One read under way: the request, and how much of it has been read.
struct ReadSlot {
  ReadRequest request;
  BlockSpan blocks;
  std::uint32_t done_bytes = 0;  ///< Of `blocks`, from its start. Aligned for the next read.
  std::uint32_t have_bytes = 0;  ///< Of `blocks`: all that came, when os_error is 0.
  std::uint32_t generation = 0;  ///< Counts uses, so that a stale answer is told from a fresh one.
  int os_error = 0;
  std::uint16_t no_room_count = 0;
  bool in_kernel = false;

  /// Takes in the kernel's answer to a read of the rest: a count of bytes, or a
  /// negative errno.
  [[nodiscard]] SlotStep Advance(std::int64_t result,
                                 std::uint32_t offset_alignment_bytes) noexcept;
};

/// Times that a read is tried again for want of room before ENOMEM or EAGAIN is
/// reported. With pauses of 1 ms (see the engines) this is about a second.
inline constexpr std::uint16_t kNoRoomAttemptsMax = 1000;

inline SlotStep ReadSlot::Advance(std::int64_t result,
                                  std::uint32_t offset_alignment_bytes) noexcept {
  if (result == -EINTR) return SlotStep::kAgain;
  if (result == -EAGAIN || result == -ENOMEM || result == -EBUSY) {
    if (++no_room_count <= kNoRoomAttemptsMax) return SlotStep::kNoRoom;
  }
  if (result < 0) {
    os_error = static_cast<int>(-result);
    return SlotStep::kDone;
  }
  const std::uint64_t read_bytes = done_bytes + static_cast<std::uint64_t>(result);
  TIERCEL_CHECK(read_bytes <= blocks.size_bytes);  // More would be past the buffer.
  if (read_bytes >= std::uint64_t{blocks.skip_bytes} + request.size_bytes) {
    // All that was asked for. The blocks themselves may be short at the end of a file
    // whose size is no multiple of the block.
    have_bytes = static_cast<std::uint32_t>(read_bytes);
    os_error = 0;
    return SlotStep::kDone;
  }
  // A rest must start aligned, so an unaligned tail is read again. Only the end of
  // the file leaves less than one alignment unit: then there is no more to come.
  const auto advance_bytes = static_cast<std::uint32_t>(result) & ~(offset_alignment_bytes - 1);
  if (advance_bytes == 0) {
    os_error = ENODATA;
    return SlotStep::kDone;
  }
  done_bytes += advance_bytes;
  return SlotStep::kAgain;
}

/// The slots of a queue and their buffers, one slab.
///
/// One more than the depth: while OnRead() looks at a buffer, it may submit a read
/// that takes the place of the one being reported.
///
/// Threading: one thread takes and gives back. A slot's contents belong to whoever
/// the queue handed it to.
class ReadSlots {
 public:
  /// Errors: kResourceExhausted.
  [[nodiscard]] static Result<ReadSlots> Make(const DeviceOptions& options,
                                              const ReadLimits& limits) {
    const std::uint64_t stride_bytes = StrideBytes(options, limits);
    Result<AlignedBuffer> slab =
        AlignedBuffer::Make(stride_bytes * (options.depth + 1), "the buffers of a read queue");
    if (!slab.ok()) return std::move(slab).TakeStatus();
    return ReadSlots(std::move(slab).value(), stride_bytes, options.depth + 1, limits);
  }

  /// Bytes that Make() takes.
  [[nodiscard]] static std::uint64_t MemoryBytes(const DeviceOptions& options,
                                                 const ReadLimits& limits) noexcept {
    return (StrideBytes(options, limits) + sizeof(ReadSlot) + sizeof(std::uint32_t)) *
           (options.depth + 1);
  }

  [[nodiscard]] std::uint32_t count() const noexcept {
    return static_cast<std::uint32_t>(slots_.size());
  }
  [[nodiscard]] std::uint64_t stride_bytes() const noexcept { return stride_bytes_; }
  [[nodiscard]] AlignedBuffer& slab() noexcept { return slab_; }
  [[nodiscard]] ReadSlot& operator[](std::uint32_t index) noexcept { return slots_[index]; }
  [[nodiscard]] std::byte* Buffer(std::uint32_t index) const noexcept {
    return slab_.data() + index * stride_bytes_;
  }
  [[nodiscard]] const ReadLimits& limits() const noexcept { return limits_; }

  /// A free slot, set up for `request`. A read beyond kReadEndMax comes with
  /// os_error ENODATA: report it, do not start it. REQUIRES: one is free.
  [[nodiscard]] std::uint32_t Take(const ReadRequest& request) noexcept {
    TIERCEL_CHECK(free_count_ > 0);
    const std::uint32_t index = free_[--free_count_];
    ReadSlot& slot = slots_[index];
    slot.request = request;
    slot.done_bytes = 0;
    slot.no_room_count = 0;
    slot.os_error = 0;
    ++slot.generation;
    if (request.offset_bytes > kReadEndMax - request.size_bytes) [[unlikely]] {
      slot.os_error = ENODATA;
    } else {
      slot.blocks = Widen(request, limits_.block_bytes);
    }
    return index;
  }

  void GiveBack(std::uint32_t index) noexcept { free_[free_count_++] = index; }

  /// What OnRead() gets for a slot that is done.
  [[nodiscard]] ReadCompletion Completion(std::uint32_t index) const noexcept {
    const ReadSlot& slot = slots_[index];
    ReadCompletion completion{.tag = slot.request.tag, .os_error = slot.os_error};
    if (slot.os_error == 0) {
      completion.blocks = {Buffer(index), slot.have_bytes};
      completion.bytes = completion.blocks.subspan(slot.blocks.skip_bytes, slot.request.size_bytes);
    }
    return completion;
  }

 private:
  ReadSlots(AlignedBuffer slab, std::uint64_t stride_bytes, std::uint32_t count,
            const ReadLimits& limits)
      : slab_(std::move(slab)),
        stride_bytes_(stride_bytes),
        limits_(limits),
        slots_(count),
        free_(count),
        free_count_(count) {
    for (std::uint32_t i = 0; i < count; ++i) free_[i] = count - 1 - i;
  }

  static std::uint64_t StrideBytes(const DeviceOptions& options,
                                   const ReadLimits& limits) noexcept {
    const std::uint64_t alignment_bytes =
        std::max(limits.memory_alignment_bytes, limits.block_bytes);
    const std::uint64_t size_bytes =
        WidenedSizeBytesMax(options.read_size_bytes_max, limits.block_bytes);
    return (size_bytes + alignment_bytes - 1) & ~(alignment_bytes - 1);
  }

  AlignedBuffer slab_;
  std::uint64_t stride_bytes_;
  ReadLimits limits_;
  std::vector<ReadSlot> slots_;
  std::vector<std::uint32_t> free_;
  std::uint32_t free_count_;
};

}  // namespace tiercel

#endif  // TIERCEL_IO_READ_SLOTS_H_
