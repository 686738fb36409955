// Tiercel, through its public API and nothing else.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "bench/peers/arm.h"
#include "bench/peers/peer_table.h"
#include "tiercel/store.h"

namespace tiercel::peers {
namespace {

class TiercelArm final : public Arm {
 public:
  explicit TiercelArm(std::unique_ptr<Store> store) : store_(std::move(store)) {}

  /// Waits until the scales are in DRAM; the store serves before that, with two reads a
  /// row. The last rows of a layer are loaded last: once one takes one read, all is there.
  Status AwaitScales() {
    if (store_->Stats().resident_scale_bytes == 0) return {};
    for (const LayerTable& layer : store_->checkpoint().layers) {
      std::vector<std::byte> bytes(layer.shape.row_size_bytes());
      std::vector<RowStatus> statuses(1);
      const auto give_up = std::chrono::steady_clock::now() + std::chrono::minutes(5);
      for (std::uint64_t attempt = 0;; ++attempt) {
        // Another row each time: one that was just read might be shared, not read.
        const RowId row{layer.row_count - 1 -
                        attempt % std::min<std::uint64_t>(64, layer.row_count)};
        const std::uint64_t before = store_->Stats().device_reads;
        if (Status status = store_->LookupRows({&row, 1}, {layer.layer_id, bytes, statuses});
            !status.ok()) {
          return status;
        }
        if (store_->Stats().device_reads - before < layer.parts.size()) break;
        if (std::chrono::steady_clock::now() > give_up) {
          return Status(StatusCode::kUnavailable, "the scales are not in DRAM after 5 minutes");
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    }
    return {};
  }

  Status Run(const Batch& batch) override {
    outputs_.clear();
    for (const LayerBatch& layer : batch.layers) {
      outputs_.push_back(
          {store_->checkpoint().layers[layer.layer_index].layer_id, layer.out, layer.row_status});
    }
    by_tokens_ = !batch.runs.empty();
    if (by_tokens_) return store_->Lookup(batch.runs, outputs_);
    for (std::size_t i = 0; i < batch.layers.size(); ++i) {
      if (Status status = store_->LookupRows(batch.layers[i].rows, outputs_[i]); !status.ok()) {
        return status;
      }
    }
    return {};
  }

  /// Of all reads since the store was opened: but for a few, those of this slice.
  bool TakeReadLatency(std::uint64_t& p50_ns, std::uint64_t& p99_ns) override {
    const StoreStats stats = store_->Stats();
    p50_ns = stats.device_read_p50_ns;
    p99_ns = stats.device_read_p99_ns;
    return stats.device_reads > 0;
  }

  [[nodiscard]] std::string description() const override {
    const StoreStats stats = store_->Stats();
    return fmt::format(
        "{}; {}; {} thread{} of {} reads in flight; scales {}",
        by_tokens_ ? "Store::Lookup by tokens, hashing included" : "Store::LookupRows",
        stats.engine_description, stats.io_thread_count, stats.io_thread_count == 1 ? "" : "s",
        stats.queue_depth, stats.resident_scale_bytes > 0 ? "in DRAM" : "on disk");
  }

 private:
  std::unique_ptr<Store> store_;
  std::vector<LayerOutput> outputs_;
  bool by_tokens_ = false;
};

}  // namespace

Result<std::unique_ptr<Arm>> OpenTiercelArm(const PeerTable& table, const ArmOptions& options,
                                            bool uring) {
  StoreOptions store_options;
  store_options.dram_budget_bytes = options.dram_budget_bytes;
  store_options.engine = uring ? Engine::kUring : Engine::kPread;
  store_options.io_thread_count = options.io_thread_count;
  if (options.depth != 0) store_options.queue_depth = options.depth;
  store_options.read_block_bytes = table.block_bytes();
  store_options.scales =
      options.resident_scales ? ScalePlacement::kResident : ScalePlacement::kDisk;
  Result<std::unique_ptr<Store>> store = Store::Open(table.info().path, store_options);
  if (!store.ok()) return std::move(store).TakeStatus();
  const StoreStats stats = store.value()->Stats();
  const std::string_view wanted = uring ? "io_uring" : "pread";
  if (stats.engine != wanted || !stats.engine_fallback.empty()) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("the store runs on {}, not on {}: {}", stats.engine, wanted,
                              stats.engine_fallback));
  }
  auto arm = std::make_unique<TiercelArm>(std::move(store).value());
  if (Status status = arm->AwaitScales(); !status.ok()) return status;
  return std::unique_ptr<Arm>(std::move(arm));
}

}  // namespace tiercel::peers
