#include "tiercel/disk_profile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "base/errno_status.h"
#include "base/file.h"

namespace tiercel {
namespace {

/// A depth is good enough at this share of the best; see ChooseDiskSettings().
constexpr double kKneeShare = 0.95;
/// A smaller block must be this much faster to be taken.
constexpr double kBlockMargin = 1.05;
/// A profile of 64 depths and 8 sizes has 90 KB.
constexpr std::uint64_t kProfileSizeBytesMax = 1U << 20;

/// The knee of one block size, whose points are in the order of their depths.
DiskChoice Knee(std::uint32_t block_bytes, const std::vector<DiskPoint>& points) {
  DiskChoice choice{.block_bytes = block_bytes};
  for (const DiskPoint& point : points) choice.iops_max = std::max(choice.iops_max, point.iops);
  const auto knee = std::find_if(points.begin(), points.end(), [&](const DiskPoint& point) {
    return point.iops >= kKneeShare * choice.iops_max;
  });
  choice.queue_depth = knee->queue_depth;
  choice.still_rising = points.size() > 1 && knee->queue_depth == points.back().queue_depth;
  return choice;
}

/// Whether a smaller block is clearly faster than a larger one: at its best, and at the
/// middle one of the depths that both were measured at, so that one lucky slice of a
/// shared disk does not decide. Points are in the order of their depths.
bool ClearlyFaster(const std::vector<DiskPoint>& smaller, const std::vector<DiskPoint>& larger) {
  std::vector<double> ratios;
  double best_of_smaller = 0;
  double best_of_larger = 0;
  for (const DiskPoint& point : larger) best_of_larger = std::max(best_of_larger, point.iops);
  for (const DiskPoint& point : smaller) {
    best_of_smaller = std::max(best_of_smaller, point.iops);
    for (const DiskPoint& other : larger) {
      if (other.queue_depth == point.queue_depth) ratios.push_back(point.iops / other.iops);
    }
  }
  if (best_of_smaller <= kBlockMargin * best_of_larger) return false;
  std::sort(ratios.begin(), ratios.end());
  // The lower one of two in the middle: in doubt, the larger block.
  return ratios.empty() || ratios[(ratios.size() - 1) / 2] > kBlockMargin;
}

/// An absolute path in the environment, or empty: the XDG base directory specification
/// has relative ones ignored.
std::string DirectoryOf(const char* variable) {
  const char* const value = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe)
  return value != nullptr && value[0] == '/' ? value : "";
}

}  // namespace

Result<DiskChoice> ChooseDiskSettings(std::span<const DiskPoint> points) {
  std::map<std::uint32_t, std::vector<DiskPoint>> by_block;
  for (const DiskPoint& point : points) {
    if (!std::isfinite(point.iops) || point.iops <= 0.0 || point.queue_depth == 0) {
      return Status(StatusCode::kInvalidArgument,
                    fmt::format("a point of {} B at depth {} has {} reads a second",
                                point.block_bytes, point.queue_depth, point.iops));
    }
    by_block[point.block_bytes].push_back(point);
  }
  if (by_block.empty()) {
    return Status(StatusCode::kInvalidArgument,
                  "no point was measured: there is nothing to choose");
  }
  DiskChoice chosen;
  const std::vector<DiskPoint>* chosen_points = nullptr;
  for (auto block = by_block.rbegin(); block != by_block.rend(); ++block) {
    std::sort(block->second.begin(), block->second.end(),
              [](const DiskPoint& a, const DiskPoint& b) { return a.queue_depth < b.queue_depth; });
    if (chosen_points != nullptr && !ClearlyFaster(block->second, *chosen_points)) continue;
    chosen = Knee(block->first, block->second);
    chosen_points = &block->second;
  }
  return chosen;
}

Result<std::string> DefaultDiskProfilePath(const DiskIdentity& disk) {
  std::string directory = DirectoryOf("XDG_CACHE_HOME");
  if (directory.empty()) {
    directory = DirectoryOf("HOME");
    if (!directory.empty()) directory += "/.cache";
  }
  if (directory.empty()) {
    return Status(StatusCode::kNotFound,
                  "neither XDG_CACHE_HOME nor HOME is an absolute path: there is no place for disk "
                  "profiles; set one of them, or name the profile's file");
  }
  return fmt::format("{}/tiercel/disk-{}.json", directory, disk.name);
}

Status SaveDiskProfile(const DiskProfile& profile, const std::string& path) {
  const std::filesystem::path directory = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!directory.empty()) std::filesystem::create_directories(directory, error);
  if (error) return ErrnoStatus(error.value(), "make the directory " + directory.string());
  return WriteFileAtomically(path, DiskProfileJson(profile));
}

Result<DiskProfile> LoadDiskProfile(const std::string& path) {
  Result<std::string> text = ReadWholeFile(path, kProfileSizeBytesMax);
  if (!text.ok()) return std::move(text).TakeStatus();
  return ParseDiskProfile(text.value(), path);
}

}  // namespace tiercel
