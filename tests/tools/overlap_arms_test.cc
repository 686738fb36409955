// Goal: overlap_gpu_bench as a whole, but for its GPU: every arm that its flags ask for runs,
// within the limits that the program gives the store and the tier; rows that differ are found;
// an arm that has no memory or no time is left out, aloud.
//
// Method: its main() on a device whose HBM tiers are on fake GPUs and whose tables are in host
// memory.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "bench/overlap_arms.h"
#include "bench/overlap_hbm.h"
#include "cuda/hbm_cache.h"
#include "tests/cuda/overlap_fake_engine.h"
#include "tests/support/fake_hbm_device.h"
#include "tests/support/made_checkpoint.h"

namespace tiercel::bench {
namespace {

using testing::FakeHbmDevice;
using testing::FakeOverlapEngine;
using Outputs = std::vector<std::vector<HbmOutput>>;

/// A tier on a fake GPU of its own.
class FakeTierSource final : public OverlapSource {
 public:
  FakeTierSource(Store& store, const HbmOptions& options, Outputs outputs,
                 FakeOverlapEngine& engine)
      : engine_(engine) {
    auto device = std::make_unique<FakeHbmDevice>(/*seed=*/1, /*thread_count=*/0);
    const HbmStream rows = device->CreateStream().value();
    const HbmStream model = device->CreateStream().value();
    engine.Attach(device.get(), model);
    cache_ = HbmCache::Create(store, std::move(device), options).value();
    source_ =
        std::make_unique<HbmSource<HbmCache, HbmStream>>(*cache_, std::move(outputs), rows, model);
  }
  ~FakeTierSource() override {
    engine_.Attach(nullptr, {});
    cache_->Close();
  }
  Status Start(std::size_t place, const OverlapStep& step,
               std::span<const std::chrono::nanoseconds> needed_after) override {
    return source_->Start(place, step, needed_after);
  }
  Status Wait(std::size_t place, std::size_t layer) override { return source_->Wait(place, layer); }
  [[nodiscard]] const std::byte* Rows(std::size_t place, std::size_t layer) const override {
    return source_->Rows(place, layer);
  }
  Status Finish(std::size_t place) override { return source_->Finish(place); }
  [[nodiscard]] OverlapHits Hits() const override { return source_->Hits(); }

 private:
  FakeOverlapEngine& engine_;
  std::shared_ptr<HbmCache> cache_;
  std::unique_ptr<HbmSource<HbmCache, HbmStream>> source_;
};

/// Rows of a table in host memory, copied when they are asked for.
class HostTableSource final : public OverlapSource {
 public:
  HostTableSource(const Hasher& hasher, const OverlapTableLayout& layout,
                  const std::vector<std::byte>& table, Outputs outputs)
      : hasher_(hasher), layout_(layout), table_(table), outputs_(std::move(outputs)) {}
  Status Start(std::size_t place, const OverlapStep& step,
               std::span<const std::chrono::nanoseconds> /*needed_after*/) override {
    std::vector<std::uint32_t> numbers(step.token_count * hasher_.recipe().column_count());
    for (std::uint32_t i = 0; i < layout_.layers.size(); ++i) {
      const OverlapTableLayer& layer = layout_.layers[i];
      if (Status status = RowNumbers(hasher_, i, step.runs, numbers); !status.ok()) return status;
      for (const HbmOutput& output : outputs_[place]) {
        if (output.layer_id != layer.layer_id) continue;
        auto* target = reinterpret_cast<std::uint16_t*>(output.rows);
        for (const std::uint32_t number : numbers) {
          const std::size_t size = layer.shape.row_size_bytes();
          DequantizeToBf16(layer.shape,
                           std::span(table_).subspan(layer.offset_bytes + number * size, size),
                           {target, layer.shape.value_count});
          target += layer.shape.value_count;
        }
      }
    }
    return {};
  }
  Status Wait(std::size_t /*place*/, std::size_t /*layer*/) override { return {}; }
  [[nodiscard]] const std::byte* Rows(std::size_t place, std::size_t layer) const override {
    return outputs_[place][layer].rows;
  }
  Status Finish(std::size_t /*place*/) override { return {}; }

