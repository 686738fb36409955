#ifndef TIERCEL_DISK_PROFILE_H_
#define TIERCEL_DISK_PROFILE_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

/// Random reads of one size, so many of them in flight, as they were measured: each
/// figure is the median over the slices of time that the point was given.
struct DiskPoint {
  std::uint32_t block_bytes = 0;  ///< Size and alignment of a read. A power of two.
  std::uint32_t queue_depth = 0;  ///< Reads in flight, of one thread.
  double iops = 0.0;              ///< Reads a second.
  std::uint64_t p50_ns = 0;       ///< Latency, from the submission of a read to its data.
  std::uint64_t p99_ns = 0;
  std::uint64_t p999_ns = 0;
  double cpu_ns_per_read = 0.0;  ///< CPU time of the whole process, kernel included.
};

/// Which settings suit a disk, by its points.
struct DiskChoice {
  std::uint32_t block_bytes = 0;
  std::uint32_t queue_depth = 0;
  double iops_max = 0.0;      ///< Best of that block size, at whichever depth.
  bool still_rising = false;  ///< The depth is the deepest of several: more may be faster.
};

/// The settings that a store should use, from the points of one disk and engine.
///
/// The depth is the knee: the smallest that gives 95 % of the best reads a second of its
/// block size. By Little's law (reads in flight = reads a second x latency), beyond the
/// knee a deeper queue buys latency and nothing else; 5 % is what two runs on one idle
/// disk differ by, so a smaller difference says nothing.
///
/// The block is the largest, unless a smaller one is more than 5 % faster, for the same
/// reason, both at its best and at the middle one of the depths that both have: whole
/// blocks are what the disk reads and checks in one piece.
///
/// Errors: kInvalidArgument (no point, or one without reads).
[[nodiscard]] Result<DiskChoice> ChooseDiskSettings(std::span<const DiskPoint> points);

/// Which disk a file lies on.
struct DiskIdentity {
  /// Letters, digits, '-', '_' and '.' alone: a part of a file name. Holds the kind and
  /// id of the file system, the numbers of its device, and the disk's model and serial
  /// where /sys tells them. The same after a reboot, as far as those are.
  std::string name;
  std::string description;  ///< For people: "ext4 on 259:1 (Model X, serial Y)".
};

/// The disk of the file or directory at `path`.
/// Errors: kNotFound, kPermissionDenied, kIoError; the message names `path`.
[[nodiscard]] Result<DiskIdentity> IdentifyDisk(const std::string& path);

/// What is known of one disk read through one engine. See `tiercel calibrate`.
struct DiskProfile {
  DiskIdentity disk;
  std::string engine;             ///< "io_uring" or "pread".
  std::string engine_fallback;    ///< Empty, or why Engine::kAuto was not io_uring.
  bool direct = true;             ///< False: no O_DIRECT there; the page cache was measured.
  std::uint32_t block_bytes = 0;  ///< As ChooseDiskSettings() found.
  std::uint32_t queue_depth = 0;  ///< As ChooseDiskSettings() found.
  std::vector<DiskPoint> points;  ///< By block size, then depth; both rise.
};

struct CalibrateOptions {
  /// Time for each point, in five slices. In [0.001, 3600].
  double seconds_per_point = 1.5;
  /// Depths to try, each in [1, 4096]. Empty: 1, 2, 4, ... 512.
  std::vector<std::uint32_t> depths;
  /// Read sizes to try: powers of two up to 65536. Empty: 512 B where O_DIRECT takes it,
  /// and 4096 B.
  std::vector<std::uint32_t> block_bytes;
  std::uint64_t seed = 1;  ///< Which places are read. Take another for another run.
  Engine engine = Engine::kAuto;
  /// Called between slices, with the slices that are done and all of them. False stops.
  std::function<bool(std::uint64_t done, std::uint64_t total)> progress;
};

/// Measures random reads of `paths`: large files, all on one disk.
///
/// No place is read twice: disks and hosts of virtual machines keep what was read. A
/// slice ends early when its share of the places is used up. The slices of a point are
/// spread over the whole time, shallow and deep ones in turns, so that a disk that gets
/// slower or faster meanwhile (others use it too) favours neither.
///
/// Blocks for about depths x sizes x seconds_per_point. Reads only.
///
/// Errors: kInvalidArgument (an option out of range, no path, files on several disks, or
/// too small to be read at random: the message says how large they must be), kNotFound,
/// kPermissionDenied, kUnavailable (Engine::kUring where there is none),
/// kResourceExhausted, kIoError (a read failed; its file and offset are named),
/// kCancelled.
[[nodiscard]] Result<DiskProfile> CalibrateDisk(const std::vector<std::string>& paths,
                                                const CalibrateOptions& options);

/// Where the profile of `disk` is kept: disk-NAME.json in $XDG_CACHE_HOME/tiercel, or
/// else in $HOME/.cache/tiercel. Errors: kNotFound (neither variable is an absolute path).
[[nodiscard]] Result<std::string> DefaultDiskProfilePath(const DiskIdentity& disk);

/// The profile as JSON text, for SaveDiskProfile() and for people.
[[nodiscard]] std::string DiskProfileJson(const DiskProfile& profile);

/// Reads what DiskProfileJson() wrote, and checks that it makes sense.
/// Errors: kInvalidArgument; the message names `source_name` and the key.
[[nodiscard]] Result<DiskProfile> ParseDiskProfile(std::string_view text,
                                                   std::string_view source_name);

/// Puts the profile at `path`, whole or not at all; makes missing directories.
/// Errors: kPermissionDenied, kResourceExhausted, kIoError.
[[nodiscard]] Status SaveDiskProfile(const DiskProfile& profile, const std::string& path);

/// Errors: as ParseDiskProfile; kNotFound, kPermissionDenied, kIoError.
[[nodiscard]] Result<DiskProfile> LoadDiskProfile(const std::string& path);

}  // namespace tiercel

#endif  // TIERCEL_DISK_PROFILE_H_
