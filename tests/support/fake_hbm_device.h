#ifndef TIERCEL_TESTS_SUPPORT_FAKE_HBM_DEVICE_H_
#define TIERCEL_TESTS_SUPPORT_FAKE_HBM_DEVICE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "base/prng.h"
#include "cuda/hbm_device.h"

namespace tiercel::testing {

/// The calls of a device that can be told to fail.
enum class FakeCall : std::uint8_t {
  kAllocateDevice,
  kAllocateMapped,
  kCreateStream,
  kCreateEvent,
  kWaitFlag,
  kGather,
  kCopy,
  kRecordEvent,
  kWaitEvent,
  kCount,
};

/// A GPU of host memory, which is as late and as disorderly as streams allow: of the work at
/// the heads of all streams any that can run runs next, a gather in several pieces with
/// others' work in between, its groups in any order. Reads header and places when it runs,
/// as kernels do. Aborts where a place lies outside of what was allocated.
///
/// With threads, several streams run at the same time. Without, work runs in Run() and
/// Synchronize() alone.
///
/// Threading: all methods may run concurrently.
class FakeHbmDevice final : public HbmDevice {
 public:
  FakeHbmDevice(std::uint64_t seed, std::uint32_t thread_count);
  ~FakeHbmDevice() override;

  // ---- the test's side ----

  /// Runs up to `steps` pieces of work. Returns how many.
  std::uint64_t Run(std::uint64_t steps);
  /// Pieces of work that were run, and those that overtook one that was enqueued before.
  [[nodiscard]] std::uint64_t overtaken() const noexcept { return overtaken_; }
  /// The `nth` call from now on (0: the next) fails, once.
  void FailNth(FakeCall call, std::uint64_t nth);
  [[nodiscard]] std::uint64_t calls(FakeCall call) const noexcept {
    return calls_[static_cast<std::size_t>(call)];
  }
  void SetHealth(bool healthy) noexcept { healthy_ = healthy; }
  /// The mirror, as the work that has run left it: slots by space and key.
  [[nodiscard]] std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint32_t> mirror();
  /// A slot of the gathers that were enqueued. REQUIRES: there was one.
  [[nodiscard]] const std::byte* SlotBytes(std::uint32_t slot);
  /// Allocations that were not freed.
  [[nodiscard]] std::size_t allocation_count();
  /// Work that has not run.
  [[nodiscard]] std::size_t pending_count();

  /// What is enqueued on `stream` between the two is kept instead of run.
  void BeginCapture(HbmStream stream);
  struct Graph;
  [[nodiscard]] std::shared_ptr<Graph> EndCapture(HbmStream stream);
  void Launch(const std::shared_ptr<Graph>& graph, HbmStream stream);

  // ---- HbmDevice ----

  Result<std::byte*> AllocateDevice(std::uint64_t size_bytes) override;
  void FreeDevice(std::byte* memory) noexcept override;
  Result<MappedMemory> AllocateMapped(std::uint64_t size_bytes) override;
  void FreeMapped(const MappedMemory& memory) noexcept override;
  Result<HbmStream> CreateStream() override;
  void DestroyStream(HbmStream stream) noexcept override;
  Result<HbmEvent> CreateEvent() override;
  void DestroyEvent(HbmEvent event) noexcept override;
  Status WaitFlag(Mapped<std::uint32_t> flag, HbmStream stream) override;
  Status Gather(std::span<const GatherArguments> layers, HbmStream stream) override;
  Status Copy(std::span<const HbmCopy> copies, std::uint64_t size_bytes, HbmStream stream) override;
  Status ApplyChanges(const MirrorTable& table, const DeviceChange* changes,
                      std::uint32_t change_count, HbmStream stream) override;
  Status RecordEvent(HbmEvent event, HbmStream stream) override;
  Status WaitEvent(HbmEvent event, HbmStream stream) override;
  Result<bool> QueryEvent(HbmEvent event) override;
  Status Health() override;
  Status Synchronize() override;
  std::string description() const override { return "a fake GPU"; }

 private:
  struct Event;
  struct Work;
  struct Stream;

  [[nodiscard]] Status CheckCall(FakeCall call) TIERCEL_REQUIRES(mutex_);
  void Enqueue(HbmStream stream, Work work) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Stream* PickStream() TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] bool RunOne() TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] bool RunPiece(Work& work, std::uint64_t random);
  void GatherGroup(const Work& work, std::uint64_t index);
  void CheckInside(const std::byte* memory, std::uint64_t size_bytes) TIERCEL_EXCLUDES(mutex_);
  void RunThread() TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] std::byte* Allocate(std::uint64_t size_bytes) TIERCEL_REQUIRES(mutex_);
  void Free(std::byte* memory) noexcept TIERCEL_EXCLUDES(mutex_);

  Mutex mutex_;
  CondVar changed_;
  Prng prng_ TIERCEL_GUARDED_BY(mutex_);
  std::map<std::byte*, std::vector<std::byte>> allocations_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Stream>> streams_ TIERCEL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Event>> events_ TIERCEL_GUARDED_BY(mutex_);
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint32_t> mirror_
      TIERCEL_GUARDED_BY(mutex_);
  const std::byte* slots_ TIERCEL_GUARDED_BY(mutex_) = nullptr;
  std::uint32_t slot_size_bytes_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t order_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::array<std::uint64_t, static_cast<std::size_t>(FakeCall::kCount)> fail_in_
      TIERCEL_GUARDED_BY(mutex_){};
  std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(FakeCall::kCount)> calls_{};
  std::atomic<std::uint64_t> overtaken_ = 0;
  std::atomic<bool> healthy_ = true;
  bool stopping_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_SUPPORT_FAKE_HBM_DEVICE_H_
