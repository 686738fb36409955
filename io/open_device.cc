#include <utility>

#include "io/device.h"

namespace tiercel {

std::string_view Name(DeviceEngine engine) noexcept {
  switch (engine) {
    case DeviceEngine::kUring:
      return "io_uring";
    case DeviceEngine::kPread:
      return "pread";
    case DeviceEngine::kMemory:
      return "memory";
  }
  return "unknown";
}

EngineChoice ChoiceOf(Engine engine) noexcept {
  switch (engine) {
    case Engine::kAuto:
      return EngineChoice::kAuto;
    case Engine::kUring:
      return EngineChoice::kUring;
    case Engine::kPread:
      return EngineChoice::kPread;
  }
  return EngineChoice::kAuto;
}

Result<OpenedDevice> OpenDevice(EngineChoice choice, const std::vector<std::string>& paths,
                                const DeviceOptions& options) {
  OpenedDevice opened;
  if (choice != EngineChoice::kPread) {
    Result<std::unique_ptr<Device>> uring = OpenUringDevice(paths, options);
    if (uring.ok()) {
      opened.device = std::move(uring).value();
      return opened;
    }
    // Only the lack of io_uring is a reason for another engine: a missing file is
    // missing for pread too, and its error is the one to report.
    if (choice == EngineChoice::kUring || uring.status().code() != StatusCode::kUnavailable) {
      return std::move(uring).TakeStatus();
    }
    opened.fallback_reason = uring.status().message();
  }
  Result<std::unique_ptr<Device>> pread = OpenPreadDevice(paths, options);
  if (!pread.ok()) return std::move(pread).TakeStatus();
  opened.device = std::move(pread).value();
  return opened;
}

}  // namespace tiercel
