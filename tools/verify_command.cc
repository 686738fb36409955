// tiercel verify: rows against checksums and, if they were made, their generator.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/store.h"
#include "tiercel/synthetic.h"
#include "tiercel/verify.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/progress.h"

namespace tiercel::tools {
namespace {

constexpr std::uint64_t kBatchRows = 4096;
constexpr std::size_t kFindingsMax = 10;

struct VerifyFlags {
  std::string path;
  std::optional<std::uint64_t> sample;
  std::uint64_t seed = 1;
  bool json = false;
  bool write_checksums = false;
  StoreFlags store;
};

/// What was found, and by what means.
struct Verified {
  VerifyReport report;
  double seconds = 0.0;
  std::optional<StoreStats> stats;  ///< Of a sample: all rows are read without a store.
};

/// SplitMix64: any seed gives a good stream, and two lines are all it takes.
class RandomRows {
 public:
  explicit RandomRows(std::uint64_t seed) noexcept : state_(seed) {}

  /// Below `limit`, off from uniform by less than limit / 2^64.
  [[nodiscard]] std::uint64_t Below(std::uint64_t limit) noexcept {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t x = state_;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
    return (x ^ (x >> 31)) % limit;
  }

 private:
  std::uint64_t state_;
};

/// Rows of one layer that are looked up together, and then checked.
class SampleBatch {
 public:
  explicit SampleBatch(const LayerTable& table)
      : table_(&table), expected_(table.shape.row_size_bytes()) {
    ids_.reserve(kBatchRows);
  }

  void Add(std::uint64_t row) { ids_.push_back(RowId{row}); }

  /// Looks all rows up and adds what is wrong with them to `report`.
  Status Check(Store& store, std::uint64_t synthetic_seed, VerifyReport& report) {
    const std::size_t row_bytes = expected_.size();
    // A pattern that no row has: what the store does not write must not pass.
    bytes_.assign(ids_.size() * row_bytes, std::byte{0xA5});
    statuses_.assign(ids_.size(), RowStatus::kIoError);
    Status status = store.LookupRows(
        ids_, {.layer_id = table_->layer_id, .rows = bytes_, .row_status = statuses_});
    if (!status.ok() && status.code() != StatusCode::kPartial) return status;
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      ++report.rows_checked;
      if (statuses_[i] != RowStatus::kOk) {
        ++(statuses_[i] == RowStatus::kCorruption ? report.rows_corrupt : report.rows_unreadable);
        AddFinding(report, ids_[i], fmt::format("could not be read: {}", Name(statuses_[i])));
        continue;
      }
      SyntheticRow(synthetic_seed, table_->layer_id, ids_[i], table_->shape, expected_);
      const std::byte* const row = bytes_.data() + i * row_bytes;
      if (std::memcmp(row, expected_.data(), row_bytes) != 0) {
        const auto at = std::mismatch(row, row + row_bytes, expected_.begin()).first - row;
        ++report.rows_different;
        AddFinding(report, ids_[i], fmt::format("differs from the generator at byte {}", at));
      }
    }
    ids_.clear();
    return Status();
  }

 private:
  void AddFinding(VerifyReport& report, RowId row, const std::string& what) const {
    if (report.findings.size() >= kFindingsMax) return;
    report.findings.push_back(
        fmt::format("layer {} row {} {}", table_->layer_id, Index(row), what));
  }