 private:
  const Hasher& hasher_;
  const OverlapTableLayout layout_;
  const std::vector<std::byte>& table_;
  Outputs outputs_;
};

class FakeDevice final : public OverlapDevice {
 public:
  bool wrong_table = false;  ///< One byte of a table's every row differs.
  bool table_does_not_fit = false;
  int tables_made = 0;

  Result<OverlapEngine*> Open(const CheckpointInfo& info, const OverlapModel& model,
                              const OverlapFlags& flags) override {
    recipe_ = info.recipe;
    layer_ids_ = model.layer_ids;
    row_size_bytes_ = info.layers[0].shape.row_size_bytes();
    tokens_max_ = std::max(flags.decode.stream_count, flags.prefill.step_tokens);
    const std::size_t row_bytes =
        std::size_t{2} * recipe_.column_count() * recipe_.parameters.head_dim;
    engine_ = std::make_unique<FakeOverlapEngine>(row_bytes, /*seed=*/2);
    for (std::uint32_t place = 0; place <= flags.prefill.ahead; ++place) {
      outputs_.emplace_back();
      for (const std::uint32_t layer_id : layer_ids_) {
        memory_.push_back(std::make_unique<std::uint16_t[]>(tokens_max_ * row_bytes / 2));
        outputs_.back().push_back(
            {.layer_id = layer_id, .rows = reinterpret_cast<std::byte*>(memory_.back().get())});
      }
    }
    return engine_.get();
  }
  Result<std::unique_ptr<OverlapSource>> OpenHbm(Store& store, std::uint64_t hbm_bytes) override {
    HbmOptions options = OverlapHbmOptions(recipe_, layer_ids_, row_size_bytes_, tokens_max_,
                                           static_cast<std::uint32_t>(outputs_.size()));
    options.hbm_budget_bytes = hbm_bytes;
    return std::unique_ptr<OverlapSource>(
        std::make_unique<FakeTierSource>(store, options, outputs_, *engine_));
  }
  Result<std::unique_ptr<OverlapSource>> OpenTable(const Hasher& hasher,
                                                   const OverlapTableLayout& layout,
                                                   TablePlace /*place*/,
                                                   bool /*in_front*/) override {
    if (table_does_not_fit) return Status(StatusCode::kResourceExhausted, "a fake GPU is small");
    if (table_.empty()) {
      ++tables_made;
      table_.resize(layout.size_bytes);
      FillTable(layout, 0, table_);
      for (std::size_t at = 0; wrong_table && at < table_.size(); at += row_size_bytes_) {
        table_[at] ^= std::byte{1};
      }
    }
    return std::unique_ptr<OverlapSource>(
        std::make_unique<HostTableSource>(hasher, layout, table_, outputs_));
  }
  void DropTable() noexcept override { table_.clear(); }

 private:
  Recipe recipe_;
  std::vector<std::uint32_t> layer_ids_;
  std::uint32_t row_size_bytes_ = 0;
  std::uint32_t tokens_max_ = 0;
  std::unique_ptr<FakeOverlapEngine> engine_;
  std::vector<std::unique_ptr<std::uint16_t[]>> memory_;
  Outputs outputs_;
  std::vector<std::byte> table_;
};

class OverlapArmsTest : public ::testing::Test {
 protected:
  /// What the program prints with `more` flags.
  std::string Run(FakeDevice& device, const std::vector<std::string>& more, int expected_code) {
    std::vector<std::string> words = {"overlap_fake_bench",
                                      made_.path(),
                                      TIERCEL_SOURCE_DIR "/tests/data/sample_trace",
                                      "--token-map",
                                      TIERCEL_SOURCE_DIR "/tests/data/token_map_v3.u32",
                                      "--budgets",
                                      "24MiB",
                                      "--resident-budget",
                                      "32MiB",
                                      "--block-ms",
                                      "0",
                                      "--prefill-block-ms",
                                      "0",
                                      "--sequences",
                                      "8",
                                      "--length-max",
                                      "120",
                                      "--warm-sequences",
                                      "2",
                                      "--streams",
                                      "2",
                                      "--decode-steps",
                                      "5",
                                      "--step-tokens",
                                      "40",
                                      "--prefill-steps",
                                      "4",
                                      "--rounds",
                                      "1"};
    words.insert(words.end(), more.begin(), more.end());
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    ::testing::internal::CaptureStdout();
    EXPECT_EQ(OverlapMain(static_cast<int>(arguments.size()), arguments.data(), words[0].c_str(),
                          &device),
              expected_code);
    std::fflush(stdout);
    return ::testing::internal::GetCapturedStdout();
  }

