#ifndef TIERCEL_TESTS_CUDA_OVERLAP_FAKE_ENGINE_H_
#define TIERCEL_TESTS_CUDA_OVERLAP_FAKE_ENGINE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <thread>

#include "base/prng.h"
#include "bench/overlap_digest.h"
#include "bench/overlap_engine.h"
#include "tests/support/fake_hbm_device.h"

namespace tiercel::testing {

/// The model's stream of a fake GPU: no blocks, and layers that sum up their rows. Runs
/// what streams have before it no further than it takes to come to a layer, so that rows that
/// nobody waits for are not there.
class FakeOverlapEngine final : public bench::OverlapEngine {
 public:
  ///   row_bytes  of a token, in one layer.
  FakeOverlapEngine(std::size_t row_bytes, std::uint64_t seed)
      : row_bytes_(row_bytes), prng_(seed) {}

  /// From now on the model runs on `stream` of `device`; null: by itself.
  void Attach(FakeHbmDevice* device, HbmStream stream) {
    device_ = device;
    stream_ = stream;
    if (device != nullptr) event_ = device->CreateEvent().value();
  }

  Status Begin(const bench::OverlapModel& /*model*/, std::uint64_t /*step_count*/,
               bench::OverlapTimes& times) override {
    times_ = &times;
    return {};
  }
  Status Compute(std::uint32_t /*block*/, std::size_t /*token_count*/) override {
    if (device_ != nullptr) device_->Run(prng_.Below(8));
    return {};
  }
  Status BeginWait(std::size_t /*layer*/) override { return {}; }
  Status EndWait(std::size_t /*layer*/) override { return {}; }
  Status Use(const bench::OverlapRows& rows) override {
    if (device_ != nullptr) {
      if (Status status = device_->RecordEvent(event_, stream_); !status.ok()) return status;
      while (!device_->QueryEvent(event_).value()) {
        if (device_->Run(1) == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    }
    std::span<const std::byte> bytes = rows.host;
    if (rows.device != nullptr) bytes = {rows.device, rows.token_count * row_bytes_};
    times_->digests[rows.step] += bench::DigestOf(bytes, rows.layer * bench::kDigestLayerWords);
    return {};
  }

 private:
  FakeHbmDevice* device_ = nullptr;
  HbmStream stream_;
  HbmEvent event_;
  const std::size_t row_bytes_;
  Prng prng_;
  bench::OverlapTimes* times_ = nullptr;
};

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_CUDA_OVERLAP_FAKE_ENGINE_H_