  const LayerTable* table_;
  std::vector<RowId> ids_;
  std::vector<std::byte> bytes_;
  std::vector<RowStatus> statuses_;
  std::vector<std::byte> expected_;
};

/// Draws rows, each row of every table as likely as any other, and checks them.
Status CheckSample(const VerifyFlags& flags, Store& store, VerifyReport& report) {
  const CheckpointInfo& info = store.checkpoint();
  std::vector<SampleBatch> batches;
  std::uint64_t row_count = 0;
  for (const LayerTable& table : info.layers) {
    batches.emplace_back(table);
    row_count += table.row_count;
  }
  ProgressBar bar("verify", ProgressUnit::kRows);
  RandomRows random(flags.seed);
  while (report.rows_checked < *flags.sample) {
    if (Interrupted()) return Status(StatusCode::kCancelled, "stopped by a signal");
    const std::uint64_t count = std::min(kBatchRows, *flags.sample - report.rows_checked);
    for (std::uint64_t i = 0; i < count; ++i) {
      std::uint64_t row = random.Below(row_count);
      std::size_t layer = 0;
      while (row >= info.layers[layer].row_count) row -= info.layers[layer++].row_count;
      batches[layer].Add(row);
    }
    for (SampleBatch& batch : batches) {
      if (Status status = batch.Check(store, *info.synthetic_seed, report); !status.ok()) {
        return status;
      }
    }
    bar.Update(report.rows_checked, *flags.sample);
  }
  return Status();
}

Result<Verified> VerifySample(const VerifyFlags& flags) {
  StoreOptions options = flags.store.ToOptions("verify");
  options.updates = Updates::kOff;  // The generator knows of none.
  Result<std::unique_ptr<Store>> store = Store::Open(flags.path, options);
  if (!store.ok()) return ErrorOf(store);
  Verified verified;
  const auto start = std::chrono::steady_clock::now();
  if (Status status = CheckSample(flags, *store.value(), verified.report); !status.ok()) {
    return status;
  }
  verified.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  verified.stats = store.value()->Stats();
  return verified;
}

Result<Verified> VerifyAll(const VerifyFlags& flags, const CheckpointInfo& info) {
  ProgressBar bar("verify", ProgressUnit::kBytes);
  const auto start = std::chrono::steady_clock::now();
  Result<VerifyReport> report = VerifyTable(info, {.checksums = flags.store.checksums.Use(),
                                                   .checksums_path = flags.store.checksums.path,
                                                   .progress = UntilInterrupted(bar)});
  if (!report.ok()) return ErrorOf(report);
  Verified verified;
  verified.report = std::move(report).value();
  verified.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return verified;
}

/// Makes the sidecar that later runs, and stores, check against.
Result<ExitCode> RunWriteChecksums(const VerifyFlags& flags, const CheckpointInfo& info) {
  ProgressBar bar("checksums", ProgressUnit::kBytes);
  Result<ChecksumsWritten> written =
      WriteChecksums(info, flags.store.checksums.path, UntilInterrupted(bar));
  bar.Clear();
  if (!written.ok()) return ErrorOf(written);
  if (flags.json) {
    const nlohmann::ordered_json json = {{"path", flags.path},
                                         {"checksums", written.value().path},
                                         {"pages", written.value().page_count},
                                         {"file_bytes", written.value().file_bytes}};
    Print(json.dump() + "\n");
  } else {
    Print(fmt::format("{}: checksums of {} pages of 4 KiB, {}\n", written.value().path,
                      FormatCount(written.value().page_count),
                      FormatBytes(static_cast<double>(written.value().file_bytes))));
  }
  return ExitCode::kOk;
}

void PrintJson(const VerifyFlags& flags, const CheckpointInfo& info, const Verified& verified) {
  const VerifyReport& report = verified.report;
  nlohmann::ordered_json json = {{"path", flags.path},
                                 {"mode", flags.sample ? "sample" : "all"},
                                 {"checks", report.checks},
                                 {"rows_checked", report.rows_checked},
                                 {"rows_different", report.rows_different},
                                 {"rows_corrupt", report.rows_corrupt},
                                 {"rows_unreadable", report.rows_unreadable},
                                 {"damaged_frames", report.damaged_frames},
                                 {"findings", report.findings},
                                 {"seconds", verified.seconds}};
  if (info.synthetic_seed) json["synthetic_seed"] = *info.synthetic_seed;
  if (verified.stats) {
    json["seed"] = flags.seed;
    json["engine"] = verified.stats->engine;
    json["engine_description"] = verified.stats->engine_description;
    json["engine_fallback"] = verified.stats->engine_fallback;
    json["dram_budget_bytes"] = verified.stats->dram_budget_bytes;
    json["device_reads"] = verified.stats->device_reads;
    json["device_read_bytes"] = verified.stats->device_read_bytes;
  }
  Print(json.dump() + "\n");
}

void PrintReport(const CheckpointInfo& info, const Verified& verified) {
  const VerifyReport& report = verified.report;
  for (const std::string& finding : report.findings) Print(fmt::format("{}\n", finding));
  const std::uint64_t finding_count =
      report.rows_different + report.rows_corrupt + report.rows_unreadable + report.damaged_frames;
  if (finding_count > report.findings.size()) {
    Print(
        fmt::format("... and {} more rows\n", FormatCount(finding_count - report.findings.size())));
  }
  if (verified.stats) {
    Print(fmt::format("read through {}\n", FormatEngine(*verified.stats)));
    if (!verified.stats->engine_fallback.empty()) {
      Print(fmt::format("fell back from io_uring: {}\n", verified.stats->engine_fallback));
    }
  } else {
    const auto table_bytes = static_cast<double>(info.table_bytes);
    Print(fmt::format("read {} at {}/s\n", FormatBytes(table_bytes),
                      FormatBytes(Ratio(table_bytes, verified.seconds))));
  }
  if (!verified.stats && report.checks.empty()) {
    Print(
        "nothing to check rows against: known is only that they can be read; --write-checksums\n"
        "makes a sidecar of checksums, and `tiercel pack` a table that has them\n");
  } else if (!verified.stats) {
    Print(fmt::format("checked against: {}\n", fmt::join(report.checks, ", ")));
  }
  Print(fmt::format("{} rows checked in {}: {}, {} unreadable", FormatCount(report.rows_checked),
                    FormatSeconds(verified.seconds), FormatDifferent(report.rows_different),
                    FormatCount(report.rows_unreadable)));
  if (report.rows_corrupt > 0) {
    Print(fmt::format(", {} CORRUPT", FormatCount(report.rows_corrupt)));
  }
  if (report.damaged_frames > 0) {
    Print(fmt::format(", {} pages DAMAGED beside their rows", FormatCount(report.damaged_frames)));
  }
  Print("\n");
}

Result<ExitCode> RunVerify(const VerifyFlags& flags) {
  (void)flags.store.ToOptions("verify");  // A usage error comes before any work.
  if (flags.write_checksums && flags.sample) {
    throw CLI::ValidationError("--write-checksums", "reads every page: leave --sample out");
  }
  CatchInterrupts();
  Result<CheckpointInfo> info = InspectCheckpoint(flags.path);
  if (!info.ok()) return ErrorOf(info);
  if (flags.write_checksums) return RunWriteChecksums(flags, info.value());
  if (flags.sample && !info.value().synthetic_seed) {
    return Status(StatusCode::kInvalidArgument,
                  flags.path +
                      ": not made by `tiercel make-checkpoint`, so there is nothing to "
                      "compare a sample with; without --sample, all of it is read and checked "
                      "against its checksums");
  }
  Result<Verified> verified = flags.sample ? VerifySample(flags) : VerifyAll(flags, info.value());
  if (!verified.ok()) return ErrorOf(verified);
  if (flags.json) {
    PrintJson(flags, info.value(), verified.value());
  } else {
    PrintReport(info.value(), verified.value());
  }
  return verified.value().report.clean() ? ExitCode::kOk : ExitCode::kFindings;
}

}  // namespace

Command AddVerifyCommand(CLI::App& program) {
  auto flags = std::make_shared<VerifyFlags>();
  flags->store.dram = "256MiB";
  CLI::App* const app = program.add_subcommand(
      "verify", "Rows against their checksums and, if they were made, generator");
  app->add_option("PATH", flags->path, "Checkpoint, GGUF file or packed table")->required();
  app->add_option("--sample", flags->sample,
                  "Check this many random rows of a made checkpoint, through a store; else every "
                  "row is read in file order, without one")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  app->add_option("--seed", flags->seed, "Decides which rows a sample takes")
      ->type_name("S")
      ->capture_default_str();
  app->add_flag("--write-checksums", flags->write_checksums,
                "Make a sidecar of checksums of the tables as they are now, instead");
  app->add_flag("--json", flags->json, "Print the report as JSON");
  flags->store.AddTo(*app);
  return {.app = app, .run = [flags] { return RunVerify(*flags); }};
}

}  // namespace tiercel::tools
