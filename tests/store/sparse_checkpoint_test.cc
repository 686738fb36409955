// Goal: a checkpoint of the real size (V4.1: 202.8 GB, one shard of 101 GB for each
// table) opens and gives the rows that stand where its headers say, beyond 4 GiB and up
// to the last row of each tensor, though nobody has the disk for one at hand.
//
// Method: files of the real size with nothing in them but their headers and the rows that
// the test asks for, each put where the plan of the checkpoint (and not the code that
// reads it) has it; all else is a hole. Rows in the holes read as zeros.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/errno_status.h"
#include "base/prng.h"
#include "store/make_checkpoint_plan.h"
#include "store/synthetic.h"
#include "tests/support/made_checkpoint.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/store.h"
#include "tiercel/synthetic.h"

namespace tiercel::testing {
namespace {

constexpr std::uint64_t kSeed = 7;
constexpr std::uint64_t kFourGibibytes = std::uint64_t{1} << 32;

struct Place {
  const PlannedTensor* tensor = nullptr;
  std::string path;
  std::uint64_t offset_bytes = 0;  ///< Of the tensor's first row.

  [[nodiscard]] std::uint32_t row_size_bytes() const {
    return SyntheticPartSizeBytes(tensor->source.shape, tensor->part);
  }
  [[nodiscard]] std::uint64_t row_count() const { return tensor->size_bytes / row_size_bytes(); }
};

/// A checkpoint of holes, and where its rows belong.
class SparseCheckpoint {
 public:
  explicit SparseCheckpoint(CheckpointModel like) : path_(scratch_.File("checkpoint")) {
    MakeCheckpointOptions options;
    options.like = like;
    options.seed = kSeed;
    options.out_dir = path_;
    options.tables_only = true;
    Result<CheckpointPlan> plan = PlanCheckpoint(options);
    EXPECT_TRUE(plan.ok()) << plan.status().ToString();
    plan_ = std::move(plan).value();
    std::filesystem::create_directory(path_);
    for (const PlannedText& text : plan_.texts)
      scratch_.Write("checkpoint/" + text.name, text.text);
    for (const PlannedFile& file : plan_.files) {
      const std::string file_path = scratch_.Write("checkpoint/" + file.name, file.header);
      std::uint64_t offset_bytes = file.header.size();
      for (const PlannedTensor& tensor : file.tensors) {
        if (tensor.literal.empty()) {
          places_.push_back({&tensor, file_path, offset_bytes});
        } else {
          Put(file_path, offset_bytes, std::as_bytes(std::span(tensor.literal)));
        }
        offset_bytes += tensor.size_bytes;
      }
      if (truncate(file_path.c_str(), static_cast<off_t>(file.size_bytes)) != 0) {
        skip_reason_ = file_path + ": " + ErrnoName(errno) + " for a file of " +
                       std::to_string(file.size_bytes) + " B";
        return;
      }
      struct stat attributes {};
      EXPECT_EQ(stat(file_path.c_str(), &attributes), 0);
      if (static_cast<std::uint64_t>(attributes.st_blocks) * 512 > file.size_bytes / 2) {
        skip_reason_ = "this file system has no sparse files";
        return;
      }
    }
  }

  /// Writes the row's true bytes where the plan has them.
  void PutRow(std::uint32_t layer_id, std::uint64_t row) const {
    for (const Place& place : places_) {
      if (place.tensor->source.layer_id != layer_id) continue;
      if (row - place.tensor->first_row >= place.row_count()) continue;
      std::vector<std::byte> bytes(place.row_size_bytes());
      FillSyntheticPart(place.tensor->source, place.tensor->part, row, 1, bytes);
      Put(place.path, place.offset_bytes + (row - place.tensor->first_row) * place.row_size_bytes(),
          bytes);
    }
  }

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] const CheckpointPlan& plan() const noexcept { return plan_; }
  [[nodiscard]] const std::vector<Place>& places() const noexcept { return places_; }
  [[nodiscard]] const std::string& skip_reason() const noexcept { return skip_reason_; }

 private:
  static void Put(const std::string& path, std::uint64_t offset_bytes,
                  std::span<const std::byte> bytes) {
    const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    ASSERT_GE(file, 0) << path;
    EXPECT_EQ(pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes)),
              static_cast<ssize_t>(bytes.size()))
        << path << " at " << offset_bytes;
    close(file);
  }

  ScratchDir scratch_;
  std::string path_;
  CheckpointPlan plan_;
  std::vector<Place> places_;
  std::string skip_reason_;
};

