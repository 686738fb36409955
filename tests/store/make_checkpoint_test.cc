// Goal: a made checkpoint is the model's format to the byte, is there whole or not at
// all, and can be read back by plain reads at the places that InspectCheckpoint names.
//
// Method: every model at a small size; every row or a stride of them read with pread;
// the work stopped at each step; a directory in the way, no space, a killed run.

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "store/safetensors.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/checkpoint.h"
#include "tiercel/synthetic.h"

namespace tiercel {
namespace {

using testing::ScratchDir;

MakeCheckpointOptions Options(CheckpointModel like, std::uint64_t shrink, std::string out_dir) {
  MakeCheckpointOptions options;
  options.like = like;
  options.shrink = shrink;
  options.seed = 99;
  options.out_dir = std::move(out_dir);
  options.tables_only = true;
  return options;
}

std::vector<std::string> Names(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Rows that differ from SyntheticRow when read with pread; every `stride`-th is looked at.
std::uint64_t WrongRows(const CheckpointInfo& info, std::uint64_t seed, std::uint64_t stride) {
  std::uint64_t wrong = 0;
  for (const LayerTable& layer : info.layers) {
    std::vector<std::byte> want(layer.shape.row_size_bytes());
    std::vector<std::byte> got(want.size());
    for (std::uint64_t row = 0; row < layer.row_count; row += stride) {
      SyntheticRow(seed, layer.layer_id, RowId{row}, layer.shape, want);
      std::size_t at = 0;
      for (const RowPart& part : layer.parts) {
        const auto extent =
            std::find_if(part.extents.begin(), part.extents.end(),
                         [row](const RowExtent& e) { return row - e.first_row < e.row_count; });
        if (extent == part.extents.end()) return ~std::uint64_t{0};
        const std::string& path = info.files[extent->file_index].path;
        const Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
        const Status status = ReadAt(
            file.value(), path, extent->offset_bytes + (row - extent->first_row) * part.size_bytes,
            std::span(got).subspan(at, part.size_bytes));
        if (!status.ok()) return ~std::uint64_t{0};
        at += part.size_bytes;
      }
      wrong += at != want.size() || want != got;
    }
  }
  return wrong;
}

TEST(MakeCheckpointTest, RowsReadBackAsTheyWereMade) {
  struct Case {
    CheckpointModel like;
    std::uint64_t shrink;
    bool fp8;
    const char* layout;
    std::size_t files;  // With tables.
    std::size_t parts;
    RowFormat format;
    std::uint32_t row_bytes;
  };
  for (const Case& c : {Case{CheckpointModel::kDeepSeekV41Flash, 40'000, false, "deepseek-v4.1", 2,
                             2, RowFormat::kE4M3Block32, 264},
                        Case{CheckpointModel::kQwen38FlashNext, 40'000, false, "qwen3.8", 8, 1,
                             RowFormat::kBf16, 320},
                        Case{CheckpointModel::kQwen38FlashNext, 40'000, true, "qwen3.8", 8, 1,
                             RowFormat::kE4M3Tensor, 160},
                        Case{CheckpointModel::kEngramDemo, 1'000, false, "engram-demo", 1, 1,
                             RowFormat::kFp32, 256}}) {
    SCOPED_TRACE(fmt::format("{} fp8 {}", Name(c.like), c.fp8));
    const ScratchDir scratch;
    MakeCheckpointOptions options = Options(c.like, c.shrink, scratch.File("made"));
    options.fp8 = c.fp8;
    const Result<MakeCheckpointReport> made = MakeCheckpoint(options);
    ASSERT_TRUE(made.ok()) << made.status().ToString();
    EXPECT_EQ(Names(scratch.path()), std::vector<std::string>{"made"});
    EXPECT_EQ(made.value().file_count, Names(options.out_dir).size());

    const Result<CheckpointInfo> info = InspectCheckpoint(options.out_dir);
    ASSERT_TRUE(info.ok()) << info.status().ToString();
    EXPECT_EQ(info.value().layout, c.layout);
    EXPECT_EQ(info.value().files.size(), c.files);
    EXPECT_EQ(info.value().synthetic_seed, options.seed);
    std::uint64_t rows = 0;
    std::uint64_t misaligned = 0;
    for (const LayerTable& layer : info.value().layers) {
      rows += layer.row_count;
      EXPECT_EQ(layer.parts.size(), c.parts);
      EXPECT_EQ(layer.shape.format, c.format);
      EXPECT_EQ(layer.shape.row_size_bytes(), c.row_bytes);
      for (const RowPart& part : layer.parts) {
        for (const RowExtent& extent : part.extents) misaligned += extent.offset_bytes % 512 != 0;
      }
    }
    EXPECT_EQ(rows, made.value().row_count);
    EXPECT_EQ(info.value().table_bytes, rows * c.row_bytes);
    // As in real files, where nothing pads a header to a disk's block.
    EXPECT_GT(misaligned, 0U);
    EXPECT_EQ(WrongRows(info.value(), options.seed, 7), 0U);
    // A test that looked at nothing would pass too.
    EXPECT_GT(WrongRows(info.value(), options.seed + 1, 7), rows / 8);
  }
}

TEST(MakeCheckpointTest, ShrunkParametersAreTheModels) {
  for (const CheckpointModel like :
       {CheckpointModel::kDeepSeekV41Flash, CheckpointModel::kQwen38FlashNext,
        CheckpointModel::kEngramDemo}) {
    SCOPED_TRACE(Name(like));
    const ScratchDir scratch;
    MakeCheckpointOptions options = Options(like, 50'000, scratch.File("made"));
    ASSERT_TRUE(MakeCheckpoint(options).ok());
    const Result<CheckpointInfo> info = InspectCheckpoint(options.out_dir);
    ASSERT_TRUE(info.ok()) << info.status().ToString();
    const Result<RecipeParameters> want = ModelParameters(like, 50'000);
    ASSERT_TRUE(want.ok());
    const RecipeParameters& got = info.value().recipe.parameters;
    EXPECT_EQ(got.kind, want.value().kind);
    EXPECT_EQ(got.layer_ids, want.value().layer_ids);
    EXPECT_EQ(got.order_max, want.value().order_max);
    EXPECT_EQ(got.head_count, want.value().head_count);
    EXPECT_EQ(got.head_dim, want.value().head_dim);
    EXPECT_EQ(got.head_size_bases, want.value().head_size_bases);
    EXPECT_EQ(got.vocab_size, want.value().vocab_size);
    EXPECT_EQ(got.compressed_vocab_size, want.value().compressed_vocab_size);
    EXPECT_EQ(got.pad_token, want.value().pad_token);
    EXPECT_EQ(got.eos_token, want.value().eos_token);
    EXPECT_EQ(got.seed, want.value().seed);
    EXPECT_EQ(got.row_count_multiple, want.value().row_count_multiple);
  }
}

// The published row counts of the real models.
TEST(MakeCheckpointTest, UnshrunkParametersGiveThePublishedRowCounts) {
  struct Case {
    CheckpointModel like;
    std::vector<std::uint64_t> row_counts;
  };
  for (const Case& c : {Case{CheckpointModel::kDeepSeekV41Flash, {384'006'168, 384'016'682}},
                        Case{CheckpointModel::kQwen38FlashNext, {320'001'536}},
                        Case{CheckpointModel::kEngramDemo, {10'344'164, 10'348'242}}}) {
    SCOPED_TRACE(Name(c.like));
    const Result<RecipeParameters> parameters = ModelParameters(c.like, 1);
    ASSERT_TRUE(parameters.ok());
    const Result<Recipe> recipe = BuildRecipe(parameters.value());
    ASSERT_TRUE(recipe.ok()) << recipe.status().ToString();
    std::vector<std::uint64_t> row_counts;
    for (const LayerRecipe& layer : recipe.value().layers) row_counts.push_back(layer.row_count);
    EXPECT_EQ(row_counts, c.row_counts);
  }
}

// The six tensors of each V4.1 layer, with the sizes of the real ones.
TEST(MakeCheckpointTest, V41HasTheProjectionsUnlessTablesOnly) {
  const ScratchDir scratch;
  MakeCheckpointOptions options =
      Options(CheckpointModel::kDeepSeekV41Flash, 1'000'000, scratch.File("made"));
  options.tables_only = false;
  ASSERT_TRUE(MakeCheckpoint(options).ok());
  EXPECT_EQ(Names(options.out_dir),
            (std::vector<std::string>{"config.json", "model-00047-of-00048.safetensors",
                                      "model-00048-of-00048.safetensors",
                                      "model.safetensors.index.json", "tiercel_synthetic.json"}));
  const std::string path = options.out_dir + "/model-00048-of-00048.safetensors";
  const Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
  ASSERT_TRUE(file.ok());
  const Result<SafetensorsHeader> header =
      ReadSafetensorsHeader(file.value(), path, [](std::string_view) { return true; });
  ASSERT_TRUE(header.ok()) << header.status().ToString();
  std::vector<std::string> tensors;
  for (const TensorInfo& tensor : header.value().tensors) {
    tensors.push_back(fmt::format("{} {}", tensor.name, Name(tensor.type)));
    if (tensor.name.ends_with("wkv.weight")) {
      EXPECT_EQ(tensor.size_bytes, 157'286'400U);
      std::vector<std::byte> bytes(1 << 20);
      ASSERT_TRUE(ReadAt(file.value(), path, tensor.offset_bytes, bytes).ok());
      EXPECT_EQ(std::count_if(bytes.begin(), bytes.end(),
                              [](std::byte b) { return (b & std::byte{0x7f}) == std::byte{0x7f}; }),
                0);
    }
  }
  EXPECT_EQ(tensors,
            (std::vector<std::string>{
                "layers.14.engram.k_weight BF16", "layers.14.engram.q_weight BF16",
                "layers.14.engram.embed.scale F8_E8M0", "layers.14.engram.wkv.scale F8_E8M0",
                "layers.14.engram.embed.weight F8_E4M3", "layers.14.engram.wkv.weight F8_E4M3"}));
  std::ifstream index(options.out_dir + "/model.safetensors.index.json");
  const nlohmann::json json = nlohmann::json::parse(index);
  EXPECT_EQ(json["weight_map"].size(), 12U);
  EXPECT_EQ(json["weight_map"]["layers.1.engram.wkv.scale"], "model-00047-of-00048.safetensors");
}

TEST(MakeCheckpointTest, EqualOptionsGiveEqualFilesAndSeedsDiffer) {
  const ScratchDir scratch;
  const auto read = [](const std::string& path) {
    Result<std::string> text = ReadWholeFile(path, 1U << 30);
    return text.ok() ? text.value() : std::string();
  };
  std::vector<std::string> files;
  for (const std::uint64_t seed : {5U, 5U, 6U}) {
    const std::string out = scratch.File(fmt::format("made{}", files.size()));
    MakeCheckpointOptions options = Options(CheckpointModel::kEngramDemo, 5'000, out);
    options.seed = seed;
    ASSERT_TRUE(MakeCheckpoint(options).ok());
    files.push_back(read(out + "/model.safetensors"));
    ASSERT_FALSE(files.back().empty());
  }
  EXPECT_EQ(files[0], files[1]);
  EXPECT_NE(files[0], files[2]);
}

TEST(MakeCheckpointTest, RefusesAnImpossibleShrink) {
  const ScratchDir scratch;
  for (const std::uint64_t shrink :
       {std::uint64_t{0}, std::uint64_t{16'000'001}, ~std::uint64_t{0}}) {
    const Result<MakeCheckpointReport> made =
        MakeCheckpoint(Options(CheckpointModel::kDeepSeekV41Flash, shrink, scratch.File("made")));
    ASSERT_FALSE(made.ok()) << shrink;
    EXPECT_EQ(made.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(made.status().message().find(std::to_string(shrink)), std::string::npos);
  }
  EXPECT_TRUE(Names(scratch.path()).empty());
}

TEST(MakeCheckpointTest, LeavesWhatExistsAlone) {
  const ScratchDir scratch;
  const std::string file = scratch.Write("file", "mine");
  std::filesystem::create_directory(scratch.File("empty"));
  std::filesystem::create_symlink("nowhere", scratch.File("dangling"));
  for (const char* const name : {"file", "empty", "empty/", "dangling"}) {
    const Result<MakeCheckpointReport> made =
        MakeCheckpoint(Options(CheckpointModel::kEngramDemo, 10'000, scratch.File(name)));
    ASSERT_FALSE(made.ok()) << name;
    EXPECT_EQ(made.status().code(), StatusCode::kAlreadyExists) << made.status().ToString();
  }
  EXPECT_EQ(Names(scratch.path()), (std::vector<std::string>{"dangling", "empty", "file"}));
  EXPECT_EQ(ReadWholeFile(file, 100).value(), "mine");
}

TEST(MakeCheckpointTest, NeedsAParentDirectory) {
  const ScratchDir scratch;
  const Result<MakeCheckpointReport> made =
      MakeCheckpoint(Options(CheckpointModel::kEngramDemo, 10'000, scratch.File("no/made")));
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.status().code(), StatusCode::kNotFound) << made.status().ToString();
}

// Stops after each call of progress in turn, until the work gets through.
TEST(MakeCheckpointTest, CancellingLeavesNothing) {
  const ScratchDir scratch;
  int cancelled = 0;
  for (int allowed = 0;; ++allowed) {
    ASSERT_LT(allowed, 1'000);
    int calls = 0;
    MakeCheckpointOptions options =
        Options(CheckpointModel::kDeepSeekV41Flash, 25'000, scratch.File("made"));
    options.progress = [&](std::uint64_t done_bytes, std::uint64_t total_bytes) {
      EXPECT_LE(done_bytes, total_bytes);
      return ++calls <= allowed;
    };
    const Result<MakeCheckpointReport> made = MakeCheckpoint(options);
    if (made.ok()) break;
    ++cancelled;
    EXPECT_EQ(made.status().code(), StatusCode::kCancelled) << made.status().ToString();
    ASSERT_TRUE(Names(scratch.path()).empty()) << Names(scratch.path())[0];
  }
  EXPECT_GT(cancelled, 4);
  EXPECT_EQ(Names(scratch.path()), std::vector<std::string>{"made"});
}

TEST(MakeCheckpointTest, ProgressReachesTheWhole) {
  const ScratchDir scratch;
  std::uint64_t last = 0;
  std::uint64_t total = 1;
  MakeCheckpointOptions options =
      Options(CheckpointModel::kQwen38FlashNext, 20'000, scratch.File("made"));
  options.progress = [&](std::uint64_t done_bytes, std::uint64_t total_bytes) {
    EXPECT_GT(done_bytes, last);
    last = done_bytes;
    total = total_bytes;
    return true;
  };
  const Result<MakeCheckpointReport> made = MakeCheckpoint(options);
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  EXPECT_EQ(last, total);
  EXPECT_EQ(made.value().bytes_written, total);
  std::uint64_t on_disk = 0;
  for (const auto& entry : std::filesystem::directory_iterator(options.out_dir)) {
    on_disk += entry.file_size();
  }
  EXPECT_EQ(on_disk, total);
}

// A child makes a checkpoint and is killed in the middle; the next run cleans up.
TEST(MakeCheckpointTest, AKilledRunIsCleanedUpByTheNext) {
  const ScratchDir scratch;
  const std::string out = scratch.File("made");
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    MakeCheckpointOptions options = Options(CheckpointModel::kDeepSeekV41Flash, 25'000, out);
    options.progress = [](std::uint64_t done_bytes, std::uint64_t) {
      if (done_bytes > (2U << 20)) kill(getpid(), SIGKILL);
      return true;
    };
    (void)MakeCheckpoint(options);
    _exit(1);  // Not reached.
  }
  int state = 0;
  ASSERT_EQ(waitpid(child, &state, 0), child);
  ASSERT_TRUE(WIFSIGNALED(state));
  const std::string left = fmt::format("made.tmp.{}", child);
  ASSERT_EQ(Names(scratch.path()), std::vector<std::string>{left});
  // Not ours to remove: other names, and a living process's.
  const std::string living = fmt::format("made.tmp.{}", getppid());
  for (const std::string& name : {std::string("made.tmp.x"), std::string("made2.tmp.1"), living}) {
    std::filesystem::create_directory(scratch.File(name));
  }
  const Result<MakeCheckpointReport> made =
      MakeCheckpoint(Options(CheckpointModel::kDeepSeekV41Flash, 100'000, out));
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  std::vector<std::string> want = {"made", "made.tmp.x", "made2.tmp.1", living};
  std::sort(want.begin(), want.end());
  EXPECT_EQ(Names(scratch.path()), want);
}

TEST(MakeCheckpointTest, TellsThatTheDiskIsTooSmallBeforeItWrites) {
  // Needs no small disk: no machine has room for a whole DeepSeek table many times over,
  // and the check comes first. (Unshrunk: 203 GB; skipped where that fits.)
  const ScratchDir scratch;
  const std::filesystem::space_info space = std::filesystem::space(scratch.path());
  if (space.available > 190'000'000'000U) {
    GTEST_SKIP() << "the disk has " << space.available << " B free: an unshrunk table fits";
  }
  int calls = 0;
  MakeCheckpointOptions options =
      Options(CheckpointModel::kDeepSeekV41Flash, 1, scratch.File("made"));
  options.progress = [&calls](std::uint64_t, std::uint64_t) { return ++calls < 0; };
  const Result<MakeCheckpointReport> made = MakeCheckpoint(options);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.status().code(), StatusCode::kResourceExhausted) << made.status().ToString();
  EXPECT_NE(made.status().message().find(" B free"), std::string::npos);
  EXPECT_NE(made.status().message().find("202758034206 B"), std::string::npos)
      << made.status().ToString();
  EXPECT_EQ(calls, 0);
  EXPECT_TRUE(Names(scratch.path()).empty());
}

// A file system of its own, mounted on a folder until the end of a test.
class Mount {
 public:
  Mount(const std::string& path, const char* type, const char* options) : path_(path) {
    std::filesystem::create_directory(path);
    os_error_ = mount(type, path.c_str(), type, 0, options) == 0 ? 0 : errno;
  }
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  ~Mount() {
    if (os_error_ == 0) umount2(path_.c_str(), MNT_DETACH);
  }
  [[nodiscard]] int os_error() const noexcept { return os_error_; }

 private:
  std::string path_;
  int os_error_ = 0;
};

TEST(MakeCheckpointTest, SurvivesAFullDisk) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting a small tmpfs needs root";
  const ScratchDir scratch;
  const std::string mounted = scratch.File("tmpfs");
  const Mount small(mounted, "tmpfs", "size=24m");
  if (small.os_error() != 0) {
    GTEST_SKIP() << "cannot mount a tmpfs here: " << std::strerror(small.os_error());
  }
  const std::string out = mounted + "/made";
  Result<MakeCheckpointReport> made =
      MakeCheckpoint(Options(CheckpointModel::kDeepSeekV41Flash, 10'000, out));  // 20 MB.
  ASSERT_FALSE(made.ok()) << "20 MB and 4 MiB to spare cannot fit 24 MiB";
  EXPECT_EQ(made.status().code(), StatusCode::kResourceExhausted) << made.status().ToString();
  EXPECT_TRUE(Names(mounted).empty());

  // Fills the disk once the work has begun, as another program may.
  MakeCheckpointOptions options = Options(CheckpointModel::kDeepSeekV41Flash, 15'000, out);
  options.progress = [&mounted](std::uint64_t, std::uint64_t) {
    std::ofstream(mounted + "/other", std::ios::binary) << std::string(20U << 20, 'x');
    return true;
  };
  made = MakeCheckpoint(options);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.status().code(), StatusCode::kResourceExhausted) << made.status().ToString();
  EXPECT_EQ(Names(mounted), std::vector<std::string>{"other"});
  std::filesystem::remove(mounted + "/other");

  options.progress = nullptr;
  made = MakeCheckpoint(options);
  ASSERT_TRUE(made.ok()) << made.status().ToString();
}

TEST(MakeCheckpointTest, WorksWithoutDirectIoAndSaysSo) {
  if (geteuid() != 0) GTEST_SKIP() << "mounting a ramfs needs root";
  const ScratchDir scratch;
  const std::string mounted = scratch.File("ramfs");
  // (tmpfs takes O_DIRECT since Linux 6.6.)
  const Mount memory(mounted, "ramfs", nullptr);
  if (memory.os_error() != 0) {
    GTEST_SKIP() << "cannot mount a ramfs here: " << std::strerror(memory.os_error());
  }
  const std::string out = mounted + "/made";
  const Result<MakeCheckpointReport> made =
      MakeCheckpoint(Options(CheckpointModel::kDeepSeekV41Flash, 15'000, out));
  ASSERT_TRUE(made.ok()) << made.status().ToString();
  EXPECT_FALSE(made.value().direct_io);
  const Result<CheckpointInfo> info = InspectCheckpoint(out);
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  EXPECT_EQ(WrongRows(info.value(), 99, 11), 0U);
  const Result<VerifyReport> report = VerifySynthetic(info.value(), {});
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(report.value().rows_checked, made.value().row_count);
  EXPECT_EQ(report.value().rows_different + report.value().rows_unreadable, 0U);
}

}  // namespace
}  // namespace tiercel
