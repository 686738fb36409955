#include "tests/store/driver_batches.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/prng.h"

namespace tiercel::testing {
namespace {

struct DrawnRow {
  std::uint32_t layer_id;
  RowId row;
};

std::vector<DrawnRow> DrawRows(const CheckpointInfo& checkpoint, std::uint64_t number) {
  Prng prng(number);
  std::vector<DrawnRow> rows;
  for (std::uint64_t i = 0, count = 1 + prng.Below(60); i < count; ++i) {
    const LayerTable& table = checkpoint.layers[prng.Below(checkpoint.layers.size())];
    rows.push_back({table.layer_id, RowId{prng.Below(kDriverRows)}});
  }
  return rows;
}

}  // namespace

StoreOptions DriverOptions(const std::string& state_path) {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{24} << 20;
  options.queue_depth = 32;
  options.io_thread_count = 1;
  options.state_path = state_path;
  options.log = [](std::string_view /*line*/) {};
  return options;
}

UpdateBatch DriverBatch(const Store& store, std::uint64_t number) {
  UpdateBatch batch;
  for (const DrawnRow& row : DrawRows(store.checkpoint(), number)) {
    batch.AddVersion(store, row.layer_id, row.row, number);
  }
  return batch;
}

bool IsStateAfter(const MadeCheckpoint& made, Store& store, std::uint64_t last) {
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint64_t> model;
  for (std::uint64_t number = 1; number <= last; ++number) {
    for (const DrawnRow& row : DrawRows(store.checkpoint(), number)) {
      model[{row.layer_id, Index(row.row)}] = number;
    }
  }
  std::vector<RowId> ids;
  for (std::uint64_t row = 0; row < kDriverRows; ++row) ids.push_back(RowId{row});
  for (const LayerTable& table : store.checkpoint().layers) {
    LayerBuffers buffers(store, table.layer_id, ids.size(), RowOutput::kStored);
    const Status status = store.LookupRows(ids, buffers.Output());
    EXPECT_TRUE(status.ok()) << status.ToString();
    for (std::uint64_t row = 0; row < kDriverRows; ++row) {
      const auto found = VersionOf(made, table.layer_id, ids[row], buffers.Row(row));
      const auto wanted = model.find({table.layer_id, row});
      const std::uint64_t version = wanted == model.end() ? 0 : wanted->second;
      if (found == version) continue;
      ADD_FAILURE() << "layer " << table.layer_id << " row " << row << " is of version "
                    << (found.has_value() ? std::to_string(*found) : "none") << ", not " << version;
      return false;
    }
  }
  return true;
}

DriverProcess::DriverProcess(const std::string& mode, const std::string& checkpoint,
                             const std::string& state) {
  int to_child[2] = {-1, -1};
  int from_child[2] = {-1, -1};
  TIERCEL_CHECK(pipe2(to_child, O_CLOEXEC) == 0 && pipe2(from_child, O_CLOEXEC) == 0);
  child_ = fork();
  if (child_ == 0) {
    dup2(to_child[0], STDIN_FILENO);
    dup2(from_child[1], STDOUT_FILENO);
    execl(TIERCEL_OVERLAY_DRIVER, TIERCEL_OVERLAY_DRIVER, mode.c_str(), checkpoint.c_str(),
          state.c_str(), nullptr);
    _exit(127);
  }
  close(to_child[0]);
  close(from_child[1]);
  input_ = to_child[1];
  output_ = from_child[0];
}

DriverProcess::~DriverProcess() {
  if (child_ > 0) {
    Kill();
    (void)Wait();
  }
  close(output_);
}

bool DriverProcess::Read(void* bytes, std::size_t size_bytes) const {
  auto* next = static_cast<char*>(bytes);
  while (size_bytes > 0) {
    const ssize_t count = read(output_, next, size_bytes);
    if (count <= 0) return false;
    next += count;
    size_bytes -= static_cast<std::size_t>(count);
  }
  return true;
}

void DriverProcess::Kill() const {
  kill(child_, SIGKILL);
}

int DriverProcess::Wait() {
  if (input_ >= 0) close(std::exchange(input_, -1));
  int status = 0;
  waitpid(std::exchange(child_, -1), &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

}  // namespace tiercel::testing
