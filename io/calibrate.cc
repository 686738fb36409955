#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <new>
#include <numeric>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file.h"
#include "io/calibrate_slice.h"
#include "io/device.h"
#include "io/direct_io.h"
#include "io/file_set.h"
#include "tiercel/disk_profile.h"

// What is measured when, and what becomes of it; one slice of it is calibrate_slice.cc.

namespace tiercel {
namespace {

/// Slices of a point. An odd number, so that the median is one of them; five, so that
/// two that somebody else's work has spoilt do not decide.
constexpr std::size_t kSliceCount = 5;
/// Reads that a slice needs of its places, in queues full: one to get under way, and
/// seven for figures to come from.
constexpr std::uint64_t kQueuesPerSlice = 8;
/// Places are no smaller than this: a disk that reads 4096 B for 512 B keeps all of them.
constexpr std::uint32_t kPlaceBytesMin = 4096;
constexpr std::uint32_t kBlockBytesMin = 512;
constexpr std::size_t kListSizeMax = 64;

/// The options with their defaults filled in, for the files at hand.
struct Plan {
  std::vector<std::uint32_t> depths;
  std::vector<std::uint32_t> block_bytes;
  std::vector<std::uint64_t> file_size_bytes;
  bool direct = true;

  [[nodiscard]] std::size_t point_count() const { return depths.size() * block_bytes.size(); }
  [[nodiscard]] std::size_t slice_count() const { return point_count() * kSliceCount; }
  [[nodiscard]] std::uint32_t place_bytes() const {
    return std::max(kPlaceBytesMin, block_bytes.back());
  }
  /// Places without which some slice would have too few reads.
  [[nodiscard]] std::uint64_t place_count_min() const {
    const std::uint64_t depth_sum = std::accumulate(depths.begin(), depths.end(), std::uint64_t{0});
    return depth_sum * block_bytes.size() * kSliceCount * kQueuesPerSlice;
  }
};

Status Refuse(std::string message) {
  return Status(StatusCode::kInvalidArgument, std::move(message));
}

void SortUnique(std::vector<std::uint32_t>& values) {
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
}

Status CheckOptions(const CalibrateOptions& options) {
  // Written so that NaN fails.
  if (!(options.seconds_per_point >= 0.001 && options.seconds_per_point <= 3600)) {
    return Refuse(
        fmt::format("CalibrateOptions::seconds_per_point is {}: it must be in [0.001, "
                    "3600]",
                    options.seconds_per_point));
  }
  if (options.depths.size() > kListSizeMax || options.block_bytes.size() > kListSizeMax) {
    return Refuse(fmt::format("CalibrateOptions has more than {} depths or sizes", kListSizeMax));
  }
  for (const std::uint32_t depth : options.depths) {
    if (depth < 1 || depth > 4096) {
      return Refuse(fmt::format("CalibrateOptions::depths has {}: it must be in [1, 4096]", depth));
    }
  }
  for (const std::uint32_t block_bytes : options.block_bytes) {
    if (!std::has_single_bit(block_bytes) || block_bytes < kBlockBytesMin ||
        block_bytes > kReadBlockBytesMax) {
      return Refuse(
          fmt::format("CalibrateOptions::block_bytes has {}: it must be a power of two "
                      "in [{}, {}]",
                      block_bytes, kBlockBytesMin, kReadBlockBytesMax));
    }
  }
  return Status();
}

/// One disk for all, or there is nothing to be said about it.
Result<DiskIdentity> IdentifyDisks(const std::vector<std::string>& paths) {
  if (paths.empty()) return Refuse("no file to read: give large files on the disk to calibrate");
  std::optional<DiskIdentity> disk;
  for (const std::string& path : paths) {
    Result<DiskIdentity> next = IdentifyDisk(path);
    if (!next.ok()) return std::move(next).TakeStatus();
    if (disk && disk->name != next.value().name) {
      return Refuse(
          fmt::format("{} lies on {}, but {} on {}: calibrate each disk with its own "
                      "files",
                      paths[0], disk->description, path, next.value().description));
    }
    disk = std::move(next).value();
  }
  return *disk;
}

/// Linux 6.6 gave tmpfs an O_DIRECT that reads the page cache all the same.
bool IsInMemory(const DiskIdentity& disk) {
  return disk.name.starts_with("tmpfs-") || disk.name.starts_with("ramfs-");
}

Result<Plan> MakePlan(const std::vector<std::string>& paths, const DiskIdentity& disk,
                      const CalibrateOptions& options) {
  Result<FileSet> files = OpenFileSet(paths, {.direct = true});
  if (!files.ok()) return std::move(files).TakeStatus();
  Plan plan;
  plan.direct = files.value().all_direct() && !IsInMemory(disk);
  std::uint32_t alignment_bytes = 1;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    const FileDescriptor& file = files.value().files[i];
    Result<std::uint64_t> size_bytes = FileSizeBytes(file, paths[i]);
    if (!size_bytes.ok()) return std::move(size_bytes).TakeStatus();
    plan.file_size_bytes.push_back(size_bytes.value());
    if (plan.direct) {
      alignment_bytes = std::max(alignment_bytes, DirectIoLimitsOf(file).offset_alignment_bytes);
    }
  }
  plan.depths = options.depths;
  if (plan.depths.empty()) plan.depths = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512};
  plan.block_bytes = options.block_bytes;
  if (plan.block_bytes.empty()) {
    plan.block_bytes = {std::max(alignment_bytes, 4096U)};
    if (plan.direct && alignment_bytes <= 512) plan.block_bytes.push_back(512);
  }
  SortUnique(plan.depths);
  SortUnique(plan.block_bytes);
  if (plan.block_bytes.front() < alignment_bytes) {
    return Refuse(
        fmt::format("reads of {} B cannot be measured: O_DIRECT takes multiples of {} B "
                    "there ({}); leave that size out",
                    plan.block_bytes.front(), alignment_bytes, paths[0]));
  }
  return plan;
}

