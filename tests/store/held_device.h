#ifndef TIERCEL_TESTS_STORE_HELD_DEVICE_H_
#define TIERCEL_TESTS_STORE_HELD_DEVICE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "io/device.h"
#include "tests/support/forwarding_device.h"

namespace tiercel::testing {

/// What a test sees of a HeldDevice and tells it. Outlives the device.
struct Hold {
  std::atomic<std::uint64_t> in_flight{0};  ///< Submitted and not reported, of all queues.
  /// Once true, a queue reports what it held from its next Wake() on.
  std::atomic<bool> closing{false};
};

/// A Device whose reads all stay in flight until `closing` is set and their queue is
/// woken, as it is by the destructor of the thread that owns it. So what a store has in
/// flight when it is destroyed is not a matter of chance.
///
/// Threading: as Device.
class HeldDevice final : public ForwardingDevice {
 public:
  HeldDevice(std::unique_ptr<Device> device, Hold& hold)
      : ForwardingDevice(std::move(device)), hold_(hold) {}

  [[nodiscard]] Result<std::unique_ptr<ReadQueue>> NewQueue() override;

 private:
  Hold& hold_;
};

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_STORE_HELD_DEVICE_H_
