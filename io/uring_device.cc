#include <fmt/format.h>

#include <bit>
#include <cerrno>
#include <utility>

#include "base/errno_status.h"
#include "io/device.h"
#include "io/file_set.h"
#include "io/uring_queue.h"
#include "io/uring_ring.h"

namespace tiercel {
namespace {

/// Threading: immutable but for notes_, which is atomic.
class UringDevice final : public Device {
 public:
  UringDevice(FileSet files, const DeviceOptions& options, std::uint32_t ring_flags)
      : files_(std::move(files)), options_(options), ring_flags_(ring_flags) {}

  [[nodiscard]] Result<std::unique_ptr<ReadQueue>> NewQueue() override {
    Result<std::unique_ptr<UringQueue>> queue =
        UringQueue::Make(files_, options_, ring_flags_, notes_);
    if (!queue.ok()) return std::move(queue).TakeStatus();
    return std::unique_ptr<ReadQueue>(std::move(queue).value());
  }
  [[nodiscard]] const FileSet& files() const noexcept { return files_; }
  [[nodiscard]] DeviceEngine engine() const noexcept override { return DeviceEngine::kUring; }
  [[nodiscard]] std::string description() const override;
  [[nodiscard]] std::uint32_t read_size_bytes_max() const noexcept override {
    return options_.read_size_bytes_max;
  }
  [[nodiscard]] std::uint64_t queue_size_bytes() const noexcept override {
    const std::uint64_t entries = std::bit_ceil(UringQueue::SubmissionEntries(options_.depth));
    // An SQE, its place in the indirection array, two CQEs.
    const std::uint64_t entry_bytes = sizeof(io_uring_sqe) + 4 + 2 * sizeof(io_uring_cqe);
    return sizeof(UringQueue) + sizeof(UringRing) +
           ReadSlots::MemoryBytes(options_, files_.limits) + entries * entry_bytes +
           2 * sizeof(std::uint32_t) * (options_.depth + 1);
  }
  [[nodiscard]] BlockSpan Blocks(const ReadRequest& request) const noexcept override {
    return Widen(request, files_.limits.block_bytes);
  }

 private:
  const FileSet files_;
  const DeviceOptions options_;
  const std::uint32_t ring_flags_;
  UringNotes notes_;
};

std::string UringDevice::description() const {
  std::string text = "io_uring (";
  if ((ring_flags_ & IORING_SETUP_DEFER_TASKRUN) != 0) {
    text += "SINGLE_ISSUER, DEFER_TASKRUN, ";
  } else if ((ring_flags_ & IORING_SETUP_COOP_TASKRUN) != 0) {
    text += "COOP_TASKRUN, ";
  }
  if ((ring_flags_ & IORING_SETUP_SQPOLL) != 0) text += "SQPOLL, ";
  if ((ring_flags_ & IORING_SETUP_IOPOLL) != 0) text += "IOPOLL, ";
  text += "registered files";
  const bool unregistered = notes_.buffers_unregistered.load(std::memory_order_relaxed);
  text += unregistered ? ", buffers not registered: raise 'ulimit -l')" : " and buffers)";
  text += ", " + files_.Description(options_);
  const std::uint32_t depth_min = notes_.depth_min.load(std::memory_order_relaxed);
  if (depth_min < options_.depth) {
    text += fmt::format(", depth shrank from {} to {}: the kernel ran out of room", options_.depth,
                        depth_min);
  }
  return text;
}

/// Keeps the errno of the last read.
class ProbeSink final : public ReadSink {
 public:
  void OnRead(const ReadCompletion& completion) noexcept override {
    os_error = completion.os_error;
  }
  int os_error = 0;
};

/// Reads a byte of each file: only a read tells whether the disk can be polled.
Status CheckPolledReads(Device& device, const FileSet& files) {
  Result<std::unique_ptr<ReadQueue>> made = device.NewQueue();
  if (!made.ok()) return std::move(made).TakeStatus();
  ReadQueue& queue = *made.value();
  for (std::uint32_t file = 0; file < files.files.size(); ++file) {
    ProbeSink sink;
    queue.Submit({.file_index = file, .size_bytes = 1});
    while (queue.in_flight() > 0) queue.Run(sink, std::chrono::seconds(1));
    if (sink.os_error == EOPNOTSUPP || sink.os_error == EINVAL) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("io_poll: {} cannot be polled for completions ({}): it needs "
                                "O_DIRECT and a disk with poll queues (nvme.poll_queues=N); "
                                "leave io_poll off",
                                files.paths[file], ErrnoName(sink.os_error)),
                    sink.os_error);
    }
  }
  return Status();
}

}  // namespace

Result<std::unique_ptr<Device>> OpenUringDevice(const std::vector<std::string>& paths,
                                                const DeviceOptions& options) {
  Result<FileSet> files = OpenFileSet(paths, options);
  if (!files.ok()) return std::move(files).TakeStatus();
  Result<std::uint32_t> ring_flags = UringRing::BestFlags(options.io_poll, options.submission_poll);
  if (!ring_flags.ok()) return std::move(ring_flags).TakeStatus();
  auto device =
      std::make_unique<UringDevice>(std::move(files).value(), options, ring_flags.value());
  if (options.io_poll) {
    if (Status status = CheckPolledReads(*device, device->files()); !status.ok()) return status;
  }
  return std::unique_ptr<Device>(std::move(device));
}

}  // namespace tiercel
