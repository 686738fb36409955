#ifndef TIERCEL_TESTS_SUPPORT_WITNESS_DEVICE_H_
#define TIERCEL_TESTS_SUPPORT_WITNESS_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "io/device.h"
#include "tests/support/forwarding_device.h"

namespace tiercel::testing {

/// The true bytes of a device's files.
using FileBytes = std::vector<std::vector<std::byte>>;

/// Reads files whole. REQUIRES: they are there.
[[nodiscard]] FileBytes ReadFiles(const std::vector<std::string>& paths);

/// What a device told the one above it that was not the truth, by place.
///
/// Threading: all methods may run concurrently.
class WitnessLog {
 public:
  /// `truth` must outlive the log.
  explicit WitnessLog(const FileBytes& truth) : truth_(truth) {}

  /// Notes what came of a read.
  ///   blocks  of the request: where completion.blocks begin.
  void Note(const ReadRequest& request, const BlockSpan& blocks, const ReadCompletion& completion)
      TIERCEL_EXCLUDES(mutex_);

  /// What was told so far about the bytes of a range.
  struct Told {
    bool io_error = false;  ///< A read that overlaps the range failed, but not with ENODATA.
    bool no_data = false;   ///< A read that overlaps the range failed with ENODATA.
    /// Bits of the range that some read gave wrong, counted from the range's first.
    std::vector<std::uint32_t> wrong_bits;
  };
  [[nodiscard]] Told At(std::uint32_t file_index, std::uint64_t offset_bytes,
                        std::uint32_t size_bytes) const TIERCEL_EXCLUDES(mutex_);

  /// Reads that came without an error and with wrong bytes.
  [[nodiscard]] std::uint64_t wrong_reads() const TIERCEL_EXCLUDES(mutex_);

 private:
  struct Failed {
    std::uint32_t size_bytes = 0;  ///< Of the longest read that failed there.
    bool io_error = false;
    bool no_data = false;
  };
  struct File {
    std::map<std::uint64_t, Failed> failed;  ///< By the read's offset.
    std::set<std::uint64_t> wrong_bits;      ///< From the file's first bit.
  };

  const FileBytes& truth_;
  mutable Mutex mutex_;
  std::map<std::uint32_t, File> files_ TIERCEL_GUARDED_BY(mutex_);
  std::uint32_t failed_size_bytes_max_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t wrong_reads_ TIERCEL_GUARDED_BY(mutex_) = 0;
};

/// A Device that passes everything through and notes in a log what came of each read:
/// put on top of a device that lies, it knows what the store was made to believe.
///
/// Threading: as Device.
class WitnessDevice final : public ForwardingDevice {
 public:
  /// `log` must outlive the device.
  WitnessDevice(std::unique_ptr<Device> device, WitnessLog& log)
      : ForwardingDevice(std::move(device)), log_(log) {}

  [[nodiscard]] Result<std::unique_ptr<ReadQueue>> NewQueue() override;

 private:
  WitnessLog& log_;
};

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_SUPPORT_WITNESS_DEVICE_H_
