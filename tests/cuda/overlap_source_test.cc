// Goal: the arms of overlap_gpu_bench whose rows come to the device by themselves see the same
// bytes as those that the store copies, and never a row that is not there yet.
//
// Method: the benchmark's own loop and its source over the HBM tier, on a fake GPU of host
// memory that runs streams in any order which they allow. The engine looks at rows when the
// model's stream has come to their layer, and no earlier work of other streams is run than
// that takes. A source that does not wait shows that this sees it.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "bench/overlap_hbm.h"
#include "bench/overlap_loop.h"
#include "bench/overlap_table.h"
#include "tests/cuda/hbm_test_support.h"
#include "tests/cuda/overlap_fake_engine.h"

namespace tiercel::bench {
namespace {

using testing::FakeCall;
using testing::FakeOverlapEngine;
using testing::HbmRig;
using testing::MadeCheckpoint;

using Source = HbmSource<HbmCache, HbmStream>;

constexpr std::uint32_t kStepTokens = 24;
constexpr std::uint32_t kAhead = 2;

/// A store, a fake GPU with the tier, and places for rows on it.
struct SourceRig {
  SourceRig(const MadeCheckpoint& made, std::uint64_t seed)
      : rig(Open(made, seed)), model(ModelOf(made)) {
    const Recipe& recipe = made.info().recipe;
    row_bytes = std::size_t{2} * recipe.column_count() * recipe.parameters.head_dim;
    model_stream = rig.device->CreateStream().value();
    for (std::uint32_t place = 0; place <= kAhead; ++place) {
      outputs.emplace_back();
      for (const std::uint32_t layer_id : model.layer_ids) {
        memory.push_back(std::make_unique<std::byte[]>(kStepTokens * row_bytes));
        outputs.back().push_back({.layer_id = layer_id, .rows = memory.back().get()});
      }
    }
  }
  static OverlapModel ModelOf(const MadeCheckpoint& made) {
    OverlapModel model = {.block_time = std::chrono::nanoseconds(0),
                          .layer_ids = made.info().recipe.parameters.layer_ids};
    std::ranges::sort(model.layer_ids);
    return model;
  }
  static HbmRig Open(const MadeCheckpoint& made, std::uint64_t seed) {
    const CheckpointInfo& info = made.info();
    HbmOptions hbm =
        OverlapHbmOptions(info.recipe, ModelOf(made).layer_ids,
                          info.layers[0].shape.row_size_bytes(), kStepTokens, kAhead + 1);
    // Fewer slots than the 2,880 groups of the prefill, more than the 720 of the decode steps,
    // which come twice in a row: the second time some of them are there, however late.
    hbm.hbm_budget_bytes = testing::SmallHbm(made, /*slot_count=*/1024).hbm_budget_bytes;
    return testing::OpenRig(made, {.seed = seed, .hbm = hbm});
  }
  Result<OverlapTimes> Run(OverlapSource& source, std::span<const OverlapStep> steps,
                           std::uint32_t ahead, OverlapFetch fetch = OverlapFetch::kSource) {
    FakeOverlapEngine engine(row_bytes, /*seed=*/5);
    engine.Attach(rig.device, model_stream);
    return RunSteps({.fetch = fetch,
                     .source = &source,
                     .engine = &engine,
                     .capacity = kStepTokens,
                     .ahead = ahead},
                    model, steps);
  }
  Source NewSource() { return {*rig.cache, outputs, rig.stream, model_stream}; }

  std::vector<std::unique_ptr<std::byte[]>> memory;
  std::vector<std::vector<HbmOutput>> outputs;
  HbmRig rig;  // Its device writes to the memory above until it is closed.
  OverlapModel model;
  HbmStream model_stream;
  std::size_t row_bytes = 0;
};

class OverlapSourceTest : public ::testing::Test {
 protected:
  OverlapSourceTest() : made_(MadeCheckpoint::Options{}), tokens_(made_.RandomTokens(3, 600)) {
    std::copy_n(tokens_.begin(), 100, tokens_.begin() + 200);  // Some groups come again.
    const std::size_t history = made_.info().recipe.order_count();
    const std::vector<OverlapSequence> sequences = {{0, 150}, {150, 310}, {310, 450}, {450, 600}};
    decode_ = DecodeSteps(tokens_, sequences, history, {.stream_count = 3, .step_count = 40});
    prefill_ = PrefillSteps(tokens_, sequences, history,
                            {.step_tokens = kStepTokens, .ahead = kAhead, .step_count = 20});
  }

