// Goal: what the caller leaves open is read from the profile of the disk that the tables
// lie on; a profile of another disk or engine, or a damaged one, changes nothing and is
// spoken of; one that is named must be there and good; a store that tests open on a
// device of theirs looks into nobody's home.
//
// Method: ResolveReadSettings() and Store::Open() under a cache folder of the test's own,
// with made profiles.

#include "store/apply_profile.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "store/store_impl.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/disk_profile.h"

namespace tiercel {
namespace {

using ::tiercel::testing::MadeCheckpoint;
using ::tiercel::testing::ScratchDir;

class ApplyProfileTest : public ::testing::Test {
 protected:
  ApplyProfileTest() {
    // The other tests of this program have no use for what was here before.
    setenv("XDG_CACHE_HOME", cache_.path().c_str(), 1);
    disk_ = IdentifyDisk(file_).value();
  }

  /// A profile of this disk: knee at `depth`, one size.
  [[nodiscard]] DiskProfile Profile(std::uint32_t depth, std::uint32_t block_bytes = 8192) const {
    DiskProfile profile;
    profile.disk = disk_;
    profile.engine = "io_uring";
    profile.block_bytes = block_bytes;
    profile.queue_depth = depth;
    profile.points = {{.block_bytes = block_bytes, .queue_depth = depth, .iops = 1000}};
    return profile;
  }

  /// Puts it in the default place and returns that.
  [[nodiscard]] std::string SaveDefault(const DiskProfile& profile) const {
    std::string path = DefaultDiskProfilePath(disk_).value();
    const Status status = SaveDiskProfile(profile, path);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return path;
  }

  ReadSettings Resolve(const StoreOptions& options) {
    Result<ReadSettings> settings = ResolveReadSettings(
        options, {file_},
        [this]() -> Result<std::string> {
          ++engine_calls_;
          return engine_;
        },
        [this](std::string_view line) { log_ += std::string(line) + "\n"; });
    if (settings.ok()) return settings.value();
    ADD_FAILURE() << settings.status().ToString();
    return {};
  }