  const testing::MadeCheckpoint made_{testing::MadeCheckpoint::Options{}};
  FakeDevice device_;
};

TEST_F(OverlapArmsTest, AllArmsRunAndSeeTheSameRows) {
  const auto json =
      nlohmann::json::parse(Run(device_,
                                {"--hbm-budgets", "1MiB,16MiB", "--hbm-table", "--pinned-table",
                                 "--gather-multiprocessors", "2", "--json"},
                                0));
  std::vector<std::string> names;
  for (const auto& arm : json.at("arms")) {
    names.push_back(arm.at("name"));
    EXPECT_FALSE(arm.contains("left_out")) << arm;
    EXPECT_EQ(arm.at("decode").at("steps"), 5) << arm;
    EXPECT_EQ(arm.at("prefill").at("steps"), 4) << arm;
    const bool tier = arm.at("hbm_budget_bytes") != 0;
    EXPECT_EQ(arm.at("hbm_hit_rate") > 0.0, tier) << arm;
  }
  EXPECT_EQ(names, (std::vector<std::string>{
                       "no Engram", "rows on the device", "table in HBM", "table pinned",
                       "table pinned, in front", "resident in DRAM", "HBM 1MiB, resident in DRAM",
                       "HBM 16MiB, resident in DRAM", "tickets, 24MiB", "HBM 1MiB, 24MiB",
                       "HBM 16MiB, 24MiB", "blocking, 24MiB"}));
}

TEST_F(OverlapArmsTest, RowsThatDifferAreFound) {
  device_.wrong_table = true;
  EXPECT_EQ(Run(device_, {"--hbm-table"}, 1), "");
}

TEST_F(OverlapArmsTest, AnArmWithoutMemoryIsLeftOut) {
  device_.table_does_not_fit = true;
  const std::string text = Run(device_, {"--hbm-table", "--blocking-budgets", "none"}, 0);
  EXPECT_NE(text.find("LEFT OUT: a fake GPU is small"), std::string::npos) << text;
  EXPECT_NE(text.find("tickets, 24MiB"), std::string::npos) << text;
  EXPECT_EQ(text.find("blocking, 24MiB"), std::string::npos) << text;
}

TEST_F(OverlapArmsTest, ArmsWithoutTimeAreLeftOut) {
  const std::string text = Run(device_, {"--deadline", "0.0001"}, 0);
  EXPECT_NE(text.find("tickets, 24MiB"), std::string::npos) << text;
  EXPECT_NE(text.find("LEFT OUT: it would take"), std::string::npos) << text;
}

TEST_F(OverlapArmsTest, ATableIsGeneratedOnceForBothOfItsArms) {
  const std::string text = Run(device_, {"--pinned-table", "--no-store"}, 0);
  EXPECT_NE(text.find("table pinned, in front"), std::string::npos) << text;
  EXPECT_EQ(text.find("tickets"), std::string::npos) << text;
  EXPECT_EQ(device_.tables_made, 1);
}

TEST_F(OverlapArmsTest, MemoryThatIsNotThereIsToldBeforeAnythingRuns) {
  EXPECT_EQ(Run(device_, {"--memory", "1GiB"}, 1), "");
}

}  // namespace
}  // namespace tiercel::bench
