#ifndef TIERCEL_TESTS_SUPPORT_FAULT_DEVICE_H_
#define TIERCEL_TESTS_SUPPORT_FAULT_DEVICE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "io/device.h"
#include "tests/support/forwarding_device.h"

namespace tiercel::testing {

/// Which faults, and how often. Probabilities are per read, in [0, 1].
struct FaultOptions {
  std::uint64_t seed = 1;
  double io_error = 0;  ///< The read fails with EIO, once.
  double no_data = 0;   ///< The read fails with ENODATA, once.
  double bit_flip = 0;  ///< One bit of the bytes is wrong; the read succeeds.
  double delay = 0;     ///< The completion is held back for 1 to `delay_runs_max` passes.
  std::uint32_t delay_runs_max = 8;
  bool reorder = false;  ///< Completions of one Run() come in random order.
  /// Any read whose blocks touch one of these fails with EIO, always.
  struct BadRange {
    std::uint32_t file_index = 0;
    std::uint64_t offset_bytes = 0;
    std::uint64_t size_bytes = 0;
  };
  std::vector<BadRange> bad_ranges;
};

/// Faults that happened, so that a test can assert that they did.
struct FaultCounts {
  std::uint64_t reads = 0;
  std::uint64_t io_errors = 0;
  std::uint64_t no_data = 0;
  std::uint64_t bit_flips = 0;
  std::uint64_t delays = 0;
  std::uint64_t reorders = 0;  ///< Completions that overtook one that came before.
  std::uint64_t bad_range_errors = 0;
};

/// A Device over another one that fails as told, by seed. Its n-th queue draws from
/// a stream of (seed, n), so one thread's faults do not depend on another's timing.
/// Which read gets which fault depends on the order of Submit() alone.
///
/// Threading: as Device; set_enabled() and counts() at any time, from any thread.
class FaultDevice final : public ForwardingDevice {
 public:
  FaultDevice(std::unique_ptr<Device> device, FaultOptions options);
  ~FaultDevice() override;

  /// False: reads that are submitted from now on get no fault. True at first.
  void set_enabled(bool enabled) noexcept;
  [[nodiscard]] FaultCounts counts() const { return counter()(); }
  /// Tells the same when the device is gone.
  [[nodiscard]] std::function<FaultCounts()> counter() const;

  [[nodiscard]] Result<std::unique_ptr<ReadQueue>> NewQueue() override;
  [[nodiscard]] std::string description() const override;

  /// State that the queues share.
  struct Shared;

 private:
  std::shared_ptr<Shared> shared_;
};

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_SUPPORT_FAULT_DEVICE_H_
