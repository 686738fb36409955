#include "cuda/cuda_status.h"

#include <fmt/format.h>

#include <string>
#include <utility>

namespace tiercel {
namespace {

struct Case {
  StatusCode code;
  const char* advice;
};

Case CaseOf(cudaError_t error) noexcept {
  switch (error) {
    case cudaErrorNoDevice:
      return {StatusCode::kUnavailable,
              "no GPU is visible: see nvidia-smi and CUDA_VISIBLE_DEVICES"};
    case cudaErrorInsufficientDriver:
      return {
          StatusCode::kUnavailable,
          "no driver, or one older than this CUDA runtime: install or update the NVIDIA driver"};
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
      return {StatusCode::kUnavailable,
              "kernel module and driver library differ: reboot or reinstall"};
    case cudaErrorStubLibrary:
      return {StatusCode::kUnavailable,
              "the toolkit's stub libcuda was loaded instead of the driver's"};
    case cudaErrorSystemNotReady:
    case cudaErrorInitializationError:
      return {StatusCode::kUnavailable, "the driver did not start: see the kernel log"};
    case cudaErrorDevicesUnavailable:
      return {StatusCode::kUnavailable, "every GPU is taken: another process holds it exclusively"};
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
    case cudaErrorInvalidDeviceFunction:
      return {StatusCode::kUnavailable,
              "not compiled for this GPU: build with CMAKE_CUDA_ARCHITECTURES=native"};
    case cudaErrorMemoryAllocation:
      return {StatusCode::kResourceExhausted, "out of GPU memory: lower the HBM budget"};
    case cudaErrorLaunchOutOfResources:
      return {StatusCode::kResourceExhausted,
              "a kernel needs more registers or threads than there are"};
    case cudaErrorInvalidValue:
    case cudaErrorInvalidConfiguration:
      return {StatusCode::kInvalidArgument, "an argument is out of range"};
    case cudaErrorInvalidDevice:
      return {StatusCode::kInvalidArgument, "no GPU has that number"};
    case cudaErrorInvalidResourceHandle:
      return {StatusCode::kInvalidArgument, "the stream is not one, or of another GPU"};
    case cudaErrorStreamCaptureUnsupported:
    case cudaErrorStreamCaptureInvalidated:
      return {StatusCode::kInvalidArgument, "not possible while the stream is being captured"};
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
      return {StatusCode::kIoError,
              "a kernel used memory that is not the GPU's; the process must start anew"};
    case cudaErrorECCUncorrectable:
      return {StatusCode::kIoError, "the GPU's memory failed: see nvidia-smi -q -d ECC"};
    case cudaErrorLaunchTimeout:
      return {StatusCode::kIoError, "the kernel ran past the display's time limit"};
    case cudaErrorLaunchFailure:
    case cudaErrorAssert:
      return {StatusCode::kIoError, "a kernel failed; the process must start anew"};
    default:
      return {StatusCode::kIoError, ""};  // The name and text say what is known.
  }
}

}  // namespace

Status CudaStatus(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return {};
  const Case found = CaseOf(error);
  std::string message =
      fmt::format("{}: {} ({})", what, cudaGetErrorString(error), cudaGetErrorName(error));
  if (found.advice[0] != '\0') message += fmt::format("; {}", found.advice);
  return Status(found.code, std::move(message));
}

}  // namespace tiercel