/// Rows of a layer that arithmetic may get wrong: the ends of every tensor, and those
/// around each power of two of bytes from 4 GiB on.
std::set<std::uint64_t> RowsAtEdges(const SparseCheckpoint& sparse, std::uint32_t layer_id) {
  std::set<std::uint64_t> rows;
  for (const Place& place : sparse.places()) {
    if (place.tensor->source.layer_id != layer_id) continue;
    const std::uint64_t first = place.tensor->first_row;
    rows.insert({first, first + 1, first + place.row_count() - 2, first + place.row_count() - 1});
    const std::uint64_t end = place.offset_bytes + place.tensor->size_bytes;
    for (std::uint64_t edge = kFourGibibytes; edge < end; edge *= 2) {
      if (edge < place.offset_bytes) continue;
      const std::uint64_t row = first + (edge - place.offset_bytes) / place.row_size_bytes();
      if (row > first) rows.insert(row - 1);
      rows.insert(row);
      if (row + 1 < first + place.row_count()) rows.insert(row + 1);
    }
  }
  return rows;
}

class SparseCheckpointTest : public ::testing::TestWithParam<CheckpointModel> {};

TEST_P(SparseCheckpointTest, OpensAtFullSizeAndServesItsFarthestRows) {
  const SparseCheckpoint sparse(GetParam());
  if (!sparse.skip_reason().empty()) GTEST_SKIP() << sparse.skip_reason();
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{64} << 20;
  options.log = [](std::string_view /*line*/) {};
  Result<std::unique_ptr<Store>> opened = Store::Open(sparse.path(), options);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  Store& store = *opened.value();
  EXPECT_GT(sparse.plan().size_bytes, std::uint64_t{10'000'000'000});  // Not shrunk.
  std::uint64_t rows_beyond = 0;
  for (const LayerTable& layer : store.checkpoint().layers) {
    const std::set<std::uint64_t> edges = RowsAtEdges(sparse, layer.layer_id);
    std::vector<RowId> ids;
    for (const std::uint64_t row : edges) {
      sparse.PutRow(layer.layer_id, row);
      ids.push_back(RowId{row});
    }
    // Rows of holes between them, and the ids of a run, which are all over the table.
    Prng prng(kSeed);
    for (int i = 0; i < 200; ++i) ids.push_back(RowId{prng.Below(layer.row_count)});
    std::vector<std::int32_t> tokens(20);
    for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(prng.Below(1000));
    const TokenRun run = {.history = {}, .tokens = tokens};
    const std::vector<RowId> run_ids = RowIdsOf(store, layer.layer_id, run);
    for (const RowId id : run_ids) sparse.PutRow(layer.layer_id, Index(id));
    std::set<std::uint64_t> written = edges;
    for (const RowId id : run_ids) written.insert(Index(id));

    const auto check = [&](const std::vector<RowId>& wanted, const LayerBuffers& buffers) {
      const std::vector<std::byte> zero(buffers.row_size_bytes);
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        std::vector<std::byte> want = zero;
        if (written.contains(Index(wanted[i]))) {
          SyntheticRow(kSeed, layer.layer_id, wanted[i], layer.shape, want);
          EXPECT_NE(want, zero);
        }
        EXPECT_EQ(buffers.row_status[i], RowStatus::kOk) << Index(wanted[i]);
        EXPECT_EQ(buffers.Row(i), want) << "row " << Index(wanted[i]) << " of " << layer.row_count;
        const std::uint64_t offset_bytes = Index(wanted[i]) * layer.shape.row_size_bytes();
        rows_beyond += offset_bytes > 2 * kFourGibibytes ? 1 : 0;
      }
    };
    LayerBuffers by_id(store, layer.layer_id, ids.size(), RowOutput::kStored);
    ASSERT_TRUE(store.LookupRows(ids, by_id.Output()).ok());
    check(ids, by_id);
    LayerBuffers by_run(store, layer.layer_id, run_ids.size(), RowOutput::kStored);
    const LayerOutput output = by_run.Output();
    ASSERT_TRUE(store.Lookup({&run, 1}, {&output, 1}).ok());
    check(run_ids, by_run);
  }
  EXPECT_GT(rows_beyond, 100U);
}

INSTANTIATE_TEST_SUITE_P(Models, SparseCheckpointTest,
                         ::testing::Values(CheckpointModel::kDeepSeekV41Flash,
                                           CheckpointModel::kQwen38FlashNext),
                         [](const auto& test) {
                           return test.param == CheckpointModel::kDeepSeekV41Flash ? "V41"
                                                                                   : "Qwen38";
                         });

}  // namespace
}  // namespace tiercel::testing
