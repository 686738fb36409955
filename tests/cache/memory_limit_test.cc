// Goal: the memory limit is the least of physical memory and of every cgroup that the
// process is in, version 1 and 2, in a container or not.
//
// Method: made-up /proc and /sys/fs/cgroup trees.

#include "cache/memory_limit.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tests/support/scratch_dir.h"

namespace tiercel::testing {
namespace {

class MemoryLimitTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path full = std::filesystem::path(dir_.path()) / path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  MemoryLimit Read() { return ReadMemoryLimit(dir_.path() + "/proc", dir_.path() + "/cgroup"); }

  ScratchDir dir_;
};

TEST_F(MemoryLimitTest, PhysicalMemoryWhereThereIsNoCgroup) {
  EXPECT_EQ(Read().source, "physical memory");
  EXPECT_GT(Read().bytes, std::uint64_t{1} << 26);
}

TEST_F(MemoryLimitTest, Version2TakesTheLeastOnTheWayUp) {
  Write("proc/self/cgroup", "0::/a/b\n");
  Write("cgroup/a/b/memory.max", "max\n");
  EXPECT_EQ(Read().source, "physical memory");
  Write("cgroup/a/memory.max", "1048576\n");
  EXPECT_EQ(Read().bytes, 1048576u);
  EXPECT_NE(Read().source.find("/a/memory.max"), std::string::npos);
  Write("cgroup/a/b/memory.max", "2097152\n");
  EXPECT_EQ(Read().bytes, 1048576u) << "the parent's limit binds";
}

TEST_F(MemoryLimitTest, AContainerSeesItsOwnCgroupAtTheRoot) {
  Write("proc/self/cgroup", "0::/../../host/path\n");
  Write("cgroup/memory.max", "3145728\n");
  EXPECT_EQ(Read().bytes, 3145728u);
}

TEST_F(MemoryLimitTest, Version1NamesItsController) {
  Write("proc/self/cgroup", "12:cpu,cpuacct:/x\n9:memory:/docker/1\n0::/y\n");
  Write("cgroup/memory/docker/1/memory.limit_in_bytes", "4194304\n");
  Write("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(Read().bytes, 4194304u);
}

TEST_F(MemoryLimitTest, NonsenseSetsNoLimit) {
  Write("proc/self/cgroup", "nonsense\n::\n0::/a\n");
  Write("cgroup/a/memory.max", "lots\n");
  EXPECT_EQ(Read().source, "physical memory");
}

}  // namespace
}  // namespace tiercel::testing
