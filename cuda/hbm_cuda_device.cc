#include "cuda/hbm_cuda_device.h"

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cstring>
#include <utility>
#include <vector>

#include "cuda/cuda_status.h"
#include "cuda/device_hash.h"
#include "cuda/gather.h"

namespace tiercel {
namespace {

using StreamWaitValue = CUresult (*)(CUstream, CUdeviceptr, cuuint32_t, unsigned int);

/// Makes a device current for a scope.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device) noexcept {
    if (cudaGetDevice(&before_) == cudaSuccess && before_ != device) {
      changed_ = cudaSetDevice(device) == cudaSuccess;
    }
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;
  ~CurrentDevice() {
    if (changed_) (void)cudaSetDevice(before_);
  }

 private:
  int before_ = 0;
  bool changed_ = false;
};

/// Lets this thread make calls that a capture of another thread's would forbid: allocations
/// and queries of what is not being captured.
class BesideCapture {
 public:
  BesideCapture() noexcept { (void)cudaThreadExchangeStreamCaptureMode(&mode_); }
  BesideCapture(const BesideCapture&) = delete;
  BesideCapture& operator=(const BesideCapture&) = delete;
  ~BesideCapture() { (void)cudaThreadExchangeStreamCaptureMode(&mode_); }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

cudaStream_t StreamOf(HbmStream stream) noexcept {
  return static_cast<cudaStream_t>(stream.handle);
}
cudaEvent_t EventOf(HbmEvent event) noexcept {
  return static_cast<cudaEvent_t>(event.handle);
}

/// cuStreamWaitValue32, by way of the runtime, so that libcuda is not linked. Null without.
StreamWaitValue FindStreamWaitValue() noexcept {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuStreamWaitValue32", &function,
                                                             12000, cudaEnableDefault, &found);
#else
  const cudaError_t error =
      cudaGetDriverEntryPoint("cuStreamWaitValue32", &function, cudaEnableDefault, &found);
#endif
  if (error != cudaSuccess || found != cudaDriverEntryPointSuccess) return nullptr;
  return reinterpret_cast<StreamWaitValue>(function);
}

class CudaHbmDevice final : public HbmDevice {
 public:
  CudaHbmDevice(int device, const cudaDeviceProp& properties) noexcept
      : device_(device),
        multiprocessor_count_(static_cast<std::uint32_t>(properties.multiProcessorCount)),
        name_(properties.name) {}
  ~CudaHbmDevice() override;

  [[nodiscard]] Status Init(FlagWait flag_wait);

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
  std::string description() const override {
    return fmt::format("{}, {} multiprocessors, waits by {}, in graphs by {}", name_,
                       multiprocessor_count_,
                       wait_value_ != nullptr ? "cuStreamWaitValue32" : "a kernel",
                       wait_value_captures_ ? "cuStreamWaitValue32" : "a kernel");
  }

 private:
  [[nodiscard]] Status WaitValue(const std::uint32_t* flag, cudaStream_t stream) const;
  [[nodiscard]] bool CanCaptureWait(const std::uint32_t* flag) const;

