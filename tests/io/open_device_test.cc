// Goal: what Open says when things are not as they should be: io_uring forbidden or
//       missing, locked memory short, files missing, options out of range, tmpfs.
// Method: kernels that refuse are played by a seccomp filter of the test's own, in a
//       forked child, so that the filter does not outlive the case. A child reports
//       through its exit status and stderr.

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/device.h"
#include "tests/io/device_test_support.h"
#include "tests/support/scratch_dir.h"
#include "tests/support/seccomp_filter.h"

namespace tiercel::testing {
namespace {

class CountingSink final : public ReadSink {
 public:
  void OnRead(const ReadCompletion& completion) noexcept override {
    if (completion.os_error == 0 && IsPattern(0, completion.tag, completion.bytes)) ++good;
  }
  int good = 0;
};

/// Reads a few rows; true if all of them are right.
bool ReadsWork(Device& device) {
  auto queue = device.NewQueue();
  if (!queue.ok()) {
    std::fprintf(stderr, "%s\n", queue.status().ToString().c_str());
    return false;
  }
  CountingSink sink;
  for (std::uint64_t i = 0; i < 50; ++i) {
    while (queue.value()->in_flight() == queue.value()->depth()) {
      queue.value()->Run(sink, std::chrono::seconds(10));
    }
    queue.value()->Submit({.size_bytes = 264, .offset_bytes = i * 777, .tag = i * 777});
  }
  while (queue.value()->in_flight() > 0) queue.value()->Run(sink, std::chrono::seconds(10));
  return sink.good == 50;
}

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

class OpenDeviceTest : public ::testing::Test {
 protected:
  OpenDeviceTest() {
    const auto bytes = PatternBytes(0, 0, 100'000);
    path_ = scratch_.Write("file", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  }

  ScratchDir scratch_;
  std::string path_;
};

struct Refusal {
  const char* name;
  std::uint32_t call;
  std::uint32_t os_error;
  const char* sentence;  ///< A part of what the message must say.
};

class RefusedUringTest : public OpenDeviceTest, public ::testing::WithParamInterface<Refusal> {};

TEST_P(RefusedUringTest, AutoFallsBackWithTheReasonAndUringFailsWithIt) {
  const Refusal& refusal = GetParam();
  const int status = InChild([&] {
    if (!Forbid(refusal.call, refusal.os_error)) return kChildSkipped;
    Result<OpenedDevice> fallen = OpenDevice(EngineChoice::kAuto, {path_}, {});
    CHILD_EXPECT(fallen.ok());
    CHILD_EXPECT(fallen.value().device->engine() == DeviceEngine::kPread);
    std::fprintf(stderr, "reason: %s\n", fallen.value().fallback_reason.c_str());
    CHILD_EXPECT(Contains(fallen.value().fallback_reason, refusal.sentence));
    CHILD_EXPECT(ReadsWork(*fallen.value().device));

    Result<OpenedDevice> failed = OpenDevice(EngineChoice::kUring, {path_}, {});
    CHILD_EXPECT(!failed.ok());
    CHILD_EXPECT(failed.status().code() == StatusCode::kUnavailable);
    CHILD_EXPECT(failed.status().os_error() == static_cast<int>(refusal.os_error));
    CHILD_EXPECT(Contains(failed.status().message(), refusal.sentence));

    // Nothing of it is an excuse for a missing file.
    Result<OpenedDevice> missing = OpenDevice(EngineChoice::kAuto, {path_ + ".not"}, {});
    CHILD_EXPECT(!missing.ok() && missing.status().code() == StatusCode::kNotFound);
    return kChildPassed;
  });
  if (status == kChildSkipped) GTEST_SKIP() << "this system allows no seccomp filter";
  EXPECT_EQ(status, kChildPassed);
}

INSTANTIATE_TEST_SUITE_P(
    Kernels, RefusedUringTest,
    ::testing::Values(Refusal{"SetupEperm", SYS_io_uring_setup, EPERM, "io_uring_disabled"},
                      Refusal{"SetupEnosys", SYS_io_uring_setup, ENOSYS,
                              "this kernel has no io_uring"},
                      Refusal{"SetupEnomem", SYS_io_uring_setup, ENOMEM, "ulimit -l"},
                      Refusal{"EnterEperm", SYS_io_uring_enter, EPERM, "seccomp"}),
    [](const auto& refusal) { return std::string(refusal.param.name); });

TEST_F(OpenDeviceTest, RefusalNamesTheSeccompProfileWhenTheSysctlIsNotTheCause) {
  std::FILE* const file = std::fopen("/proc/sys/kernel/io_uring_disabled", "re");
  int value = 0;
  if (file != nullptr) {
    if (std::fscanf(file, "%d", &value) != 1) value = 0;
    std::fclose(file);
  }
  const std::string sentence = value == 0 ? "seccomp" : "is " + std::to_string(value);
  const int status = InChild([&] {
    if (!Forbid(SYS_io_uring_setup, EPERM)) return kChildSkipped;
    Result<std::unique_ptr<Device>> device = OpenUringDevice({path_}, {});
    CHILD_EXPECT(!device.ok() && Contains(device.status().message(), sentence));
    return kChildPassed;
  });
  if (status == kChildSkipped) GTEST_SKIP() << "this system allows no seccomp filter";
  EXPECT_EQ(status, kChildPassed);
}

TEST_F(OpenDeviceTest, TooLittleLockedMemoryMeansUnregisteredBuffersAndSaysSo) {
  const int status = InChild([&] {
    // No exemption from the limit, whoever runs the test.
    __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
    __user_cap_data_struct data[2] = {};
    if (syscall(SYS_capget, &header, data) != 0) return kChildSkipped;
    for (auto& part : data) part.effective = 0;
    if (syscall(SYS_capset, &header, data) != 0) return kChildSkipped;
    // Enough for the ring (some 30 KiB; newer kernels count it too), too little for the
    // buffers: 129 of 8 KiB.
    const rlimit little{.rlim_cur = 256 << 10, .rlim_max = 256 << 10};
    if (setrlimit(RLIMIT_MEMLOCK, &little) != 0) return kChildSkipped;
    Result<std::unique_ptr<Device>> device = OpenUringDevice({path_}, {});
    if (!device.ok() && device.status().code() == StatusCode::kUnavailable) {
      std::fprintf(stderr, "%s\n", device.status().ToString().c_str());
      return kChildSkipped;
    }
    CHILD_EXPECT(device.ok());
    CHILD_EXPECT(ReadsWork(*device.value()));
    std::fprintf(stderr, "%s\n", device.value()->description().c_str());
    CHILD_EXPECT(Contains(device.value()->description(), "buffers not registered"));
    return kChildPassed;
  });
  if (status == kChildSkipped) GTEST_SKIP() << "no io_uring here, or the limit cannot be lowered";
  EXPECT_EQ(status, kChildPassed);
}

TEST_F(OpenDeviceTest, DescriptionNamesTheEngineAndTheBlock) {
  Result<OpenedDevice> opened = OpenDevice(EngineChoice::kAuto, {path_}, {});
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  const Device& device = *opened.value().device;
  EXPECT_TRUE(Contains(device.description(), Name(device.engine()))) << device.description();
  EXPECT_EQ(opened.value().fallback_reason.empty(), device.engine() == DeviceEngine::kUring);
  EXPECT_TRUE(Contains(device.description(), "blocks") ||
              Contains(device.description(), "page cache"))
      << device.description();
}

TEST_F(OpenDeviceTest, WithoutDirectTheWholePathIsBuffered) {
  for (const EngineChoice choice : {EngineChoice::kAuto, EngineChoice::kPread}) {
    Result<OpenedDevice> opened = OpenDevice(choice, {path_}, {.direct = false});
    ASSERT_TRUE(opened.ok()) << opened.status().ToString();
    EXPECT_TRUE(Contains(opened.value().device->description(), "page cache"));
    EXPECT_TRUE(ReadsWork(*opened.value().device));
  }
}

TEST_F(OpenDeviceTest, BadInputIsNamed) {
  for (const EngineChoice choice : {EngineChoice::kAuto, EngineChoice::kPread}) {
    const auto code = [&](const std::vector<std::string>& paths, const DeviceOptions& options) {
      Result<OpenedDevice> opened = OpenDevice(choice, paths, options);
      return opened.ok() ? StatusCode::kOk : opened.status().code();
    };
    EXPECT_EQ(code({path_}, {.depth = 0}), StatusCode::kInvalidArgument);
    EXPECT_EQ(code({path_}, {.depth = 4097}), StatusCode::kInvalidArgument);
    EXPECT_EQ(code({path_}, {.read_size_bytes_max = 0}), StatusCode::kInvalidArgument);
    EXPECT_EQ(code({path_}, {.read_size_bytes_max = (1U << 20) + 1}), StatusCode::kInvalidArgument);
    EXPECT_EQ(code({path_}, {.block_bytes = 3000}), StatusCode::kInvalidArgument);
    EXPECT_EQ(code({path_}, {.block_bytes = 1U << 17}), StatusCode::kInvalidArgument);
    EXPECT_EQ(code({}, {}), StatusCode::kInvalidArgument);
    EXPECT_EQ(code({scratch_.path()}, {}), StatusCode::kInvalidArgument);
    EXPECT_EQ(code({path_, path_ + ".not"}, {}), StatusCode::kNotFound);
    EXPECT_EQ(code({path_, path_}, {}), StatusCode::kOk);
  }
}

TEST_F(OpenDeviceTest, ReadsAreWidenedToTheBlockThatWasAskedFor) {
  for (const EngineChoice choice : {EngineChoice::kAuto, EngineChoice::kPread}) {
    for (const std::uint32_t block_bytes : {1U, 512U, 4096U, 65536U}) {
      Result<OpenedDevice> opened = OpenDevice(choice, {path_}, {.block_bytes = block_bytes});
      ASSERT_TRUE(opened.ok()) << opened.status().ToString();
      const Device& device = *opened.value().device;
      EXPECT_TRUE(ReadsWork(*opened.value().device));
      if (Contains(device.description(), "page cache")) continue;  // No blocks there.
      const std::uint64_t read_bytes =
          device.Blocks({.size_bytes = 1, .offset_bytes = 7}).size_bytes;
      EXPECT_GE(read_bytes, block_bytes);
      EXPECT_LE(read_bytes, std::max(block_bytes, 4096U));  // O_DIRECT may demand more.
    }
  }
}

TEST_F(OpenDeviceTest, DeepestQueueWorks) {
  for (const EngineChoice choice : {EngineChoice::kAuto, EngineChoice::kPread}) {
    Result<OpenedDevice> opened =
        OpenDevice(choice, {path_}, {.depth = 4096, .read_size_bytes_max = 512});
    ASSERT_TRUE(opened.ok()) << opened.status().ToString();
    EXPECT_TRUE(ReadsWork(*opened.value().device));
  }
}

}  // namespace
}  // namespace tiercel::testing
