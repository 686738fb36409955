// Goal: the settings of a disk follow from its points by the stated rule; a profile that
// was saved is read back as it was, and one that is damaged, of another version or makes
// no sense is refused with its path and key; a disk has one identity.
//
// Method: made curves of reads a second over depth (flat, saturating, noisy, rising, one
// point); a good profile, then the same with one key changed at a time, then with seeded
// damage to its bytes. Repeat a seed with TIERCEL_TEST_SEED.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/disk_profile.h"

namespace tiercel {
namespace {

using ::tiercel::testing::ScratchDir;

/// Points at depths 1, 2, 4, ... with these reads a second.
std::vector<DiskPoint> Curve(std::uint32_t block_bytes, const std::vector<double>& iops) {
  std::vector<DiskPoint> points;
  for (std::size_t i = 0; i < iops.size(); ++i) {
    points.push_back({.block_bytes = block_bytes,
                      .queue_depth = 1U << i,
                      .iops = iops[i],
                      .p50_ns = 80'000,
                      .p99_ns = 150'000,
                      .p999_ns = 400'000,
                      .cpu_ns_per_read = 1234.5});
  }
  return points;
}

std::vector<DiskPoint> Both(std::vector<DiskPoint> a, const std::vector<DiskPoint>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

DiskChoice Choose(const std::vector<DiskPoint>& points) {
  Result<DiskChoice> choice = ChooseDiskSettings(points);
  if (choice.ok()) return choice.value();
  ADD_FAILURE() << choice.status().ToString();
  return {};
}

TEST(ChooseDiskSettings, TakesTheFirstDepthThatIsAsGoodAsTheBest) {
  const DiskChoice choice = Choose(Curve(4096, {10e3, 20e3, 40e3, 70e3, 95e3, 99e3, 100e3, 100e3}));
  EXPECT_EQ(choice.block_bytes, 4096U);
  EXPECT_EQ(choice.queue_depth, 16U) << "95,000 is 95 % of 100,000";
  EXPECT_EQ(choice.iops_max, 100e3);
  EXPECT_FALSE(choice.still_rising);
}

TEST(ChooseDiskSettings, FlatCurveNeedsNoDepth) {
  const DiskChoice choice = Choose(Curve(4096, {100e3, 101e3, 99e3, 102e3}));
  EXPECT_EQ(choice.queue_depth, 1U);
  EXPECT_FALSE(choice.still_rising);
}

TEST(ChooseDiskSettings, NoiseBelowTheMarginDoesNotMoveTheKnee) {
  const DiskChoice choice = Choose(Curve(4096, {25e3, 50e3, 97e3, 99e3, 96e3, 100e3, 95.5e3}));
  EXPECT_EQ(choice.queue_depth, 4U);
}

TEST(ChooseDiskSettings, CurveThatFallsAtTheEndHasItsKneeBefore) {
  const DiskChoice choice = Choose(Curve(4096, {50e3, 90e3, 100e3, 60e3, 40e3}));
  EXPECT_EQ(choice.queue_depth, 4U);
  EXPECT_FALSE(choice.still_rising);
}

TEST(ChooseDiskSettings, StillRisingIsSaid) {
  const DiskChoice choice = Choose(Curve(4096, {10e3, 20e3, 40e3, 80e3}));
  EXPECT_EQ(choice.queue_depth, 8U);
  EXPECT_TRUE(choice.still_rising);
}

TEST(ChooseDiskSettings, SinglePointIsItsOwnKnee) {
  const DiskChoice choice = Choose(Curve(512, {10e3}));
  EXPECT_EQ(choice.block_bytes, 512U);
  EXPECT_EQ(choice.queue_depth, 1U);
  EXPECT_FALSE(choice.still_rising) << "one depth shows no slope";
}

TEST(ChooseDiskSettings, SmallerBlockMustBeClearlyFaster) {
  const std::vector<DiskPoint> large = Curve(4096, {50e3, 100e3, 100e3});
  EXPECT_EQ(Choose(Both(Curve(512, {60e3, 60e3, 105e3}), large)).block_bytes, 4096U);
  const DiskChoice choice = Choose(Both(Curve(512, {60e3, 60e3, 106e3}), large));
  EXPECT_EQ(choice.block_bytes, 512U);
  EXPECT_EQ(choice.queue_depth, 4U) << "the knee of the block that was chosen";
}

TEST(ChooseDiskSettings, OneLuckyDepthDoesNotMakeABlockFaster) {
  const std::vector<DiskPoint> large = Curve(4096, {50e3, 100e3, 100e3, 100e3});
  EXPECT_EQ(Choose(Both(Curve(512, {50e3, 100e3, 100e3, 150e3}), large)).block_bytes, 4096U);
  // Two in the middle that disagree are doubt.
  EXPECT_EQ(Choose(Both(Curve(512, {50e3, 100e3, 150e3, 150e3}), large)).block_bytes, 4096U);
  EXPECT_EQ(Choose(Both(Curve(512, {50e3, 150e3, 150e3, 150e3}), large)).block_bytes, 512U);
}

TEST(ChooseDiskSettings, OrderOfThePointsDoesNotMatter) {
  std::vector<DiskPoint> points =
      Both(Curve(512, {10e3, 60e3, 80e3}), Curve(4096, {50e3, 98e3, 100e3}));
  const DiskChoice sorted = Choose(points);
  Prng prng(7);
  for (int i = 0; i < 50; ++i) {
    for (std::size_t j = points.size() - 1; j > 0; --j) {
      std::swap(points[j], points[prng.Below(j + 1)]);
    }
    EXPECT_EQ(Choose(points).queue_depth, sorted.queue_depth);
    EXPECT_EQ(Choose(points).block_bytes, sorted.block_bytes);
  }
}

TEST(ChooseDiskSettings, NothingToChooseFromIsRefused) {
  EXPECT_EQ(ChooseDiskSettings({}).status().code(), StatusCode::kInvalidArgument);
  for (const double iops : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN(),
                            std::numeric_limits<double>::infinity()}) {
    EXPECT_EQ(ChooseDiskSettings(Curve(4096, {1e3, iops})).status().code(),
              StatusCode::kInvalidArgument);
  }
}

DiskProfile GoodProfile() {
  DiskProfile profile;
  profile.disk = {.name = "ext4-0123-259-1-Model_X", .description = "ext4 on 259:1 (Model \"X\")"};
  profile.engine = "io_uring";
  profile.points = Both(Curve(512, {10e3, 20e3 / 3.0}), Curve(4096, {50e3, 98e3, 100e3}));
  profile.block_bytes = 4096;
  profile.queue_depth = 2;
  return profile;
}

void ExpectSame(const DiskProfile& a, const DiskProfile& b) {
  EXPECT_EQ(a.disk.name, b.disk.name);
  EXPECT_EQ(a.disk.description, b.disk.description);
  EXPECT_EQ(a.engine, b.engine);
  EXPECT_EQ(a.engine_fallback, b.engine_fallback);
  EXPECT_EQ(a.direct, b.direct);
  EXPECT_EQ(a.block_bytes, b.block_bytes);
  EXPECT_EQ(a.queue_depth, b.queue_depth);
  ASSERT_EQ(a.points.size(), b.points.size());
  for (std::size_t i = 0; i < a.points.size(); ++i) {
    EXPECT_EQ(a.points[i].block_bytes, b.points[i].block_bytes);
    EXPECT_EQ(a.points[i].queue_depth, b.points[i].queue_depth);
    EXPECT_EQ(a.points[i].iops, b.points[i].iops) << "to the last bit";
    EXPECT_EQ(a.points[i].p50_ns, b.points[i].p50_ns);
    EXPECT_EQ(a.points[i].p99_ns, b.points[i].p99_ns);
    EXPECT_EQ(a.points[i].p999_ns, b.points[i].p999_ns);
    EXPECT_EQ(a.points[i].cpu_ns_per_read, b.points[i].cpu_ns_per_read);
  }
}

TEST(DiskProfileFile, IsReadBackAsItWasSaved) {
  const ScratchDir scratch;
  DiskProfile profile = GoodProfile();
  profile.direct = false;
  profile.engine = "pread";
  profile.engine_fallback = "kernel.io_uring_disabled is 2";
  const std::string path = scratch.File("new/folders/disk.json");
  const Status saved = SaveDiskProfile(profile, path);
  ASSERT_TRUE(saved.ok()) << saved.ToString();
  Result<DiskProfile> loaded = LoadDiskProfile(path);
  ASSERT_TRUE(loaded.ok()) << loaded.status().ToString();
  ExpectSame(loaded.value(), profile);
}

TEST(DiskProfileFile, TextThatIsNoUtf8IsStillSaved) {
  DiskProfile profile = GoodProfile();
  profile.disk.description = "Model \xFF";
  EXPECT_TRUE(ParseDiskProfile(DiskProfileJson(profile), "p.json").ok());
}

TEST(DiskProfileFile, MissingFileIsNotFound) {
  const ScratchDir scratch;
  const Result<DiskProfile> loaded = LoadDiskProfile(scratch.File("none.json"));
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.status().code(), StatusCode::kNotFound);
  EXPECT_NE(loaded.status().message().find("none.json"), std::string::npos);
}

/// The message for a good profile that was changed, or "" if it was accepted.
std::string RefusalOf(const std::function<void(nlohmann::json&)>& change) {
  nlohmann::json json = nlohmann::json::parse(DiskProfileJson(GoodProfile()));
  change(json);
  const Result<DiskProfile> result = ParseDiskProfile(json.dump(), "p.json");
  if (result.ok()) return "";
  EXPECT_EQ(result.status().code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(result.status().message().starts_with("p.json: ")) << result.status().message();
  return std::string(result.status().message());
}

TEST(DiskProfileFile, EveryKeyMustBeThereAndNoOther) {
  EXPECT_EQ(RefusalOf([](nlohmann::json&) {}), "");
  const nlohmann::json good = nlohmann::json::parse(DiskProfileJson(GoodProfile()));
  for (const auto& item : good.items()) {
    const std::string quoted = "\"" + item.key() + "\" is missing";
    EXPECT_NE(RefusalOf([&](nlohmann::json& j) { j.erase(item.key()); }).find(quoted),
              std::string::npos)
        << item.key();
  }
  for (const auto& item : good["points"][1].items()) {
    const std::string quoted = "\"points[1]." + item.key() + "\" is missing";
    EXPECT_NE(RefusalOf([&](nlohmann::json& j) { j["points"][1].erase(item.key()); }).find(quoted),
              std::string::npos)
        << item.key();
  }
  EXPECT_NE(RefusalOf([](nlohmann::json& j) { j["speed"] = 1; }).find("\"speed\" is not a key"),
            std::string::npos);
  EXPECT_NE(RefusalOf([](nlohmann::json& j) { j["points"][0]["x"] = 1; }).find("points[0].x"),
            std::string::npos);
}

TEST(DiskProfileFile, ValuesThatCannotBeAreRefusedByKey) {
  struct Case {
    const char* pointer;
    nlohmann::json value;
    const char* in_message;
  };
  const std::vector<Case> cases = {
      {"/format", "another", "\"format\""},
      {"/format", 3, "\"format\""},
      {"/version", 2, "\"version\" is 2"},
      {"/version", -1, "\"version\""},
      {"/version", 1.5, "\"version\""},
      {"/disk", "../../etc/passwd", "\"disk\""},
      {"/disk", "", "\"disk\""},
      {"/disk", std::string(300, 'a'), "\"disk\""},
      {"/disk_description", std::string(2000, 'a'), "\"disk_description\""},
      {"/engine", "mmap", "\"engine\""},
      {"/direct", 1, "\"direct\""},
      {"/block_bytes", 0, "\"block_bytes\""},
      {"/block_bytes", 3000, "\"block_bytes\""},
      {"/block_bytes", 131072, "\"block_bytes\""},
      {"/queue_depth", 0, "\"queue_depth\""},
      {"/queue_depth", 4097, "\"queue_depth\""},
      {"/queue_depth", 4294967297, "\"queue_depth\""},
      {"/queue_depth", "2", "\"queue_depth\""},
      {"/queue_depth", 1, "\"queue_depth\" 1 do not follow"},
      {"/block_bytes", 512, "\"block_bytes\" 512"},
      {"/points", nlohmann::json::array(), "\"points\""},
      {"/points", "none", "\"points\""},
      {"/points/1", 7, "points[1]"},
      {"/points/0/iops", 0, "points[0].iops"},
      {"/points/0/iops", -5.0, "points[0].iops"},
      {"/points/0/iops", 1e300, "points[0].iops"},
      {"/points/0/iops", nullptr, "points[0].iops"},
      {"/points/2/p50_ns", 150'001, "points[2].p99_ns"},
      {"/points/2/p99_ns", 400'001, "points[2].p999_ns"},
      {"/points/2/cpu_ns_per_read", -1, "points[2].cpu_ns_per_read"},
      {"/points/1/queue_depth", 1, "points[1]"},
      {"/points/2/block_bytes", 256, "points[2]"},
  };
  for (const Case& c : cases) {
    const std::string message =
        RefusalOf([&](nlohmann::json& j) { j[nlohmann::json::json_pointer(c.pointer)] = c.value; });
    EXPECT_NE(message.find(c.in_message), std::string::npos)
        << c.pointer << " = " << c.value.dump() << ": " << message;
  }
}

TEST(DiskProfileFile, DamageGivesAProfileThatMakesSenseOrAClearError) {
  const char* const given = std::getenv("TIERCEL_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : 20260;
  SCOPED_TRACE(fmt::format("TIERCEL_TEST_SEED={}", seed));
  const std::string good = DiskProfileJson(GoodProfile());
  Prng prng(seed);
  int refused = 0;
  constexpr int kTrials = 5000;
  for (int trial = 0; trial < kTrials; ++trial) {
    std::string text = good;
    for (std::uint64_t i = 0, edits = 1 + prng.Below(3); i < edits && !text.empty(); ++i) {
      const std::size_t at = prng.Below(text.size());
      switch (prng.Below(4)) {
        case 0:
          text[at] = static_cast<char>(prng.Below(256));
          break;
        case 1:
          text.erase(at, 1 + prng.Below(20));
          break;
        case 2:
          text.insert(at, text.substr(prng.Below(text.size()), prng.Below(20)));
          break;
        default:
          text[at] = static_cast<char>('0' + prng.Below(10));
      }
    }
    const Result<DiskProfile> result = ParseDiskProfile(text, "p.json");
    if (!result.ok()) {
      ++refused;
      EXPECT_EQ(result.status().code(), StatusCode::kInvalidArgument);
      EXPECT_TRUE(result.status().message().starts_with("p.json: ")) << result.status().message();
      continue;
    }
    const DiskChoice choice = Choose(result.value().points);
    EXPECT_EQ(choice.queue_depth, result.value().queue_depth);
    EXPECT_EQ(choice.block_bytes, result.value().block_bytes);
    EXPECT_LE(result.value().queue_depth, 4096U);
  }
  EXPECT_GT(refused, kTrials / 2) << "the damage was too gentle to test anything";
}

TEST(IdentifyDisk, IsTheSameForAllThatLiesOnOneDisk) {
  const ScratchDir scratch;
  const std::string a = scratch.Write("a", "text");
  Result<DiskIdentity> of_file = IdentifyDisk(a);
  Result<DiskIdentity> of_folder = IdentifyDisk(scratch.path());
  ASSERT_TRUE(of_file.ok() && of_folder.ok());
  EXPECT_EQ(of_file.value().name, of_folder.value().name);
  EXPECT_FALSE(of_file.value().name.empty());
  EXPECT_EQ(of_file.value().name.find('/'), std::string::npos);
  EXPECT_FALSE(of_file.value().description.empty());
  // Its own profile must pass the check of names.
  DiskProfile profile = GoodProfile();
  profile.disk = of_file.value();
  EXPECT_TRUE(ParseDiskProfile(DiskProfileJson(profile), "p.json").ok());
}

TEST(IdentifyDisk, FileSystemsDiffer) {
  Result<DiskIdentity> proc = IdentifyDisk("/proc");
  Result<DiskIdentity> here = IdentifyDisk(ScratchDir().path() + "/..");
  ASSERT_TRUE(proc.ok() && here.ok());
  EXPECT_NE(proc.value().name, here.value().name);
}

TEST(IdentifyDisk, MissingFileIsNamed) {
  const Result<DiskIdentity> disk = IdentifyDisk("/no/such/file");
  ASSERT_FALSE(disk.ok());
  EXPECT_EQ(disk.status().code(), StatusCode::kNotFound);
  EXPECT_NE(disk.status().message().find("/no/such/file"), std::string::npos);
}

/// Sets or unsets a variable until the end of its scope.
class ScopedVariable {
 public:
  ScopedVariable(const char* name, const char* value) : name_(name) {
    if (const char* const old = std::getenv(name)) old_ = old;
    Set(value);
  }
  ScopedVariable(const ScopedVariable&) = delete;
  ScopedVariable& operator=(const ScopedVariable&) = delete;
  ~ScopedVariable() { Set(old_ ? old_->c_str() : nullptr); }

 private:
  void Set(const char* value) const {
    if (value != nullptr) {
      setenv(name_, value, 1);
    } else {
      unsetenv(name_);
    }
  }

  const char* name_;
  std::optional<std::string> old_;
};

TEST(DefaultDiskProfilePath, FollowsTheUsersEnvironment) {
  const DiskIdentity disk{.name = "ext4-1", .description = ""};
  const ScopedVariable home("HOME", "/home/ann");
  const ScopedVariable cache("XDG_CACHE_HOME", "/var/cache/ann");
  EXPECT_EQ(DefaultDiskProfilePath(disk).value(), "/var/cache/ann/tiercel/disk-ext4-1.json");
  {
    const ScopedVariable relative("XDG_CACHE_HOME", "relative");
    EXPECT_EQ(DefaultDiskProfilePath(disk).value(), "/home/ann/.cache/tiercel/disk-ext4-1.json");
  }
  const ScopedVariable no_cache("XDG_CACHE_HOME", nullptr);
  EXPECT_EQ(DefaultDiskProfilePath(disk).value(), "/home/ann/.cache/tiercel/disk-ext4-1.json");
  const ScopedVariable no_home("HOME", nullptr);
  EXPECT_EQ(DefaultDiskProfilePath(disk).status().code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace tiercel
