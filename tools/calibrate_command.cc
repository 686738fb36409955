// tiercel calibrate: how deep to queue on a disk, and what to read in one piece.

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/disk_profile.h"
#include "tools/calibrate_report.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/progress.h"

namespace tiercel::tools {
namespace {

/// Smaller files of a directory are left out: they would only add to its open files.
constexpr std::uint64_t kFileBytesMin = std::uint64_t{64} << 20;
/// Reads of a calibration are spread over this many files at most.
constexpr std::size_t kFileCountMax = 256;

struct CalibrateFlags {
  std::string path;
  double seconds = CalibrateOptions{}.seconds_per_point;
  std::vector<std::uint32_t> depths;
  std::vector<std::string> blocks;
  std::string engine = "auto";
  std::optional<std::uint64_t> seed;
  std::string out;
  std::string svg;
  bool no_save = false;
  bool json = false;
};

Result<CalibrateOptions> OptionsOf(const CalibrateFlags& flags) {
  CalibrateOptions options;
  options.seconds_per_point = flags.seconds;
  options.depths = flags.depths;
  for (const std::string& block : flags.blocks) {
    const std::uint64_t block_bytes = OrUsage("--blocks", ParseByteSize(block));
    if (block_bytes < 512 || block_bytes > 65536 || (block_bytes & (block_bytes - 1)) != 0) {
      throw CLI::ValidationError("--blocks", block + " is not a power of two in [512, 64KiB]");
    }
    options.block_bytes.push_back(static_cast<std::uint32_t>(block_bytes));
  }
  options.engine = OrUsage("--engine", ParseEngine(flags.engine));
  // What was read before may be in a cache of the disk's or the host's, so that no two
  // runs should read the same places.
  options.seed = flags.seed.value_or(
      static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count()));
  return options;
}

/// Large files right in a directory, by name.
Result<std::vector<std::string>> LargeFiles(const std::string& path) {
  std::vector<std::string> files;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end;
       entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_regular_file(ignored) && entry->file_size(ignored) >= kFileBytesMin) {
      files.push_back(entry->path().string());
    }
  }
  if (error) {
    const bool denied = error == std::errc::permission_denied;
    return Status(denied ? StatusCode::kPermissionDenied : StatusCode::kIoError,
                  fmt::format("{}: cannot be listed: {}", path, error.message()));
  }
  if (files.empty()) {
    return Status(StatusCode::kNotFound,
                  path +
                      ": neither a checkpoint nor a directory with files of 64 MiB and more; give "
                      "one on the disk to calibrate, such as one from `tiercel make-checkpoint`");
  }
  std::sort(files.begin(), files.end());
  if (files.size() > kFileCountMax) files.resize(kFileCountMax);
  return files;
}

/// The files to read: a checkpoint's tables, a directory's large files, or the one file.
Result<std::vector<std::string>> FilesOf(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return std::vector<std::string>{path};
  Result<CheckpointInfo> info = InspectCheckpoint(path);
  if (!info.ok()) return LargeFiles(path);
  std::vector<std::string> files;
  for (const TableFile& file : info.value().files) files.push_back(file.path);
  return files;
}

/// Where the profile goes; empty for nowhere.
Result<std::string> SavePath(const CalibrateFlags& flags, const std::string& file) {
  if (flags.no_save || !flags.out.empty()) return flags.out;
  Result<DiskIdentity> disk = IdentifyDisk(file);
  if (!disk.ok()) return ErrorOf(disk);
  return DefaultDiskProfilePath(disk.value());
}

Status WriteText(const std::string& path, const std::string& text) {
  std::FILE* const file = std::fopen(path.c_str(), "we");
  bool written = file != nullptr && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  int os_error = errno;
  if (file != nullptr && std::fclose(file) != 0 && written) {
    written = false;
    os_error = errno;
  }
  if (written) return Status();
  return Status(StatusCode::kIoError,
                fmt::format("{}: cannot be written: {}", path, std::strerror(os_error)), os_error);
}