  /// By tickets and by blocking lookups, both into host memory.
  std::vector<std::uint64_t> Expected(std::span<const OverlapStep> steps, std::uint32_t ahead) {
    const std::unique_ptr<Store> store = Store::Open(made_.path(), testing::SmallStore()).value();
    ClockEngine clock;
    std::vector<std::uint64_t> digests;
    for (const OverlapFetch fetch : {OverlapFetch::kTickets, OverlapFetch::kBlocking}) {
      const Result<OverlapTimes> times = RunSteps({.fetch = fetch,
                                                   .store = store.get(),
                                                   .engine = &clock,
                                                   .capacity = kStepTokens,
                                                   .ahead = ahead},
                                                  SourceRig::ModelOf(made_), steps);
      EXPECT_TRUE(times.ok()) << times.status().ToString();
      if (!digests.empty()) {
        EXPECT_EQ(digests, times.value().digests);
      }
      digests = times.value().digests;
    }
    return digests;
  }

  MadeCheckpoint made_;
  std::vector<std::int32_t> tokens_;
  std::vector<OverlapStep> decode_;
  std::vector<OverlapStep> prefill_;
};

TEST_F(OverlapSourceTest, TheHbmTierBringsTheRowsThatTicketsBring) {
  const std::vector<std::uint64_t> decode = Expected(decode_, 0);
  const std::vector<std::uint64_t> prefill = Expected(prefill_, kAhead);
  for (std::uint64_t seed = 1; seed <= 2; ++seed) {
    SCOPED_TRACE(seed);
    SourceRig rig(made_, seed);
    Source source = rig.NewSource();
    for (int round = 0; round < 2; ++round) {
      Result<OverlapTimes> times = rig.Run(source, decode_, 0);
      ASSERT_TRUE(times.ok()) << times.status().ToString();
      EXPECT_EQ(times.value().digests, decode);
      EXPECT_EQ(times.value().token_count, decode_.size() * 3);
      times = rig.Run(source, prefill_, kAhead);
      ASSERT_TRUE(times.ok()) << times.status().ToString();
      EXPECT_EQ(times.value().digests, prefill);
      times = rig.Run(source, decode_, 0, OverlapFetch::kSourceBlocking);
      ASSERT_TRUE(times.ok()) << times.status().ToString();
      EXPECT_EQ(times.value().digests, decode);
    }
    EXPECT_GT(rig.rig.device->overtaken(), 0U);
    EXPECT_GT(source.Hits().hits, 0U);
    EXPECT_LT(source.Hits().hits, source.Hits().groups);
  }
}

/// What a benchmark must not do.
class ImpatientSource final : public OverlapSource {
 public:
  explicit ImpatientSource(Source& source) : source_(source) {}
  Status Start(std::size_t place, const OverlapStep& step,
               std::span<const std::chrono::nanoseconds> needed_after) override {
    return source_.Start(place, step, needed_after);
  }
  Status Wait(std::size_t /*place*/, std::size_t /*layer*/) override { return {}; }
  [[nodiscard]] const std::byte* Rows(std::size_t place, std::size_t layer) const override {
    return source_.Rows(place, layer);
  }
  Status Finish(std::size_t place) override { return source_.Finish(place); }