  const int device_;
  const std::uint32_t multiprocessor_count_;
  const std::string name_;
  StreamWaitValue wait_value_ = nullptr;  ///< Null: waits by a kernel.
  bool wait_value_captures_ = false;      ///< Else a kernel takes its place in graphs.
  cudaStream_t probe_stream_ = nullptr;   ///< Of Health() and Init().
};

Status CudaHbmDevice::WaitValue(const std::uint32_t* flag, cudaStream_t stream) const {
  const CUresult result =
      wait_value_(stream, reinterpret_cast<CUdeviceptr>(flag), 1, CU_STREAM_WAIT_VALUE_GEQ);
  if (result == CUDA_SUCCESS) return {};
  return Status(StatusCode::kUnavailable, fmt::format("cuStreamWaitValue32: error {} of the driver",
                                                      static_cast<int>(result)));
}

Status CudaHbmDevice::Init(FlagWait flag_wait) {
  const CurrentDevice current(device_);
  const BesideCapture beside;
  Status status = CudaStatus(cudaStreamCreateWithFlags(&probe_stream_, cudaStreamNonBlocking),
                             "creation of a stream");
  if (!status.ok() || flag_wait == FlagWait::kKernel) return status;
  wait_value_ = FindStreamWaitValue();
  Status possible;
  if (wait_value_ == nullptr) {
    possible = Status(StatusCode::kUnavailable, "the driver has no cuStreamWaitValue32");
  } else {
    // What device and driver can is told by trying, on a flag that is set.
    Result<MappedMemory> word = AllocateMapped(sizeof(std::uint32_t));
    if (!word.ok()) return std::move(word).TakeStatus();
    *reinterpret_cast<std::uint32_t*>(word.value().host) = 1;
    auto* const flag = reinterpret_cast<std::uint32_t*>(word.value().device);
    possible = WaitValue(flag, probe_stream_);
    const cudaError_t ended = cudaStreamSynchronize(probe_stream_);
    wait_value_captures_ = possible.ok() && ended == cudaSuccess && CanCaptureWait(flag);
    FreeMapped(word.value());
    if (ended != cudaSuccess) return CudaStatus(ended, "a first wait on a flag");
  }
  if (possible.ok()) return {};
  wait_value_ = nullptr;
  return flag_wait == FlagWait::kStreamValue ? std::move(possible) : Status();
}

/// Whether a graph can hold such a wait: not every driver captures it.
bool CudaHbmDevice::CanCaptureWait(const std::uint32_t* flag) const {
  if (cudaStreamBeginCapture(probe_stream_, cudaStreamCaptureModeRelaxed) != cudaSuccess) {
    return false;
  }
  const Status waited = WaitValue(flag, probe_stream_);
  cudaGraph_t graph = nullptr;
  bool can = cudaStreamEndCapture(probe_stream_, &graph) == cudaSuccess && waited.ok();
  cudaGraphExec_t executable = nullptr;
  can = can && cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess;
  if (executable != nullptr) (void)cudaGraphExecDestroy(executable);
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  (void)cudaGetLastError();  // A refusal is an answer, and not to be found by the next call.
  return can;
}

CudaHbmDevice::~CudaHbmDevice() {
  const CurrentDevice current(device_);
  if (probe_stream_ != nullptr) (void)cudaStreamDestroy(probe_stream_);
}

Result<std::byte*> CudaHbmDevice::AllocateDevice(std::uint64_t size_bytes) {
  const CurrentDevice current(device_);
  const BesideCapture beside;
  void* memory = nullptr;
  Status status = CudaStatus(cudaMalloc(&memory, size_bytes),
                             fmt::format("allocation of {} B of device memory", size_bytes));
  if (!status.ok()) return status;
  cudaError_t error = cudaMemsetAsync(memory, 0, size_bytes, probe_stream_);
  if (error == cudaSuccess) error = cudaStreamSynchronize(probe_stream_);
  if (error != cudaSuccess) {
    (void)cudaFree(memory);
    return CudaStatus(error, "zeroing of device memory");
  }
  return static_cast<std::byte*>(memory);
}

void CudaHbmDevice::FreeDevice(std::byte* memory) noexcept {
  const CurrentDevice current(device_);
  const BesideCapture beside;
  (void)cudaFree(memory);
}

Result<MappedMemory> CudaHbmDevice::AllocateMapped(std::uint64_t size_bytes) {
  const CurrentDevice current(device_);
  const BesideCapture beside;
  MappedMemory memory{.size_bytes = size_bytes};
  void* host = nullptr;
  Status status =
      CudaStatus(cudaHostAlloc(&host, size_bytes, cudaHostAllocMapped | cudaHostAllocPortable),
                 fmt::format("allocation of {} B of pinned memory", size_bytes));
  if (!status.ok()) return status;
  void* device = nullptr;
  status = CudaStatus(cudaHostGetDevicePointer(&device, host, 0), "mapping of pinned memory");
  if (!status.ok()) {
    (void)cudaFreeHost(host);
    return status;
  }
  std::memset(host, 0, size_bytes);
  memory.host = static_cast<std::byte*>(host);
  memory.device = static_cast<std::byte*>(device);
  return memory;
}

void CudaHbmDevice::FreeMapped(const MappedMemory& memory) noexcept {
  const CurrentDevice current(device_);
  const BesideCapture beside;
  (void)cudaFreeHost(memory.host);
}

Result<HbmStream> CudaHbmDevice::CreateStream() {
  const CurrentDevice current(device_);
  cudaStream_t stream = nullptr;
  Status status =
      CudaStatus(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creation of a stream");
  if (!status.ok()) return status;
  return HbmStream{stream};
}

void CudaHbmDevice::DestroyStream(HbmStream stream) noexcept {
  (void)cudaStreamDestroy(StreamOf(stream));
}

Result<HbmEvent> CudaHbmDevice::CreateEvent() {
  const CurrentDevice current(device_);
  cudaEvent_t event = nullptr;
  Status status =
      CudaStatus(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "creation of an event");
  if (!status.ok()) return status;
  return HbmEvent{event};
}

void CudaHbmDevice::DestroyEvent(HbmEvent event) noexcept {
  (void)cudaEventDestroy(EventOf(event));
}

Status CudaHbmDevice::WaitFlag(Mapped<std::uint32_t> flag, HbmStream stream) {
  const CurrentDevice current(device_);
  bool by_value = wait_value_ != nullptr;
  if (by_value && !wait_value_captures_) {
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    Status status = CudaStatus(cudaStreamIsCapturing(StreamOf(stream), &capture),
                               "look whether a stream is captured");
    if (!status.ok()) return status;
    by_value = capture == cudaStreamCaptureStatusNone;
  }
  if (by_value) return WaitValue(flag.device, StreamOf(stream));
  return CudaStatus(LaunchFlagWait(flag.device, StreamOf(stream)), "launch of a wait on a flag");
}

Status CudaHbmDevice::Gather(std::span<const GatherArguments> layers, HbmStream stream) {
  const CurrentDevice current(device_);
  return CudaStatus(LaunchGather(layers, multiprocessor_count_, StreamOf(stream)),
                    "launch of a gather");
}

Status CudaHbmDevice::Copy(std::span<const HbmCopy> copies, std::uint64_t size_bytes,
                           HbmStream stream) {
  const CurrentDevice current(device_);
  std::vector<const void*> sources;
  std::vector<void*> targets;
  std::vector<std::size_t> sizes;
  for (const HbmCopy& copy : copies) {
    // New slots are lent in rising order: many groups that were missed are one copy.
    if (!sizes.empty() &&
        static_cast<const std::byte*>(sources.back()) + sizes.back() == copy.source &&
        static_cast<std::byte*>(targets.back()) + sizes.back() == copy.target) {
      sizes.back() += size_bytes;
      continue;
    }
    sources.push_back(copy.source);
    targets.push_back(copy.target);
    sizes.push_back(size_bytes);
  }
#if CUDART_VERSION >= 13000
  cudaMemcpyAttributes attributes{};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  std::size_t first = 0;
  return CudaStatus(cudaMemcpyBatchAsync(targets.data(), sources.data(), sizes.data(), sizes.size(),
                                         &attributes, &first, 1, StreamOf(stream)),
                    "copy of groups to their slots");
#else
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    Status status = CudaStatus(
        cudaMemcpyAsync(targets[i], sources[i], sizes[i], cudaMemcpyHostToDevice, StreamOf(stream)),
        "copy of a group to its slot");
    if (!status.ok()) return status;
  }
  return {};
#endif
}

Status CudaHbmDevice::ApplyChanges(const MirrorTable& table, const DeviceChange* changes,
                                   std::uint32_t change_count, HbmStream stream) {
  const CurrentDevice current(device_);
  return CudaStatus(LaunchApplyChanges(TableOf(table), changes, change_count, StreamOf(stream)),
                    "launch of an update of the directory");
}

Status CudaHbmDevice::RecordEvent(HbmEvent event, HbmStream stream) {
  return CudaStatus(cudaEventRecord(EventOf(event), StreamOf(stream)), "record of an event");
}

Status CudaHbmDevice::WaitEvent(HbmEvent event, HbmStream stream) {
  return CudaStatus(cudaStreamWaitEvent(StreamOf(stream), EventOf(event), 0),
                    "wait of a stream for an event");
}

Result<bool> CudaHbmDevice::QueryEvent(HbmEvent event) {
  const BesideCapture beside;
  const cudaError_t error = cudaEventQuery(EventOf(event));
  if (error == cudaSuccess) return true;
  if (error == cudaErrorNotReady) return false;
  return CudaStatus(error, "query of an event");
}

Status CudaHbmDevice::Health() {
  const CurrentDevice current(device_);
  const BesideCapture beside;
  const cudaError_t error = cudaStreamQuery(probe_stream_);
  if (error == cudaErrorNotReady) return {};
  return CudaStatus(error, "earlier work on the device");
}

Status CudaHbmDevice::Synchronize() {
  const CurrentDevice current(device_);
  return CudaStatus(cudaDeviceSynchronize(), "the end of the work on the device");
}

}  // namespace

Result<std::unique_ptr<HbmDevice>> OpenCudaHbmDevice(FlagWait flag_wait) {
  int device = 0;
  Status status = CudaStatus(cudaGetDevice(&device), "look for the current device");
  if (!status.ok()) return status;
  cudaDeviceProp properties{};
  status = CudaStatus(cudaGetDeviceProperties(&properties, device), "look at the device");
  if (!status.ok()) return status;
  if (properties.canMapHostMemory == 0) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("{} cannot read host memory in kernels", properties.name));
  }
  auto made = std::make_unique<CudaHbmDevice>(device, properties);
  status = made->Init(flag_wait);
  if (!status.ok()) return status;
  return std::unique_ptr<HbmDevice>(std::move(made));
}

}  // namespace tiercel