  const ScratchDir cache_;
  const ScratchDir files_;
  const std::string file_ = files_.Write("table", "rows");
  DiskIdentity disk_;
  std::string engine_ = "io_uring";
  int engine_calls_ = 0;
  std::string log_;
};

TEST_F(ApplyProfileTest, NoProfileGivesTheDefaults) {
  const ReadSettings settings = Resolve({});
  EXPECT_EQ(settings.queue_depth, 128U);
  EXPECT_EQ(settings.block_bytes, 0U);
  EXPECT_EQ(settings.profile_paths, "");
  EXPECT_EQ(engine_calls_, 0) << "no profile, no reason to ask";
  EXPECT_EQ(log_, "");
}

TEST_F(ApplyProfileTest, ProfileOfTheDiskFillsWhatIsLeftOpen) {
  const std::string path = SaveDefault(Profile(64));
  ReadSettings settings = Resolve({});
  EXPECT_EQ(settings.queue_depth, 64U);
  EXPECT_EQ(settings.block_bytes, 8192U);
  EXPECT_EQ(settings.profile_paths, path);
  EXPECT_EQ(engine_calls_, 1);

  StoreOptions options;
  options.queue_depth = 7;
  settings = Resolve(options);
  EXPECT_EQ(settings.queue_depth, 7U) << "the caller's word stands";
  EXPECT_EQ(settings.block_bytes, 8192U);

  options.read_block_bytes = 512;
  settings = Resolve(options);
  EXPECT_EQ(settings.queue_depth, 7U);
  EXPECT_EQ(settings.block_bytes, 512U);
  EXPECT_EQ(settings.profile_paths, "");
  EXPECT_EQ(log_, "");
}

TEST_F(ApplyProfileTest, AnotherEnginesProfileIsNotAppliedAndSaid) {
  (void)SaveDefault(Profile(64));
  engine_ = "pread";
  const ReadSettings settings = Resolve({});
  EXPECT_EQ(settings.queue_depth, 128U);
  EXPECT_EQ(settings.profile_paths, "");
  EXPECT_NE(log_.find("measured with io_uring, but pread reads here"), std::string::npos) << log_;
}

TEST_F(ApplyProfileTest, AnotherDisksProfileIsNotAppliedAndSaid) {
  DiskProfile profile = Profile(64);
  profile.disk = {.name = "ext4-other", .description = "a disk elsewhere"};
  (void)SaveDefault(profile);
  EXPECT_EQ(Resolve({}).queue_depth, 128U);
  EXPECT_NE(log_.find("another disk (a disk elsewhere;"), std::string::npos) << log_;
  log_.clear();
  StoreOptions options;
  options.disk_profile_path = files_.File("named.json");
  ASSERT_TRUE(SaveDiskProfile(profile, options.disk_profile_path).ok());
  EXPECT_EQ(Resolve(options).queue_depth, 128U);
  EXPECT_NE(log_.find("named.json is of another disk"), std::string::npos) << log_;
}

TEST_F(ApplyProfileTest, DamagedProfileInTheDefaultPlaceIsIgnoredAndSaid) {
  const std::string path = SaveDefault(Profile(64));
  ASSERT_EQ(truncate(path.c_str(), 100), 0);
  EXPECT_EQ(Resolve({}).queue_depth, 128U);
  EXPECT_NE(log_.find("ignored"), std::string::npos) << log_;
  EXPECT_NE(log_.find(path), std::string::npos) << log_;
}

TEST_F(ApplyProfileTest, NamedProfileMustBeThereAndGood) {
  (void)SaveDefault(Profile(64));
  const auto refusal = [this](const StoreOptions& options) {
    const Result<ReadSettings> settings = ResolveReadSettings(
        options, {file_}, []() -> Result<std::string> { return std::string("io_uring"); },
        [](std::string_view) {});
    return settings.ok() ? StatusCode::kOk : settings.status().code();
  };
  StoreOptions options;
  options.disk_profile_path = files_.File("none.json");
  EXPECT_EQ(refusal(options), StatusCode::kNotFound);
  options.disk_profile_path = files_.Write("bad.json", "{");
  EXPECT_EQ(refusal(options), StatusCode::kInvalidArgument);
  options.queue_depth = 1;
  options.read_block_bytes = 4096;
  EXPECT_EQ(refusal(options), StatusCode::kInvalidArgument) << "even where nothing is left open";
  options = {};
  options.disk_profile_path = files_.File("good.json");
  ASSERT_TRUE(SaveDiskProfile(Profile(32), options.disk_profile_path).ok());
  EXPECT_EQ(Resolve(options).queue_depth, 32U) << "and is taken before the default place's";
}

TEST_F(ApplyProfileTest, SeveralDisksShareTheDeepestAndTheLargest) {
  Result<DiskIdentity> proc = IdentifyDisk("/proc/version");
  ASSERT_TRUE(proc.ok());
  (void)SaveDefault(Profile(64, 512));
  DiskProfile other = Profile(16, 4096);
  other.disk = proc.value();
  ASSERT_TRUE(SaveDiskProfile(other, DefaultDiskProfilePath(proc.value()).value()).ok());
  Result<ReadSettings> settings = ResolveReadSettings(
      {}, {file_, "/proc/version"}, []() -> Result<std::string> { return std::string("io_uring"); },
      [this](std::string_view line) { log_ += line; });
  ASSERT_TRUE(settings.ok());
  EXPECT_EQ(settings.value().queue_depth, 64U);
  EXPECT_EQ(settings.value().block_bytes, 4096U);
  EXPECT_NE(log_.find("2 disks, 2 of which have a profile"), std::string::npos) << log_;
}

TEST_F(ApplyProfileTest, StoreAppliesItAndSaysSo) {
  const MadeCheckpoint made({});
  disk_ = IdentifyDisk(made.path()).value();
  DiskProfile profile = Profile(24, 8192);
  profile.engine = "pread";
  const std::string path = SaveDefault(profile);
  StoreOptions options;
  options.dram_budget_bytes = 64 << 20;
  options.engine = Engine::kPread;
  Result<std::unique_ptr<Store>> store = Store::Open(made.path(), options);
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  const StoreStats stats = store.value()->Stats();
  EXPECT_EQ(stats.queue_depth, 24U);
  EXPECT_EQ(stats.disk_profile, path);
  if (stats.engine_description.find("O_DIRECT,") != std::string::npos) {
    EXPECT_EQ(stats.read_block_bytes, 8192U);
  }
}

TEST_F(ApplyProfileTest, StoreOnADeviceOfTheTestsLooksIntoNobodysHome) {
  const MadeCheckpoint made({});
  disk_ = IdentifyDisk(made.path()).value();
  (void)SaveDefault(Profile(24));
  StoreOptions options;
  options.dram_budget_bytes = 64 << 20;
  std::uint32_t depth_seen = 0;
  Result<std::unique_ptr<Store>> store =
      OpenStoreOn(InspectCheckpoint(made.path()).value(), options,
                  [&](const std::vector<std::string>& paths, const DeviceOptions& device) {
                    depth_seen = device.depth;
                    return OpenDevice(EngineChoice::kAuto, paths, device);
                  });
  ASSERT_TRUE(store.ok()) << store.status().ToString();
  EXPECT_EQ(depth_seen, 128U);
  EXPECT_EQ(store.value()->Stats().queue_depth, 128U);
  EXPECT_EQ(store.value()->Stats().disk_profile, "");
}

TEST_F(ApplyProfileTest, BlockThatIsNoPowerOfTwoIsRefusedByName) {
  const MadeCheckpoint made({});
  for (const std::uint32_t block_bytes : {3000U, 131072U}) {
    StoreOptions options;
    options.read_block_bytes = block_bytes;
    const Result<std::unique_ptr<Store>> store = Store::Open(made.path(), options);
    ASSERT_FALSE(store.ok());
    EXPECT_EQ(store.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(store.status().message().find("read_block_bytes"), std::string::npos);
  }
}

}  // namespace
}  // namespace tiercel
