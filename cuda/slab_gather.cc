#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <utility>

#include "cuda/cuda_status.h"
#include "cuda/gather.h"
#include "tiercel/cuda.h"

namespace tiercel {

Status GatherFromSlabAsync(const SlabGather& gather, cudaStream_t stream) {
  if (gather.group_count == 0) return {};
  const bool block32 = gather.shape.format == RowFormat::kE4M3Block32;
  if (gather.shape.value_count == 0 || gather.rows_per_group == 0 ||
      (block32 && gather.shape.value_count % 32 != 0)) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("groups of {} rows of {} values of {} are none", gather.rows_per_group,
                    gather.shape.value_count, Name(gather.shape.format)));
  }
  const bool apart = gather.format == HbmFormat::kRowsAndScales;
  if (gather.slab == nullptr || gather.groups == nullptr || gather.rows == nullptr ||
      (apart && (gather.scales == nullptr || !block32))) {
    return Status(StatusCode::kInvalidArgument,
                  "slab, groups and rows must not be null, nor scales where they are apart, "
                  "which e4m3-block32 alone can be");
  }
  int device = 0;
  int multiprocessor_count = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&multiprocessor_count, cudaDevAttrMultiProcessorCount, device);
  }
  if (error != cudaSuccess) return CudaStatus(error, "look at the device");
  return CudaStatus(
      LaunchSlabGather(gather, static_cast<std::uint32_t>(multiprocessor_count), stream),
      "launch of a gather from a slab");
}

Result<HostRegistration> HostRegistration::Register(std::span<const std::byte> memory,
                                                    bool read_only) {
  void* const host = const_cast<std::byte*>(memory.data());
  unsigned flags = cudaHostRegisterMapped | cudaHostRegisterPortable;
  if (read_only) flags |= cudaHostRegisterReadOnly;
  Status status = CudaStatus(cudaHostRegister(host, memory.size(), flags),
                             fmt::format("registration of {} B of host memory", memory.size()));
  if (!status.ok()) return status;
  void* device = nullptr;
  status = CudaStatus(cudaHostGetDevicePointer(&device, host, 0), "mapping of host memory");
  if (!status.ok()) {
    (void)cudaHostUnregister(host);
    return status;
  }
  return HostRegistration(host, static_cast<const std::byte*>(device));
}

HostRegistration::HostRegistration(HostRegistration&& other) noexcept
    : host_(std::exchange(other.host_, nullptr)), device_(std::exchange(other.device_, nullptr)) {}

HostRegistration& HostRegistration::operator=(HostRegistration&& other) noexcept {
  std::swap(host_, other.host_);
  std::swap(device_, other.device_);
  return *this;
}

HostRegistration::~HostRegistration() {
  if (host_ != nullptr) (void)cudaHostUnregister(host_);
}

}  // namespace tiercel