Result<DiskProfile> Measure(const std::vector<std::string>& files, CalibrateOptions options) {
  ProgressBar bar("calibrate", ProgressUnit::kSlices);
  options.progress = [&bar](std::uint64_t done, std::uint64_t total) {
    bar.Update(done, total);
    return !Interrupted();
  };
  return CalibrateDisk(files, options);
}

Result<ExitCode> RunCalibrate(const CalibrateFlags& flags) {
  Result<CalibrateOptions> options = OptionsOf(flags);
  if (!options.ok()) return ErrorOf(options);
  CatchInterrupts();
  Result<std::vector<std::string>> files = FilesOf(flags.path);
  if (!files.ok()) return ErrorOf(files);
  Result<std::string> save_path = SavePath(flags, files.value().front());
  if (!save_path.ok()) return ErrorOf(save_path);
  CalibrateReport report;
  report.files = files.value();
  report.seconds_per_point = flags.seconds;
  report.seed = options.value().seed;
  const auto start = std::chrono::steady_clock::now();
  Result<DiskProfile> profile = Measure(files.value(), options.value());
  if (!profile.ok()) return ErrorOf(profile);
  report.profile = std::move(profile).value();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  Result<DiskChoice> choice = ChooseDiskSettings(report.profile.points);
  if (!choice.ok()) return ErrorOf(choice);
  report.choice = choice.value();
  for (const std::string& file : report.files) {
    std::error_code ignored;  // A block device has no such size.
    const std::uint64_t file_bytes = std::filesystem::file_size(file, ignored);
    if (!ignored) report.file_bytes += file_bytes;
  }
  if (!save_path.value().empty()) {
    if (Status status = SaveDiskProfile(report.profile, save_path.value()); !status.ok()) {
      Print(flags.json ? ReportJson(report) : ReportText(report));
      return status;
    }
    report.saved_path = save_path.value();
  }
  Print(flags.json ? ReportJson(report) : ReportText(report));
  if (!report.profile.direct) {
    PrintError("calibrate",
               "no O_DIRECT on this file system: the page cache was measured, not a disk");
  }
  if (!flags.svg.empty()) {
    Result<std::string> svg = ReportSvg(report);
    if (!svg.ok()) return ErrorOf(svg);
    if (Status status = WriteText(flags.svg, svg.value()); !status.ok()) return status;
  }
  return ExitCode::kOk;
}

}  // namespace

Command AddCalibrateCommand(CLI::App& program) {
  auto flags = std::make_shared<CalibrateFlags>();
  CLI::App* const app = program.add_subcommand(
      "calibrate", "Measure a disk's random reads, and keep the settings that suit it");
  app->add_option("PATH", flags->path,
                  "Checkpoint directory, directory with large files, or a large file")
      ->required();
  app->add_option("--seconds", flags->seconds, "Time for each depth and block size")
      ->type_name("S")
      ->check(CLI::Range(0.001, 3600.0))
      ->capture_default_str();
  app->add_option("--depths", flags->depths, "Reads in flight, such as 1,8,64; else 1,2,4,...,512")
      ->type_name("LIST")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096));
  app->add_option("--blocks", flags->blocks,
                  "Block sizes, such as 512,4KiB,16KiB; else 512 B, where the disk takes that, and "
                  "4 KiB")
      ->type_name("LIST")
      ->delimiter(',');
  app->add_option("--engine", flags->engine, "How the disk is read: auto, uring or pread")
      ->type_name("ENGINE")
      ->capture_default_str();
  app->add_option("--seed", flags->seed, "Which places are read; else it is taken from the clock")
      ->type_name("S");
  CLI::Option* const out =
      app->add_option("--out", flags->out,
                      "Where the profile is kept, instead of where stores look for it")
          ->type_name("FILE");
  app->add_flag("--no-save", flags->no_save, "Measure alone: keep no profile")->excludes(out);
  app->add_option("--svg", flags->svg, "Draw reads a second and p99 over the depth")
      ->type_name("FILE");
  app->add_flag("--json", flags->json, "Print the report as JSON");
  return {.app = app, .run = [flags] { return RunCalibrate(*flags); }};
}

}  // namespace tiercel::tools
