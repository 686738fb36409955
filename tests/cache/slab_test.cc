// Goal: the cache's memory is of the pages and on the nodes that were asked for, or there
// is an error that says what to do; one node works like many.
//
// Method: small slabs, touched from end to end. What this machine does not have, such as
// huge pages that were set aside, must be refused with the right figures.

#include "cache/slab.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

#include "base/numa.h"
#include "cache/group_cache.h"

namespace tiercel::testing {
namespace {

constexpr std::uint64_t kHugePageBytes = std::uint64_t{2} << 20;

std::uint64_t HugePages(const std::string& name) {
  std::ifstream file("/sys/kernel/mm/hugepages/hugepages-2048kB/" + name);
  std::uint64_t count = 0;
  file >> count;
  return count;
}

bool AllZero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

TEST(SlabTest, IsZeroedWholePagesThatSayWhatTheyAre) {
  for (const CachePages pages : {CachePages::kTransparentHuge, CachePages::kPlain}) {
    for (const std::uint64_t size_bytes : {std::uint64_t{1}, kHugePageBytes + 5}) {
      Result<Slab> slab = Slab::Map(size_bytes, {.pages = pages});
      ASSERT_TRUE(slab.ok()) << slab.status().ToString();
      EXPECT_EQ(slab.value().bytes().size(), Slab::RoundUp(size_bytes));
      EXPECT_TRUE(AllZero(slab.value().bytes()));
      std::fill(slab.value().bytes().begin(), slab.value().bytes().end(), std::byte{1});
      EXPECT_NE(slab.value().pages().find("pages"), std::string::npos);
      if (pages == CachePages::kPlain) {
        EXPECT_NE(slab.value().pages().find("plain"), std::string::npos);
      }
    }
  }
}

TEST(SlabTest, HugePagesThatAreNotSetAsideAreRefusedWithTheSysctl) {
  const std::uint64_t free_pages = HugePages("free_hugepages");
  const Result<Slab> slab =
      Slab::Map((free_pages + 8) * kHugePageBytes, {.pages = CachePages::kHugetlb});
  ASSERT_FALSE(slab.ok()) << "more was given than is free";
  EXPECT_EQ(slab.status().code(), StatusCode::kResourceExhausted);
  const std::string wanted = std::to_string(HugePages("nr_hugepages") + 8);
  EXPECT_NE(slab.status().message().find("sysctl -w vm.nr_hugepages=" + wanted), std::string::npos)
      << slab.status().ToString();
}

TEST(SlabTest, HugePagesThatAreSetAsideAreTaken) {
  if (HugePages("free_hugepages") == 0) {
    GTEST_SKIP() << "no huge pages are set aside here: sysctl -w vm.nr_hugepages=16";
  }
  Result<Slab> slab = Slab::Map(kHugePageBytes - 5, {.pages = CachePages::kHugetlb});
  ASSERT_TRUE(slab.ok()) << slab.status().ToString();
  EXPECT_EQ(slab.value().bytes().size(), kHugePageBytes);
  EXPECT_TRUE(AllZero(slab.value().bytes()));
  EXPECT_NE(slab.value().pages().find("hugetlb"), std::string::npos);
}

TEST(SlabTest, ABudgetInHugePagesIsNeverExceeded) {
  EXPECT_EQ(Slab::RoundDown(3 * kHugePageBytes - 1, CachePages::kHugetlb), 2 * kHugePageBytes);
  EXPECT_EQ(Slab::RoundDown(3 * kHugePageBytes, CachePages::kHugetlb), 3 * kHugePageBytes);
  EXPECT_EQ(Slab::RoundDown(8191, CachePages::kPlain) % 4096, 0U);
}

TEST(SlabTest, EveryPlacementWorksOnTheNodesThereAre) {
  for (const NumaPlacement numa :
       {NumaPlacement::kInterleave, NumaPlacement::kNone, NumaPlacement::kNode}) {
    Result<Slab> slab = Slab::Map(kHugePageBytes, {.numa = numa, .numa_node = 0});
    if (!slab.ok() && slab.status().code() == StatusCode::kUnavailable) {
      EXPECT_EQ(numa, NumaPlacement::kNode);
      EXPECT_NE(slab.status().message().find("NUMA node 0"), std::string::npos);
      continue;  // A build without hwloc, or a kernel that forbids it.
    }
    ASSERT_TRUE(slab.ok()) << slab.status().ToString();
    std::fill(slab.value().bytes().begin(), slab.value().bytes().end(), std::byte{1});
    if (numa == NumaPlacement::kNode) {
      EXPECT_NE(slab.value().pages().find("on NUMA node 0"), std::string::npos)
          << slab.value().pages();
    }
  }
}

TEST(SlabTest, ANodeThatIsNotThereIsRefused) {
  const MemoryOptions options = {.numa = NumaPlacement::kNode, .numa_node = 4000};
  const Result<Slab> slab = Slab::Map(kHugePageBytes, options);
  ASSERT_FALSE(slab.ok());
  const bool no_hwloc = slab.status().code() == StatusCode::kUnavailable;
  EXPECT_TRUE(no_hwloc || slab.status().code() == StatusCode::kInvalidArgument);
  EXPECT_NE(slab.status().message().find("NUMA node 4000"), std::string::npos)
      << slab.status().ToString();
  EXPECT_FALSE(BindThread(options).ok());
  const Result<std::unique_ptr<GroupCache>> cache = GroupCache::Create(
      {.budget_bytes = 4 * kHugePageBytes, .group_size_bytes = {2112}, .memory = options});
  ASSERT_FALSE(cache.ok());
  EXPECT_EQ(cache.status().code(), slab.status().code());
}

TEST(SlabTest, AThreadIsBoundToTheCoresOfItsNode) {
  std::thread thread([] {
    cpu_set_t before;
    ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
    const Status status = BindThread({.numa = NumaPlacement::kNode, .numa_node = 0});
    if (!status.ok()) {
      EXPECT_EQ(status.code(), StatusCode::kUnavailable) << status.ToString();
      return;
    }
    cpu_set_t after;
    ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
    EXPECT_GT(CPU_COUNT(&after), 0);
    std::ifstream file("/sys/devices/system/node/node0/cpulist");
    int first = -1;
    if (file >> first) {
      EXPECT_TRUE(CPU_ISSET(first, &after));
    }
    // What is not kNode changes nothing.
    EXPECT_TRUE(BindThread({.numa = NumaPlacement::kInterleave}).ok());
    cpu_set_t last;
    ASSERT_EQ(sched_getaffinity(0, sizeof(last), &last), 0);
    EXPECT_TRUE(CPU_EQUAL(&after, &last));
  });
  thread.join();
}

}  // namespace
}  // namespace tiercel::testing
