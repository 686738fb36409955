#ifndef TIERCEL_TESTS_SUPPORT_FORWARDING_DEVICE_H_
#define TIERCEL_TESTS_SUPPORT_FORWARDING_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "io/device.h"

namespace tiercel::testing {

/// A Device that passes everything on to another one: what devices that change only
/// their queues are made from.
///
/// Threading: as Device.
class ForwardingDevice : public Device {
 public:
  explicit ForwardingDevice(std::unique_ptr<Device> device) : device_(std::move(device)) {}

  [[nodiscard]] Result<std::unique_ptr<ReadQueue>> NewQueue() override {
    return device_->NewQueue();
  }
  [[nodiscard]] DeviceEngine engine() const noexcept override { return device_->engine(); }
  [[nodiscard]] std::string description() const override { return device_->description(); }
  [[nodiscard]] std::uint32_t read_size_bytes_max() const noexcept override {
    return device_->read_size_bytes_max();
  }
  [[nodiscard]] std::uint64_t queue_size_bytes() const noexcept override {
    return device_->queue_size_bytes();
  }
  [[nodiscard]] BlockSpan Blocks(const ReadRequest& request) const noexcept override {
    return device_->Blocks(request);
  }

 protected:
  std::unique_ptr<Device> device_;
};

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_SUPPORT_FORWARDING_DEVICE_H_