 private:
  Source& source_;
};

TEST_F(OverlapSourceTest, ASourceThatDoesNotWaitIsSeen) {
  SourceRig rig(made_, 1);
  Source source = rig.NewSource();
  ImpatientSource impatient(source);
  const Result<OverlapTimes> times = rig.Run(impatient, prefill_, kAhead);
  EXPECT_TRUE(!times.ok() || times.value().digests != Expected(prefill_, kAhead));
  ASSERT_TRUE(rig.rig.device->Synchronize().ok());
}

TEST_F(OverlapSourceTest, AFailedLaunchEndsTheRun) {
  SourceRig rig(made_, 1);
  Source source = rig.NewSource();
  rig.rig.device->FailNth(FakeCall::kGather, 9);
  EXPECT_FALSE(rig.Run(source, decode_, 0).ok());
  ASSERT_TRUE(rig.rig.device->Synchronize().ok());
}

TEST_F(OverlapSourceTest, ALoopThatIsOutOfTimeSaysSo) {
  const std::unique_ptr<Store> store = Store::Open(made_.path(), testing::SmallStore()).value();
  ClockEngine clock;
  const Result<OverlapTimes> times = RunSteps({.fetch = OverlapFetch::kTickets,
                                               .store = store.get(),
                                               .engine = &clock,
                                               .capacity = kStepTokens,
                                               .seconds_max = -1.0},
                                              SourceRig::ModelOf(made_), decode_);
  ASSERT_TRUE(times.ok()) << times.status().ToString();
  EXPECT_TRUE(times.value().cut);
  EXPECT_EQ(times.value().step_count, 0U);
  EXPECT_EQ(times.value().digests, std::vector<std::uint64_t>(decode_.size()));
}

TEST_F(OverlapSourceTest, AGeneratedTableHasTheRowsThatTheNumbersName) {
  const OverlapTableLayout layout = LayOutTable(made_.info()).value();
  std::vector<std::byte> table(layout.size_bytes);
  // In pieces whose ends lie within rows.
  constexpr std::uint64_t kPieceBytes = 1'000'003;
  for (std::uint64_t at = 0; at < table.size(); at += kPieceBytes) {
    FillTable(layout, at, std::span(table).subspan(at, std::min(kPieceBytes, table.size() - at)));
  }
  const Hasher hasher = Hasher::Create(made_.info().recipe).value();
  tokens_[40] = kDeadToken;
  const TokenRun runs[] = {
      {.history = {}, .tokens = std::span(tokens_).first(30)},
      {.history = std::span(tokens_).subspan(30, 3), .tokens = std::span(tokens_).subspan(33, 20)}};
  const std::size_t columns = hasher.recipe().column_count();
  const std::unique_ptr<Store> store = Store::Open(made_.path(), testing::SmallStore()).value();
  for (std::uint32_t layer = 0; layer < layout.layers.size(); ++layer) {
    const OverlapTableLayer& at = layout.layers[layer];
    testing::LayerBuffers looked_up(*store, at.layer_id, 50 * columns, RowOutput::kStored);
    const LayerOutput output = looked_up.Output();
    ASSERT_TRUE(store->Lookup(runs, {&output, 1}).ok());
    std::vector<std::uint32_t> numbers(50 * columns);
    ASSERT_TRUE(RowNumbers(hasher, layer, runs, numbers).ok());
    const std::size_t size = at.shape.row_size_bytes();
    const std::vector<std::byte> zeros(size);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      const bool none = numbers[i] == SlabGather::kNone;
      EXPECT_EQ(none, i / columns == 37U);
      const std::byte* const row =
          none ? zeros.data() : table.data() + at.offset_bytes + numbers[i] * size;
      ASSERT_EQ(std::memcmp(row, looked_up.rows.data() + i * size, size), 0) << "row " << i;
    }
  }
}

TEST_F(OverlapSourceTest, AMadeTableIsWhatMakeCheckpointMakes) {
  const MadeCheckpoint made({.shrink = 30000, .seed = 1});
  const Result<CheckpointInfo> info = InspectTable("made:30000");
  ASSERT_TRUE(info.ok()) << info.status().ToString();
  EXPECT_EQ(ToJson(info.value().recipe), ToJson(made.info().recipe));
  EXPECT_EQ(info.value().table_bytes, made.info().table_bytes);
  EXPECT_EQ(info.value().synthetic_seed, made.info().synthetic_seed);
  ASSERT_EQ(info.value().layers.size(), made.info().layers.size());
  for (std::size_t i = 0; i < made.info().layers.size(); ++i) {
    EXPECT_EQ(info.value().layers[i].layer_id, made.info().layers[i].layer_id);
    EXPECT_EQ(info.value().layers[i].row_count, made.info().layers[i].row_count);
    EXPECT_EQ(info.value().layers[i].shape.format, made.info().layers[i].shape.format);
    EXPECT_EQ(info.value().layers[i].shape.value_count, made.info().layers[i].shape.value_count);
  }
  for (const char* const wrong : {"made:", "made:0", "made:2x", "made:-1"}) {
    EXPECT_EQ(InspectTable(wrong).status().code(), StatusCode::kInvalidArgument) << wrong;
  }
}

}  // namespace
}  // namespace tiercel::bench
