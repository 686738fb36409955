#ifndef TIERCEL_TESTS_STORE_DRIVER_BATCHES_H_
#define TIERCEL_TESTS_STORE_DRIVER_BATCHES_H_

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "tests/store/updated_rows.h"
#include "tiercel/store.h"

namespace tiercel::testing {

/// Rows that the driver's batches are drawn from, of each layer: [0, so many).
inline constexpr std::uint64_t kDriverRows = 1000;

/// How the driver opens its store.
[[nodiscard]] StoreOptions DriverOptions(const std::string& state_path);

/// Batch `number` > 0: version `number` of rows that follow from it.
[[nodiscard]] UpdateBatch DriverBatch(const Store& store, std::uint64_t number);

/// Whether the store's rows are what the batches 1 to `last` make of them, all and no other.
/// A failure of the test says which row is not.
[[nodiscard]] bool IsStateAfter(const MadeCheckpoint& made, Store& store, std::uint64_t last);

/// A driver that runs (overlay_driver.cc). Killed and reaped by the destructor.
class DriverProcess {
 public:
  DriverProcess(const std::string& mode, const std::string& checkpoint, const std::string& state);
  DriverProcess(const DriverProcess&) = delete;
  DriverProcess& operator=(const DriverProcess&) = delete;
  ~DriverProcess();

  /// Waits for so many bytes of its output. False where it ends before.
  [[nodiscard]] bool Read(void* bytes, std::size_t size_bytes) const;
  void Kill() const;
  /// Ends its input and waits. Returns the exit status, 128 where a signal ended it.
  int Wait();

 private:
  pid_t child_ = -1;
  int input_ = -1;
  int output_ = -1;
};

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_STORE_DRIVER_BATCHES_H_
