// Goal: processes share a slab that one of them writes; nobody else can write it or change
// its size; it is gone with its last user.
//
// Method: forked children that read what the parent writes, and try what they must not.

#include "tiercel/shared_slab.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

namespace tiercel {
namespace {

SharedSlab MakeSlab(std::uint64_t size_bytes) {
  Result<SharedSlab> slab = SharedSlab::Create(size_bytes, CachePages::kPlain);
  EXPECT_TRUE(slab.ok()) << slab.status().ToString();
  return std::move(slab).value();
}

/// Runs `child` in a process of its own; its result is the exit status.
template <typename Child>
int InAnotherProcess(const Child& child) {
  const pid_t pid = fork();
  if (pid == 0) _exit(child());
  int status = 0;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(SharedSlabTest, AnotherProcessReadsWhatIsWritten) {
  const SharedSlab slab = MakeSlab(3 << 20);
  ASSERT_GE(slab.bytes().size(), std::size_t{3} << 20);
  const std::span<std::byte> bytes = slab.writable_bytes();
  EXPECT_EQ(bytes[12345], std::byte{0});
  std::memset(bytes.data(), 0x5A, bytes.size());
  EXPECT_EQ(InAnotherProcess([&] {
              const Result<SharedSlab> reader = SharedSlab::Open(slab.fd());
              if (!reader.ok() || reader.value().bytes().size() != bytes.size()) return 1;
              if (!reader.value().writable_bytes().empty()) return 2;
              for (const std::byte byte : reader.value().bytes()) {
                if (byte != std::byte{0x5A}) return 3;
              }
              return 0;
            }),
            0);
}

TEST(SharedSlabTest, WritesComeThroughWhileBothRun) {
  const SharedSlab slab = MakeSlab(4096);
  auto* const words = reinterpret_cast<std::uint32_t*>(slab.writable_bytes().data());
  const pid_t pid = fork();
  if (pid == 0) {
    Result<SharedSlab> reader = SharedSlab::Open(slab.fd());
    if (!reader.ok()) _exit(1);
    auto* const seen =
        reinterpret_cast<std::uint32_t*>(const_cast<std::byte*>(reader.value().bytes().data()));
    while (std::atomic_ref<std::uint32_t>(seen[1]).load(std::memory_order_acquire) == 0) {
    }
    _exit(seen[0] == 77 ? 0 : 2);
  }
  words[0] = 77;
  std::atomic_ref<std::uint32_t>(words[1]).store(1, std::memory_order_release);
  int status = 0;
  ASSERT_EQ(waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

TEST(SharedSlabTest, NobodyElseWritesOrResizes) {
  const SharedSlab slab = MakeSlab(1 << 20);
  EXPECT_EQ(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, slab.fd(), 0), MAP_FAILED);
  EXPECT_EQ(pwrite(slab.fd(), "x", 1, 0), -1);
  EXPECT_NE(ftruncate(slab.fd(), 0), 0);
  EXPECT_NE(ftruncate(slab.fd(), 2 << 20), 0);
  // The way by which a process finds it that was not forked.
  const std::string path = "/proc/self/fd/" + std::to_string(slab.fd());
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  EXPECT_TRUE(SharedSlab::Open(fd).ok());
  close(fd);
}

TEST(SharedSlabTest, WhatIsNoSlabIsRefused) {
  EXPECT_EQ(SharedSlab::Create(0, CachePages::kPlain).status().code(),
            StatusCode::kInvalidArgument);
  EXPECT_EQ(SharedSlab::Open(-1).status().code(), StatusCode::kInvalidArgument);
  const int unsealed = memfd_create("unsealed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(ftruncate(unsealed, 4096), 0);
  EXPECT_EQ(SharedSlab::Open(unsealed).status().code(), StatusCode::kInvalidArgument);
  close(unsealed);
  EXPECT_EQ(SharedSlab::Create(std::uint64_t{1} << 50, CachePages::kPlain).status().code(),
            StatusCode::kResourceExhausted);
}

/// Address space of this process.
std::uint64_t MappedBytes() {
  std::ifstream file("/proc/self/statm");
  std::uint64_t pages = 0;
  file >> pages;
  return pages * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

TEST(SharedSlabTest, WhatIsNoWholePagesLeavesNothingBehind) {
  const int odd = memfd_create("odd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(ftruncate(odd, 4097), 0);
  ASSERT_EQ(fcntl(odd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
  const std::uint64_t before = MappedBytes();
  ASSERT_GT(before, 0U);
  for (int i = 0; i < 1000; ++i) {
    const Result<SharedSlab> slab = SharedSlab::Open(odd);
    ASSERT_TRUE(slab.ok()) << slab.status().ToString();
    ASSERT_EQ(slab.value().bytes().size(), 4097U);
    ASSERT_EQ(slab.value().bytes()[4096], std::byte{0});
  }
  // 1,000 reservations of 2 MiB and more.
  EXPECT_LT(MappedBytes(), before + (std::uint64_t{1} << 30));
  close(odd);
}

TEST(SharedSlabTest, SaysWhatPagesItGot) {
  EXPECT_EQ(MakeSlab(4 << 20).pages(), "shared, plain pages, as asked for");
  const Result<SharedSlab> advised = SharedSlab::Create(4 << 20, CachePages::kTransparentHuge);
  ASSERT_TRUE(advised.ok()) << advised.status().ToString();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(advised.value().bytes().data()) % (2 << 20), 0u);
  EXPECT_TRUE(advised.value().pages() == "shared, transparent huge pages advised" ||
              advised.value().pages().find("shmem_enabled") != std::string::npos)
      << advised.value().pages();
  const Result<SharedSlab> small = SharedSlab::Create(4096, CachePages::kTransparentHuge);
  ASSERT_TRUE(small.ok());
  EXPECT_NE(small.value().pages().find("smaller than a huge page"), std::string::npos);
  const Result<SharedSlab> opened = SharedSlab::Open(advised.value().fd());
  ASSERT_TRUE(opened.ok());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(opened.value().bytes().data()) % (2 << 20), 0u);
}

TEST(SharedSlabTest, HugePagesThatAreSetAsideAreTakenOrRefused) {
  const Result<SharedSlab> slab = SharedSlab::Create(3 << 20, CachePages::kHugetlb);
  if (slab.ok()) {
    EXPECT_EQ(slab.value().bytes().size(), std::size_t{4} << 20);
    EXPECT_EQ(slab.value().bytes()[(3 << 20) + 5], std::byte{0});
    EXPECT_TRUE(SharedSlab::Open(slab.value().fd()).ok());
  } else {
    EXPECT_EQ(slab.status().code(), StatusCode::kResourceExhausted);
    EXPECT_NE(slab.status().message().find("vm.nr_hugepages"), std::string_view::npos);
  }
}

void IgnoreAlarm(int /*signal*/) {}

TEST(SharedSlabTest, SignalsDoNotKeepItFromBeingMade) {
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = IgnoreAlarm;
  ASSERT_EQ(sigaction(SIGALRM, &action, &before), 0);
  const itimerval often = {.it_interval = {.tv_sec = 0, .tv_usec = 20'000},
                           .it_value = {.tv_sec = 0, .tv_usec = 1'000}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &often, nullptr), 0);
  EXPECT_EQ(MakeSlab(256 << 20).bytes().size(), std::size_t{256} << 20);
  const itimerval never = {};
  ASSERT_EQ(setitimer(ITIMER_REAL, &never, nullptr), 0);
  EXPECT_EQ(sigaction(SIGALRM, &before, nullptr), 0);
}

TEST(SharedSlabTest, NumaNodesThatAreNotThereAreRefused) {
  const MemoryOptions options = {.numa = NumaPlacement::kNode, .numa_node = 4000};
  const Result<SharedSlab> slab = SharedSlab::Create(1 << 20, options);
  ASSERT_FALSE(slab.ok());
  EXPECT_TRUE(slab.status().code() == StatusCode::kInvalidArgument ||
              slab.status().code() == StatusCode::kUnavailable);
}

TEST(SharedSlabTest, ReadersKeepItWhenTheWriterIsGone) {
  Result<SharedSlab> reader = Status(StatusCode::kNotFound, "not yet");
  {
    const SharedSlab slab = MakeSlab(4096);
    slab.writable_bytes()[7] = std::byte{9};
    reader = SharedSlab::Open(slab.fd());
  }
  ASSERT_TRUE(reader.ok());
  EXPECT_EQ(reader.value().bytes()[7], std::byte{9});
  const SharedSlab moved = std::move(reader).value();
  EXPECT_EQ(moved.bytes()[7], std::byte{9});
}

}  // namespace
}  // namespace tiercel