Status CheckSizes(const Plan& plan, const std::vector<std::string>& paths, const Places& places) {
  if (places.count() >= plan.place_count_min()) return Status();
  const std::uint64_t have_bytes =
      std::accumulate(plan.file_size_bytes.begin(), plan.file_size_bytes.end(), std::uint64_t{0});
  return Refuse(fmt::format(
      "{}{}: {} B are too few to be read at random. At depths up to {} it takes {} B, for no place "
      "is read twice; give larger files, or smaller depths",
      paths[0], paths.size() > 1 ? fmt::format(" and {} more", paths.size() - 1) : "", have_bytes,
      plan.depths.back(), plan.place_count_min() * plan.place_bytes()));
}

/// The order of one round: the first, the last, the second, the last but one, ... and
/// every other round backwards, so that shallow and deep queues share the good times and
/// the bad ones of a disk.
std::vector<std::size_t> RoundOrder(std::size_t count, std::size_t round) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < count; ++i) {
    order.push_back(i % 2 == 0 ? i / 2 : count - 1 - i / 2);
  }
  if (round % 2 == 1) std::reverse(order.begin(), order.end());
  return order;
}

template <typename Field>
auto MedianOf(std::vector<DiskPoint>& slices, Field field) {
  const auto middle = slices.begin() + static_cast<std::ptrdiff_t>(slices.size() / 2);
  std::nth_element(slices.begin(), middle, slices.end(),
                   [field](const DiskPoint& a, const DiskPoint& b) { return a.*field < b.*field; });
  return (*middle).*field;
}

/// Field by field: percentiles keep their order, for the median of the larger of each
/// pair is not below that of the smaller ones.
DiskPoint MedianPoint(std::vector<DiskPoint> slices) {
  DiskPoint point = slices.front();
  point.iops = MedianOf(slices, &DiskPoint::iops);
  point.p50_ns = MedianOf(slices, &DiskPoint::p50_ns);
  point.p99_ns = MedianOf(slices, &DiskPoint::p99_ns);
  point.p999_ns = MedianOf(slices, &DiskPoint::p999_ns);
  point.cpu_ns_per_read = MedianOf(slices, &DiskPoint::cpu_ns_per_read);
  return point;
}

/// Measures all slices of a plan.
class Calibration {
 public:
  Calibration(const std::vector<std::string>& paths, const CalibrateOptions& options,
              const Plan& plan, Places& places)
      : paths_(paths), options_(options), plan_(plan), places_(places) {
    // Depth is the slow index: the two sizes of one depth stand side by side.
    for (const std::uint32_t depth : plan.depths) {
      for (const std::uint32_t block_bytes : plan.block_bytes) {
        specs_.push_back({.block_bytes = block_bytes, .queue_depth = depth});
      }
    }
    slices_.resize(specs_.size());
    spare_places_ = places.count() - plan.place_count_min();
  }

