// fio's io_uring engine at the same depth and block: what the disk gives to a program
// that does nothing with what it reads. The ceiling.

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/json.h"
#include "bench/peers/arm.h"
#include "bench/peers/peer_table.h"
#include "bench/peers/subprocess.h"

namespace tiercel::peers {
namespace {

/// The figures of fio's one job. Latency is from submission to completion (lat_ns).
Result<SliceFigures> ParseFigures(const std::string& text) {
  // fio may put notes before its JSON.
  const std::size_t begin = text.find('{');
  Result<nlohmann::json> parsed =
      ParseJson(std::string_view(text).substr(begin == std::string::npos ? 0 : begin), "fio");
  if (!parsed.ok()) return std::move(parsed).TakeStatus();
  try {
    const nlohmann::json& job = parsed.value().at("jobs").at(0);
    const nlohmann::json& read = job.at("read");
    if (const int error = job.at("error").get<int>(); error != 0) {
      return Status(StatusCode::kIoError, fmt::format("fio reports error {}", error));
    }
    const nlohmann::json& percentiles = read.at("lat_ns").at("percentile");
    SliceFigures figures;
    figures.seconds = read.at("runtime").get<double>() / 1e3;
    figures.rows = read.at("total_ios").get<std::uint64_t>();
    figures.batches = static_cast<double>(figures.rows);
    figures.p50_ns = percentiles.at("50.000000").get<std::uint64_t>();
    figures.p99_ns = percentiles.at("99.000000").get<std::uint64_t>();
    const double cpu_percent = job.at("usr_cpu").get<double>() + job.at("sys_cpu").get<double>();
    figures.cpu_seconds = cpu_percent / 100 * job.at("job_runtime").get<double>() / 1e3;
    if (figures.rows == 0 || figures.seconds <= 0) {
      return Status(StatusCode::kIoError, "fio read nothing");
    }
    return figures;
  } catch (const nlohmann::json::exception& error) {
    return Status(StatusCode::kIoError,
                  fmt::format("fio's report is not what fio 3 writes: {}", error.what()));
  }
}

class FioArm final : public Arm {
 public:
  FioArm(const PeerTable& table, std::string version, std::uint32_t depth)
      : table_(table), version_(std::move(version)), depth_(depth) {}

  Status Run(const Batch& /*batch*/) override {
    return Status(StatusCode::kUnavailable, "fio serves no rows");
  }

  Result<SliceFigures> RunReads(const RandomReads& reads) override {
    std::string files;
    for (const TableFile& file : table_.info().files) {
      files += files.empty() ? "" : ":";
      for (const char c : file.path) {
        if (c == ':' || c == '\\') files += '\\';
        files += c;
      }
    }
    // Without --randrepeat=0 fio reads the same places in every run, whatever its seed:
    // then the disk's own cache, or a host's, answers.
    Result<std::string> text =
        RunProgram({"fio",
                    "--name=peers",
                    "--filename=" + files,
                    "--file_service_type=random",
                    "--readonly",
                    "--ioengine=io_uring",
                    "--direct=1",
                    "--rw=randread",
                    fmt::format("--bs={}", reads.block_bytes),
                    fmt::format("--iodepth={}", reads.depth),
                    "--registerfiles=1",
                    "--fixedbufs=1",
                    "--time_based",
                    fmt::format("--runtime={}ms", static_cast<std::uint64_t>(reads.seconds * 1e3)),
                    "--norandommap",
                    "--randrepeat=0",
                    fmt::format("--randseed={}", reads.seed >> 2),
                    "--clat_percentiles=0",
                    "--lat_percentiles=1",
                    "--percentile_list=50:99",
                    "--output-format=json"});
    if (!text.ok()) return std::move(text).TakeStatus();
    return ParseFigures(text.value());
  }

  [[nodiscard]] std::string description() const override {
    return fmt::format("{}, io_uring, O_DIRECT, registered files and buffers, depth {}, {} B",
                       version_, depth_, table_.block_bytes());
  }

 private:
  const PeerTable& table_;
  const std::string version_;
  const std::uint32_t depth_;
};

}  // namespace

std::string FioVersion() {
  Result<std::string> version = RunProgram({"fio", "--version"});
  if (!version.ok()) return {};
  std::string text = std::move(version).value();
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

Result<std::unique_ptr<Arm>> OpenFioArm(const PeerTable& table, const ArmOptions& options) {
  std::string version = FioVersion();
  if (version.empty()) return Status(StatusCode::kUnavailable, "fio is not installed");
  return std::unique_ptr<Arm>(std::make_unique<FioArm>(table, std::move(version), options.depth));
}

}  // namespace tiercel::peers
