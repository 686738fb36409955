// Goal: a calibration reads at random and never the same place twice, gives a point for
// each depth and size it was asked for, and settings that follow from them; what makes no
// sense, and files that are too small, are refused with what to do; a read that fails ends
// it with the file and the offset.
//
// Method: the public function on a file of a few MB with slices of a millisecond, for what
// is measured, never how fast; its parts on a memory device and one with bad ranges.

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "io/calibrate_slice.h"
#include "io/device.h"
#include "io/place_shuffle.h"
#include "tests/support/fault_device.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/disk_profile.h"

namespace tiercel {
namespace {

using ::tiercel::testing::FaultDevice;
using ::tiercel::testing::FaultOptions;
using ::tiercel::testing::ScratchDir;

TEST(PlaceShuffle, VisitsEveryPlaceOnce) {
  for (const std::uint64_t count : {1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4096, 10007}) {
    for (const std::uint64_t seed : {1, 2}) {
      const PlaceShuffle shuffle(count, seed);
      std::vector<bool> seen(count);
      for (std::uint64_t i = 0; i < count; ++i) {
        const std::uint64_t place = shuffle(i);
        ASSERT_LT(place, count);
        EXPECT_FALSE(seen[place]) << place << " of " << count;
        seen[place] = true;
      }
    }
  }
}

TEST(PlaceShuffle, NeighboursGoFarApartAndSeedsDiffer) {
  constexpr std::uint64_t kCount = 100'000;
  const PlaceShuffle a(kCount, 1);
  const PlaceShuffle b(kCount, 2);
  std::uint64_t near = 0;
  std::uint64_t same = 0;
  for (std::uint64_t i = 0; i + 1 < kCount; ++i) {
    const auto step = static_cast<std::int64_t>(a(i + 1)) - static_cast<std::int64_t>(a(i));
    near += step > -100 && step < 100 ? 1 : 0;
    same += a(i) == b(i) ? 1 : 0;
  }
  EXPECT_LT(near, kCount / 100) << "of random ones, 0.2 % are that near";
  EXPECT_LT(same, 20U);
}

TEST(Places, AreWithinTheFilesAndNeverTheSame) {
  const std::vector<std::uint64_t> sizes = {10'000, 0, 4096, 100, 1'000'000};
  Places places(sizes, 4096, 3);
  ASSERT_EQ(places.count(), 2U + 0 + 1 + 0 + 244);
  std::set<std::pair<std::uint32_t, std::uint64_t>> seen;
  for (std::uint64_t left = places.count(); left > 0; --left) {
    ASSERT_EQ(places.left(), left);
    const std::uint32_t size_bytes = left % 2 == 0 ? 512 : 4096;
    const ReadRequest request = places.Take(size_bytes);
    ASSERT_LT(request.file_index, sizes.size());
    EXPECT_EQ(request.size_bytes, size_bytes);
    EXPECT_EQ(request.offset_bytes % size_bytes, 0U);
    EXPECT_LE(request.offset_bytes + size_bytes, sizes[request.file_index]);
    EXPECT_TRUE(seen.emplace(request.file_index, request.offset_bytes / 4096).second);
  }
}

std::unique_ptr<Device> MemoryDevice(std::size_t size_bytes, std::uint32_t depth) {
  std::vector<std::vector<std::byte>> files;
  files.emplace_back(size_bytes);
  return NewMemoryDevice(std::move(files), {.depth = depth, .read_size_bytes_max = 4096});
}

TEST(MeasureSlice, EndsWhenItsReadsAreUsedUp) {
  const std::unique_ptr<Device> device = MemoryDevice(1 << 20, 8);
  Places places({1 << 20}, 4096, 1);
  const SliceSpec spec{.block_bytes = 4096,
                       .queue_depth = 8,
                       .duration = std::chrono::hours(1),
                       .read_count_max = 100};
  Result<DiskPoint> point = MeasureSlice(*device, {"memory"}, spec, places);
  ASSERT_TRUE(point.ok()) << point.status().ToString();
  EXPECT_EQ(places.count() - places.left(), 100U);
  EXPECT_EQ(point.value().block_bytes, 4096U);
  EXPECT_EQ(point.value().queue_depth, 8U);
  EXPECT_GT(point.value().iops, 0.0);
  EXPECT_LE(point.value().p50_ns, point.value().p99_ns);
  EXPECT_LE(point.value().p99_ns, point.value().p999_ns);
}

TEST(MeasureSlice, EndsWhenItsTimeIsUp) {
  const std::unique_ptr<Device> device = MemoryDevice(64 << 20, 4);
  Places places({64 << 20}, 4096, 1);
  const SliceSpec spec{.block_bytes = 512,
                       .queue_depth = 4,
                       .duration = std::chrono::nanoseconds(1),
                       .read_count_max = 16384};
  Result<DiskPoint> point = MeasureSlice(*device, {"memory"}, spec, places);
  ASSERT_TRUE(point.ok()) << point.status().ToString();
  EXPECT_LT(places.count() - places.left(), 100U);
}

TEST(MeasureSlice, ReadThatFailsIsNamed) {
  FaultOptions faults;
  faults.bad_ranges = {{.file_index = 0, .offset_bytes = 40 * 4096, .size_bytes = 1}};
  FaultDevice device(MemoryDevice(1 << 20, 8), faults);
  Places places({1 << 20}, 4096, 1);
  const SliceSpec spec{.block_bytes = 4096,
                       .queue_depth = 8,
                       .duration = std::chrono::hours(1),
                       .read_count_max = 256};
  const Result<DiskPoint> point = MeasureSlice(device, {"/data/tables"}, spec, places);
  EXPECT_GE(device.counts().bad_range_errors, 1U);
  ASSERT_FALSE(point.ok());
  EXPECT_EQ(point.status().code(), StatusCode::kIoError);
  EXPECT_NE(point.status().message().find("read 4096 B at 163840 of /data/tables"),
            std::string::npos)
      << point.status().message();
}

TEST(MeasureSlice, QueueThatIsTooShallowIsRefused) {
  const std::unique_ptr<Device> device = MemoryDevice(1 << 20, 4);
  Places places({1 << 20}, 4096, 1);
  const SliceSpec spec{.block_bytes = 4096,
                       .queue_depth = 8,
                       .duration = std::chrono::hours(1),
                       .read_count_max = 100};
  const Result<DiskPoint> point = MeasureSlice(*device, {"memory"}, spec, places);
  ASSERT_FALSE(point.ok());
  EXPECT_EQ(point.status().code(), StatusCode::kResourceExhausted);
}

CalibrateOptions QuickOptions() {
  CalibrateOptions options;
  options.seconds_per_point = 0.005;
  options.depths = {4, 1, 2};
  options.block_bytes = {4096};
  return options;
}

/// Zeros, but allocated: holes would be answered without the disk.
std::string BigFile(const ScratchDir& scratch, const std::string& name, std::size_t size_bytes) {
  return scratch.Write(name, std::string(size_bytes, 'x'));
}

TEST(CalibrateDisk, GivesAPointForEachDepthAndSettingsThatFollow) {
  const ScratchDir scratch;
  const std::vector<std::string> paths = {BigFile(scratch, "a", 3 << 20),
                                          BigFile(scratch, "b", 3 << 20)};
  for (const Engine engine : {Engine::kAuto, Engine::kPread}) {
    CalibrateOptions options = QuickOptions();
    options.engine = engine;
    std::vector<std::uint64_t> steps;
    options.progress = [&steps](std::uint64_t done, std::uint64_t total) {
      EXPECT_EQ(total, 15U) << "three points of five slices";
      steps.push_back(done);
      return true;
    };
    Result<DiskProfile> result = CalibrateDisk(paths, options);
    ASSERT_TRUE(result.ok()) << result.status().ToString();
    const DiskProfile& profile = result.value();
    EXPECT_EQ(profile.disk.name, IdentifyDisk(paths[0]).value().name);
    ASSERT_EQ(profile.points.size(), 3U);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(profile.points[i].queue_depth, 1U << i);
      EXPECT_EQ(profile.points[i].block_bytes, 4096U);
    }
    const DiskChoice choice = ChooseDiskSettings(profile.points).value();
    EXPECT_EQ(profile.queue_depth, choice.queue_depth);
    EXPECT_EQ(profile.block_bytes, choice.block_bytes);
    EXPECT_EQ(profile.engine == "pread",
              engine == Engine::kPread || !profile.engine_fallback.empty());
    ASSERT_EQ(steps.size(), 16U);
    for (std::size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(steps[i], i);
    // What was measured can be saved and read.
    Result<DiskProfile> parsed = ParseDiskProfile(DiskProfileJson(profile), "p.json");
    EXPECT_TRUE(parsed.ok()) << parsed.status().ToString();
  }
}

TEST(CalibrateDisk, SaysWhetherThereIsDirectIo) {
  const ScratchDir scratch;
  const std::string path = BigFile(scratch, "a", 3 << 20);
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC);
  const bool direct = fd >= 0;
  if (direct) close(fd);
  Result<DiskProfile> profile = CalibrateDisk({path}, QuickOptions());
  ASSERT_TRUE(profile.ok()) << profile.status().ToString();
  EXPECT_EQ(profile.value().direct, direct);
}

TEST(CalibrateDisk, PageCacheIsSaidToBeMeasuredOnTmpfs) {
  std::error_code error;
  const std::string folder = "/dev/shm";
  Result<DiskIdentity> disk = IdentifyDisk(folder);
  if (!disk.ok() || !disk.value().name.starts_with("tmpfs")) GTEST_SKIP() << "no tmpfs there";
  const std::string path = fmt::format("{}/tiercel_calibrate_test_{}", folder, getpid());
  const ScratchDir scratch;
  std::filesystem::copy_file(BigFile(scratch, "a", 3 << 20), path, error);
  if (error) GTEST_SKIP() << "cannot write there: " << error.message();
  Result<DiskProfile> profile = CalibrateDisk({path}, QuickOptions());
  std::filesystem::remove(path);
  ASSERT_TRUE(profile.ok()) << profile.status().ToString();
  EXPECT_FALSE(profile.value().direct) << "O_DIRECT or not, memory is no disk";
}

TEST(CalibrateDisk, StopsWhenAskedTo) {
  const ScratchDir scratch;
  CalibrateOptions options = QuickOptions();
  options.progress = [](std::uint64_t done, std::uint64_t) { return done < 3; };
  const Result<DiskProfile> profile = CalibrateDisk({BigFile(scratch, "a", 3 << 20)}, options);
  ASSERT_FALSE(profile.ok());
  EXPECT_EQ(profile.status().code(), StatusCode::kCancelled);
}

/// The message of a calibration that is refused with `code`.
std::string RefusalOf(const std::vector<std::string>& paths, const CalibrateOptions& options,
                      StatusCode code = StatusCode::kInvalidArgument) {
  const Result<DiskProfile> profile = CalibrateDisk(paths, options);
  if (profile.ok()) return "it was not refused";
  EXPECT_EQ(profile.status().code(), code) << profile.status().ToString();
  return std::string(profile.status().message());
}

TEST(CalibrateDisk, FilesThatWillNotDoAreRefusedWithWhatToDo) {
  const ScratchDir scratch;
  const std::string small = BigFile(scratch, "small", 100'000);
  const std::string message = RefusalOf({small}, QuickOptions());
  EXPECT_NE(message.find(small), std::string::npos) << message;
  // Depths 1 + 2 + 4, five slices, eight queues full each, of 4096 B.
  EXPECT_NE(message.find("it takes 1146880 B"), std::string::npos) << message;
  EXPECT_NE(message.find("larger files"), std::string::npos) << message;
  EXPECT_NE(RefusalOf({}, QuickOptions()).find("no file"), std::string::npos);
  const std::string missing = scratch.File("missing");
  EXPECT_NE(RefusalOf({missing}, QuickOptions(), StatusCode::kNotFound).find(missing),
            std::string::npos);
  EXPECT_NE(RefusalOf({scratch.path()}, QuickOptions()).find(scratch.path()), std::string::npos);
  const std::string big = BigFile(scratch, "big", 3 << 20);
  const std::string two = RefusalOf({big, "/proc/version"}, QuickOptions());
  EXPECT_NE(two.find("/proc/version"), std::string::npos) << two;
  EXPECT_NE(two.find("each disk"), std::string::npos) << two;
}

TEST(CalibrateDisk, OptionsOutOfRangeAreRefusedByName) {
  const ScratchDir scratch;
  const std::string path = BigFile(scratch, "a", 3 << 20);
  const auto refusal = [&](auto change) {
    CalibrateOptions options = QuickOptions();
    change(options);
    return RefusalOf({path}, options);
  };
  using O = CalibrateOptions;
  EXPECT_NE(refusal([](O& o) { o.seconds_per_point = 0; }).find("seconds_per_point"),
            std::string::npos);
  EXPECT_NE(refusal([](O& o) { o.seconds_per_point = 0.0 / 0.0; }).find("seconds_per_point"),
            std::string::npos);
  EXPECT_NE(refusal([](O& o) { o.depths = {1, 0}; }).find("depths"), std::string::npos);
  EXPECT_NE(refusal([](O& o) { o.depths = {4097}; }).find("depths"), std::string::npos);
  EXPECT_NE(refusal([](O& o) { o.depths.assign(65, 1); }).find("more than 64"), std::string::npos);
  EXPECT_NE(refusal([](O& o) { o.block_bytes = {3000}; }).find("block_bytes"), std::string::npos);
  EXPECT_NE(refusal([](O& o) { o.block_bytes = {256}; }).find("block_bytes"), std::string::npos);
  EXPECT_NE(refusal([](O& o) { o.block_bytes = {131072}; }).find("block_bytes"), std::string::npos);
}

}  // namespace
}  // namespace tiercel