  Status Run(DiskProfile& profile) {
    std::uint64_t done = 0;
    for (std::size_t round = 0; round < kSliceCount; ++round) {
      for (const std::size_t index : RoundOrder(specs_.size(), round)) {
        if (!Report(done)) return Status(StatusCode::kCancelled, "the calibration was stopped");
        if (Status status = MeasureOne(index, done, profile); !status.ok()) return status;
        ++done;
      }
    }
    (void)Report(done);
    for (const std::vector<DiskPoint>& slices : slices_) {
      profile.points.push_back(MedianPoint(slices));
    }
    return Status();
  }

 private:
  [[nodiscard]] bool Report(std::uint64_t done) const {
    return !options_.progress || options_.progress(done, plan_.slice_count());
  }

  Status MeasureOne(std::size_t index, std::uint64_t done, DiskProfile& profile) {
    SliceSpec spec = specs_[index];
    Result<OpenedDevice> opened = OpenDevice(ChoiceOf(options_.engine), paths_,
                                             {.depth = spec.queue_depth,
                                              .read_size_bytes_max = spec.block_bytes,
                                              .block_bytes = spec.block_bytes});
    if (!opened.ok()) return std::move(opened).TakeStatus();
    profile.engine = Name(opened.value().device->engine());
    profile.engine_fallback = opened.value().fallback_reason;
    spec.duration = std::chrono::nanoseconds(
        static_cast<std::int64_t>(options_.seconds_per_point / kSliceCount * 1e9));
    // Each has what it needs at least, and its share of the rest; what slow ones leave
    // over goes to those that come later.
    const std::uint64_t needed = kQueuesPerSlice * spec.queue_depth;
    spec.read_count_max = needed + spare_places_ / (plan_.slice_count() - done);
    const std::uint64_t left_before = places_.left();
    Result<DiskPoint> point = MeasureSlice(*opened.value().device, paths_, spec, places_);
    if (!point.ok()) return std::move(point).TakeStatus();
    spare_places_ += needed;
    spare_places_ -= left_before - places_.left();
    slices_[index].push_back(point.value());
    return Status();
  }

  const std::vector<std::string>& paths_;
  const CalibrateOptions& options_;
  const Plan& plan_;
  Places& places_;
  std::vector<SliceSpec> specs_;
  std::vector<std::vector<DiskPoint>> slices_;  ///< By spec.
  std::uint64_t spare_places_ = 0;              ///< Not needed by any slice to come.
};

Result<DiskProfile> Calibrate(const std::vector<std::string>& paths,
                              const CalibrateOptions& options) {
  if (Status status = CheckOptions(options); !status.ok()) return status;
  Result<DiskIdentity> disk = IdentifyDisks(paths);
  if (!disk.ok()) return std::move(disk).TakeStatus();
  Result<Plan> plan = MakePlan(paths, disk.value(), options);
  if (!plan.ok()) return std::move(plan).TakeStatus();
  Places places(plan.value().file_size_bytes, plan.value().place_bytes(), options.seed);
  if (Status status = CheckSizes(plan.value(), paths, places); !status.ok()) return status;
  DiskProfile profile;
  profile.disk = std::move(disk).value();
  profile.direct = plan.value().direct;
  Calibration calibration(paths, options, plan.value(), places);
  if (Status status = calibration.Run(profile); !status.ok()) return status;
  std::sort(
      profile.points.begin(), profile.points.end(), [](const DiskPoint& a, const DiskPoint& b) {
        return std::pair(a.block_bytes, a.queue_depth) < std::pair(b.block_bytes, b.queue_depth);
      });
  Result<DiskChoice> choice = ChooseDiskSettings(profile.points);
  if (!choice.ok()) return std::move(choice).TakeStatus();
  profile.block_bytes = choice.value().block_bytes;
  profile.queue_depth = choice.value().queue_depth;
  return profile;
}

}  // namespace

Result<DiskProfile> CalibrateDisk(const std::vector<std::string>& paths,
                                  const CalibrateOptions& options) {
  try {
    return Calibrate(paths, options);
  } catch (const std::bad_alloc&) {
    return Status(StatusCode::kResourceExhausted, "no memory to calibrate a disk");
  } catch (const std::system_error& error) {  // A thread that cannot be started.
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("cannot start a thread to calibrate a disk: {}; check 'ulimit -u'",
                              error.what()),
                  error.code().value());
  }
}

}  // namespace tiercel
