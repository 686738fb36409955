// tiercel verify: rows of a made checkpoint against their generator.

#include <fmt/format.h>

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
  StoreFlags store;
};

/// What was found, and by what means.
struct Verified {
  VerifyReport report;
  double seconds = 0.0;
  std::optional<StoreStats> stats;  ///< Of a sample: all rows are read without a store.

  [[nodiscard]] bool clean() const noexcept {
    return report.rows_different == 0 && report.rows_unreadable == 0;
  }
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
        ++report.rows_unreadable;
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

Result<Verified> VerifyAll(const CheckpointInfo& info) {
  ProgressBar bar("verify", ProgressUnit::kBytes);
  const auto start = std::chrono::steady_clock::now();
  Result<VerifyReport> report =
      VerifySynthetic(info, [&bar](std::uint64_t done_bytes, std::uint64_t total_bytes) {
        bar.Update(done_bytes, total_bytes);
        return !Interrupted();
      });
  if (!report.ok()) return ErrorOf(report);
  Verified verified;
  verified.report = std::move(report).value();
  verified.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return verified;
}

void PrintJson(const VerifyFlags& flags, const CheckpointInfo& info, const Verified& verified) {
  const VerifyReport& report = verified.report;
  nlohmann::ordered_json json = {{"path", flags.path},
                                 {"synthetic_seed", *info.synthetic_seed},
                                 {"mode", flags.sample ? "sample" : "all"},
                                 {"rows_checked", report.rows_checked},
                                 {"rows_different", report.rows_different},
                                 {"rows_unreadable", report.rows_unreadable},
                                 {"findings", report.findings},
                                 {"seconds", verified.seconds}};
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
  const std::uint64_t finding_count = report.rows_different + report.rows_unreadable;
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
  Print(fmt::format("{} rows checked in {}: {}, {} unreadable\n", FormatCount(report.rows_checked),
                    FormatSeconds(verified.seconds), FormatDifferent(report.rows_different),
                    FormatCount(report.rows_unreadable)));
}

Result<ExitCode> RunVerify(const VerifyFlags& flags) {
  (void)flags.store.ToOptions("verify");  // A usage error comes before any work.
  CatchInterrupts();
  Result<CheckpointInfo> info = InspectCheckpoint(flags.path);
  if (!info.ok()) return ErrorOf(info);
  if (!info.value().synthetic_seed) {
    return Status(StatusCode::kInvalidArgument,
                  flags.path +
                      ": not made by `tiercel make-checkpoint`, so there is nothing to "
                      "compare its rows with");
  }
  Result<Verified> verified = flags.sample ? VerifySample(flags) : VerifyAll(info.value());
  if (!verified.ok()) return ErrorOf(verified);
  if (flags.json) {
    PrintJson(flags, info.value(), verified.value());
  } else {
    PrintReport(info.value(), verified.value());
  }
  return verified.value().clean() ? ExitCode::kOk : ExitCode::kFindings;
}

}  // namespace

Command AddVerifyCommand(CLI::App& program) {
  auto flags = std::make_shared<VerifyFlags>();
  flags->store.dram = "256MiB";
  CLI::App* const app =
      program.add_subcommand("verify", "Rows of a made checkpoint against their generator");
  app->add_option("PATH", flags->path, "Directory from `tiercel make-checkpoint`")->required();
  app->add_option("--sample", flags->sample,
                  "Check this many random rows, through a store; else every row is read in file "
                  "order, without one")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  app->add_option("--seed", flags->seed, "Decides which rows a sample takes")
      ->type_name("S")
      ->capture_default_str();
  app->add_flag("--json", flags->json, "Print the report as JSON");
  flags->store.AddTo(*app);
  return {.app = app, .run = [flags] { return RunVerify(*flags); }};
}

}  // namespace tiercel::tools
