// tiercel update: replaces rows of a table, in its state directory.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/store.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/progress.h"
#include "tools/row_file.h"

namespace tiercel::tools {
namespace {

/// Rows that a Store takes as one batch.
constexpr std::uint64_t kBatchRowsMax = std::uint64_t{1} << 20;

struct UpdateFlags {
  std::string path;
  std::string rows;
  std::uint64_t batch_rows = 65536;
  bool json = false;
  StoreFlags store;
};

struct Updated {
  std::uint64_t rows = 0;
  std::uint64_t batches = 0;
  double seconds = 0.0;
};

/// Rows of several layers that go into one batch.
class Batch {
 public:
  Status Fill(RowFile& file, const RowFile::Layer& layer, std::uint64_t first,
              std::uint64_t count) {
    ids_.emplace_back(count);
    bytes_.emplace_back(count * layer.row_size_bytes);
    Status status = file.Read(layer, first, ids_.back(), bytes_.back());
    if (!status.ok()) return status;
    for (std::uint64_t i = 0; i < count; ++i) {
      rows_.push_back(
          {.layer_id = layer.layer_id,
           .row = ids_.back()[i],
           .bytes =
               std::span(bytes_.back()).subspan(i * layer.row_size_bytes, layer.row_size_bytes)});
    }
    return {};
  }
  [[nodiscard]] const std::vector<RowUpdate>& rows() const noexcept { return rows_; }
  void Clear() {
    rows_.clear();
    ids_.clear();
    bytes_.clear();
  }

 private:
  std::vector<std::vector<RowId>> ids_;
  std::vector<std::vector<std::byte>> bytes_;
  std::vector<RowUpdate> rows_;
};

Status UpdateAll(RowFile& file, Store& store, std::uint64_t batch_rows, Updated& updated) {
  const std::uint64_t total = file.row_count();
  ProgressBar progress("update", ProgressUnit::kRows);
  Batch batch;
  const auto write = [&]() -> Status {
    if (batch.rows().empty()) return {};
    Status status = store.Update(batch.rows());
    if (!status.ok()) return status;
    updated.rows += batch.rows().size();
    ++updated.batches;
    progress.Update(updated.rows, total);
    batch.Clear();
    return {};
  };
  for (const RowFile::Layer& layer : file.layers()) {
    for (std::uint64_t first = 0; first < layer.row_count;) {
      if (Interrupted()) {
        return Status(StatusCode::kCancelled, fmt::format("interrupted after {} of {} rows; those "
                                                          "are updated",
                                                          updated.rows, total));
      }
      const std::uint64_t count =
          std::min(batch_rows - batch.rows().size(), layer.row_count - first);
      if (Status status = batch.Fill(file, layer, first, count); !status.ok()) return status;
      first += count;
      if (batch.rows().size() < batch_rows) continue;
      if (Status status = write(); !status.ok()) return status;
    }
  }
  return write();
}

void PrintUpdated(const UpdateFlags& flags, const Updated& updated, const OverlayStats& overlay) {
  if (flags.json) {
    const nlohmann::ordered_json json = {
        {"path", flags.path},           {"rows_file", flags.rows},
        {"state", overlay.state_path},  {"rows", updated.rows},
        {"batches", updated.batches},   {"sequence", overlay.sequence},
        {"updated_rows", overlay.rows}, {"state_bytes", overlay.state_bytes},
        {"seconds", updated.seconds}};
    Print(json.dump() + "\n");
    return;
  }
  Print(fmt::format("{}: {} rows updated in {} batches, {}\nstate {}: {} updated rows, {}\n",
                    flags.path, FormatCount(updated.rows), FormatCount(updated.batches),
                    FormatSeconds(updated.seconds), overlay.state_path, FormatCount(overlay.rows),
                    FormatBytes(static_cast<double>(overlay.state_bytes))));
}

Result<ExitCode> RunUpdate(const UpdateFlags& flags) {
  StoreOptions options = flags.store.ToOptions("update");
  options.updates = Updates::kReadWrite;
  CatchInterrupts();
  Result<CheckpointInfo> info = InspectCheckpoint(flags.path);
  if (!info.ok()) return ErrorOf(info);
  Result<RowFile> file = RowFile::Open(flags.rows, info.value());
  if (!file.ok()) return ErrorOf(file);
  const std::uint64_t row_count = file.value().row_count();
  const std::uint64_t batch_rows =
      flags.batch_rows == 0 ? std::max<std::uint64_t>(row_count, 1) : flags.batch_rows;
  if (batch_rows > kBatchRowsMax) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("a batch of {} rows is more than the {} that are updated as one: "
                              "give a smaller --batch",
                              batch_rows, kBatchRowsMax));
  }
  Result<std::unique_ptr<Store>> store = Store::Open(flags.path, options);
  if (!store.ok()) return ErrorOf(store);
  Updated updated;
  const auto begun = std::chrono::steady_clock::now();
  Status status = UpdateAll(file.value(), *store.value(), batch_rows, updated);
  updated.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  if (!status.ok()) return status;
  PrintUpdated(flags, updated, store.value()->Stats().overlay);
  return ExitCode::kOk;
}

}  // namespace

Command AddUpdateCommand(CLI::App& program) {
  auto flags = std::make_shared<UpdateFlags>();
  flags->store.dram = "256MiB";
  flags->store.scales = "disk";
  CLI::App* const app =
      program.add_subcommand("update", "Replace rows of a table, in its state directory");
  app->add_option("PATH", flags->path, "Checkpoint directory")->required();
  app->add_option("--rows", flags->rows,
                  "Safetensors file with, for each layer L, the tensors layers.L.ids and "
                  "layers.L.rows")
      ->type_name("FILE")
      ->required();
  app->add_option("--batch", flags->batch_rows,
                  "Rows that become visible and durable as one, up to 1,048,576; 0: all of them")
      ->type_name("ROWS")
      ->capture_default_str();
  app->add_flag("--json", flags->json, "Print the report as JSON");
  flags->store.AddTo(*app);
  return {.app = app, .run = [flags] { return RunUpdate(*flags); }};
}

}  // namespace tiercel::tools
