#include "bench/overlap_gpu.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "bench/overlap_digest.h"
#include "bench/overlap_gpu_kernels.h"
#include "bench/overlap_gpu_memory.h"
#include "bench/overlap_hbm.h"
#include "cuda/layer/engram_layer.h"
#include "cuda/layer/engram_product.h"

namespace tiercel::bench {
namespace {

/// Products of a block: [kProductRows, kProductWidth] by a square matrix.
constexpr std::uint32_t kProductRows = 2048;
constexpr std::uint32_t kProductWidth = 4096;
constexpr int kCalibrationProducts = 200;

std::uint32_t DimOf(RecipeKind kind) {
  switch (kind) {
    case RecipeKind::kDeepSeekV41:
      return 5120;
    case RecipeKind::kQwen38:
      return 2560;
    case RecipeKind::kEngramDemo:
      return 1024;
  }
  return 1024;
}

/// Places on the model's stream in one step, with the times between them. Everything here
/// ends with the process.
struct StepEvents {
  struct Layer {
    cudaEvent_t wait = nullptr;  ///< The layer has all but its rows.
    cudaEvent_t use = nullptr;   ///< It has them.
    cudaEvent_t end = nullptr;
    bool recorded = false;
  };
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  std::vector<Layer> layers;

  Status Create(std::size_t layer_count) {
    layers.resize(layer_count);
    Status status = CudaStatus(cudaEventCreate(&begin), "an event");
    if (status.ok()) status = CudaStatus(cudaEventCreate(&end), "an event");
    for (Layer& layer : layers) {
      for (cudaEvent_t* const event : {&layer.wait, &layer.use, &layer.end}) {
        if (status.ok()) status = CudaStatus(cudaEventCreate(event), "an event");
      }
    }
    return status;
  }
  /// Adds the times of a step that has run.
  Status AddTo(OverlapTimes& times) {
    double rows_seconds = 0.0;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      if (!std::exchange(layers[i].recorded, false)) continue;
      double waited = 0.0;
      double used = 0.0;
      Status status = Between(layers[i].wait, layers[i].use, waited);
      if (status.ok()) status = Between(layers[i].use, layers[i].end, used);
      if (!status.ok()) return status;
      times.wait_seconds[i] += waited;
      times.use_seconds += used;
      rows_seconds += waited + used;
    }
    double all = 0.0;
    if (Status status = Between(begin, end, all); !status.ok()) return status;
    times.compute_seconds += all - rows_seconds;
    return {};
  }
  static Status Between(cudaEvent_t first, cudaEvent_t second, double& seconds) {
    float milliseconds = 0.0F;
    Status status =
        CudaStatus(cudaEventElapsedTime(&milliseconds, first, second), "the time of a step");
    seconds = static_cast<double>(milliseconds) / 1000.0;
    return status;
  }
};

/// The model on one stream: blocks of products, and the real Engram layers.
class GpuEngine final : public OverlapEngine {
 public:
  Status Init(const CheckpointInfo& info, const OverlapModel& model, std::uint32_t tokens_max) {
    tokens_max_ = tokens_max;
    Status status =
        CudaStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream");
    if (status.ok()) status = MakeLayers(info, model.layer_ids.size());
    if (status.ok()) status = MakeProduct();
    if (status.ok()) status = events_.Create(model.layer_ids.size());
    // The memory above was zeroed on another stream.
    if (status.ok()) status = CudaStatus(cudaDeviceSynchronize(), "preparing the model");
    return status.ok() ? Calibrate() : std::move(status);
  }
  [[nodiscard]] cudaStream_t stream() const noexcept { return stream_; }
  /// Every layer once, with so many tokens. Waits.
  Status RunLayers(std::uint32_t token_count) {
    OverlapTimes times;
    Status status = Begin({}, 1, times);
    for (std::size_t layer = 0; status.ok() && layer < layers_.size(); ++layer) {
      status = Use({.layer = layer, .token_count = token_count});
    }
    times_ = nullptr;
    if (!status.ok()) return status;
    return CudaStatus(cudaStreamSynchronize(stream_), "running the layers");
  }

  Status Pin(std::span<std::byte> rows) override {
    return CudaStatus(cudaHostRegister(rows.data(), rows.size(), cudaHostRegisterDefault),
                      "pinning rows");
  }
  void Unpin(std::span<std::byte> rows) noexcept override { cudaHostUnregister(rows.data()); }

  Status Begin(const OverlapModel& model, std::uint64_t step_count, OverlapTimes& times) override {
    const double block_ms = std::chrono::duration<double, std::milli>(model.block_time).count();
    const int products = static_cast<int>(std::lround(block_ms / product_ms_));
    products_of_block_ = block_ms > 0.0 ? std::max(products, 1) : 0;
    times_ = &times;
    if (Status status = AllocateZeroed(step_count + 1, digests_); !status.ok()) return status;
    return CudaStatus(cudaDeviceSynchronize(), "preparing steps");
  }
  Status BeginStep() override {
    return CudaStatus(cudaEventRecord(events_.begin, stream_), "an event");
  }
  Status Compute(std::uint32_t /*block*/, std::size_t /*token_count*/) override {
    return RunProducts(products_of_block_);
  }
  Status BeginWait(std::size_t layer) override {
    events_.layers[layer].recorded = true;
    return CudaStatus(cudaEventRecord(events_.layers[layer].wait, stream_), "an event");
  }
  Status EndWait(std::size_t layer) override {
    return CudaStatus(cudaEventRecord(events_.layers[layer].use, stream_), "an event");
  }
  Status Use(const OverlapRows& rows) override {
    const auto token_count = static_cast<std::uint32_t>(rows.token_count);
    Status status = SetRun(token_count);
    if (status.ok() && !rows.host.empty()) {
      status = CudaStatus(cudaMemcpyAsync(rows_.get(), rows.host.data(), rows.host.size(),
                                          cudaMemcpyHostToDevice, stream_),
                          "copying rows");
    }
    const auto* const embeddings =
        rows.device != nullptr ? reinterpret_cast<const std::uint16_t*>(rows.device) : rows_.get();
    if (status.ok()) {
      status = CudaStatus(
          LaunchDigest(embeddings, std::uint64_t{2} * token_count * row_width_,
                       rows.layer * kDigestLayerWords, digests_.get() + rows.step, stream_),
          "launch of the digest");
    }
    if (status.ok()) {
      status = layers_[rows.layer]->ForwardAsync({.token_count = token_count,
                                                  .embeddings = embeddings,
                                                  .streams = streams_.get(),
                                                  .run_count = 1,
                                                  .run_begins = run_begins_.get(),
                                                  .history = history_.get()},
                                                 stream_);
    }
    if (!status.ok()) return status;
    return CudaStatus(cudaEventRecord(events_.layers[rows.layer].end, stream_), "an event");
  }
  Status EndStep() override {
    Status status = CudaStatus(cudaEventRecord(events_.end, stream_), "an event");
    if (status.ok()) status = CudaStatus(cudaStreamSynchronize(stream_), "a step");
    return status.ok() ? events_.AddTo(*times_) : std::move(status);
  }
  Status End() override {
    return CudaStatus(
        cudaMemcpy(times_->digests.data(), digests_.get(),
                   times_->digests.size() * sizeof(std::uint64_t), cudaMemcpyDeviceToHost),
        "the digests of rows");
  }

 private:
  Status MakeLayers(const CheckpointInfo& info, std::size_t layer_count) {
    const Recipe& recipe = info.recipe;
    const RecipeKind kind = recipe.parameters.kind;
    row_width_ = recipe.column_count() * recipe.parameters.head_dim;
    FusionShape shape = PublishedFusionShape(kind, DimOf(kind), row_width_);
    if (kind == RecipeKind::kDeepSeekV41) shape.rounding = FusionRounding::kDeepSeekV41;
    FusionWeights<float> weights = ZeroFusionWeights<float>(shape);
    Prng prng(1);
    for (auto* const values : {&weights.kv_weight, &weights.key_norm, &weights.query_norm,
                               &weights.conv_norm, &weights.conv_weight}) {
      for (float& value : *values) value = static_cast<float>(prng.Unit() * 0.02);
    }
    for (std::size_t i = 0; i < layer_count; ++i) {
      Result<std::unique_ptr<CudaEngramLayer>> layer =
          CudaEngramLayer::Create(shape, weights, tokens_max_);
      if (!layer.ok()) return std::move(layer).TakeStatus();
      layers_.push_back(std::move(layer).value());
    }
    Status status = AllocateZeroed(std::size_t{tokens_max_} * row_width_, rows_);
    if (status.ok()) status = AllocateZeroed(tokens_max_ * shape.plane(), streams_);
    if (status.ok()) {
      status = AllocateZeroed(shape.history_tokens() * shape.plane() + 1, history_);
    }
    return status.ok() ? AllocateZeroed(std::size_t{2}, run_begins_) : std::move(status);
  }

  Status MakeProduct() {
    constexpr std::size_t kWidth = kProductWidth;
    Status status = AllocateZeroed(kProductRows * kWidth, product_x_);
    if (status.ok()) status = AllocateZeroed(kProductRows * kWidth, product_y_);
    if (status.ok()) status = AllocateZeroed(kWidth * kWidth, product_w_);
    if (!status.ok()) return status;
    Result<std::unique_ptr<BfloatProduct>> product =
        BfloatProduct::Create(kProductWidth, kProductWidth, false);
    if (!product.ok()) return std::move(product).TakeStatus();
    product_ = std::move(product).value();
    return {};
  }

  Status RunProducts(int count) {
    for (int i = 0; i < count; ++i) {
      Status status = product_->RunAsync(product_x_.get(), kProductRows, product_w_.get(), nullptr,
                                         product_y_.get(), stream_);
      if (!status.ok()) return status;
    }
    return {};
  }

  /// How long one product takes. The first ones warm up.
  Status Calibrate() {
    for (int round = 0; round < 2; ++round) {
      const auto begin = std::chrono::steady_clock::now();
      if (Status status = RunProducts(kCalibrationProducts); !status.ok()) return status;
      Status status = CudaStatus(cudaStreamSynchronize(stream_), "the calibration");
      if (!status.ok()) return status;
      const std::chrono::duration<double, std::milli> passed =
          std::chrono::steady_clock::now() - begin;
      product_ms_ = passed.count() / kCalibrationProducts;
    }
    return {};
  }

  /// All tokens count as one sequence: what that is has no part in the time.
  Status SetRun(std::uint32_t token_count) {
    if (token_count == std::exchange(run_tokens_, token_count)) return {};
    const std::uint32_t begins[2] = {0, token_count};
    return CudaStatus(
        cudaMemcpyAsync(run_begins_.get(), begins, sizeof(begins), cudaMemcpyHostToDevice, stream_),
        "copying a run");
  }

  std::uint32_t tokens_max_ = 0;
  std::uint32_t row_width_ = 0;    ///< Values of a token's rows.
  cudaStream_t stream_ = nullptr;  // Ends with the process, as does all the rest.
  std::vector<std::unique_ptr<CudaEngramLayer>> layers_;
  std::unique_ptr<BfloatProduct> product_;
  double product_ms_ = 1.0;
  int products_of_block_ = 1;
  std::uint32_t run_tokens_ = 0;
  StepEvents events_;
  OverlapTimes* times_ = nullptr;
  CudaArray<std::uint64_t> digests_;  ///< By step.
  CudaArray<std::uint16_t> rows_;     ///< Copies of rows that are in host memory.
  CudaArray<std::uint16_t> streams_;
  CudaArray<float> history_;
  CudaArray<std::uint32_t> run_begins_;
  CudaArray<std::uint16_t> product_x_;
  CudaArray<std::uint16_t> product_y_;
  CudaArray<std::uint16_t> product_w_;
};

/// An HBM tier with the source that asks it.
class OwningHbmSource final : public OverlapSource {
 public:
  OwningHbmSource(std::unique_ptr<HbmTier> tier, std::vector<std::vector<HbmOutput>> outputs,
                  cudaStream_t rows_stream, cudaStream_t model_stream)
      : tier_(std::move(tier)), source_(*tier_, std::move(outputs), rows_stream, model_stream) {}

  Status Start(std::size_t place, const OverlapStep& step,
               std::span<const std::chrono::nanoseconds> needed_after) override {
    return source_.Start(place, step, needed_after);
  }
  Status Wait(std::size_t place, std::size_t layer) override { return source_.Wait(place, layer); }
  [[nodiscard]] const std::byte* Rows(std::size_t place, std::size_t layer) const override {
    return source_.Rows(place, layer);
  }
  Status Finish(std::size_t place) override { return source_.Finish(place); }
  [[nodiscard]] OverlapHits Hits() const override { return source_.Hits(); }

 private:
  std::unique_ptr<HbmTier> tier_;
  HbmSource<HbmTier, cudaStream_t> source_;
};

class OverlapGpu final : public OverlapDevice {
 public:
  Result<OverlapEngine*> Open(const CheckpointInfo& info, const OverlapModel& model,
                              const OverlapFlags& flags) override {
    layer_ids_ = model.layer_ids;
    recipe_ = info.recipe;
    row_size_bytes_ = info.layers[0].shape.row_size_bytes();
    tokens_max_ = std::max(flags.decode.stream_count, flags.prefill.step_tokens);
    multiprocessors_max_ = flags.gather_multiprocessors;
    Status status = engine_.Init(info, model, tokens_max_);
    // Of the highest priority: a gather waits for room on a multiprocessor, not for a block's
    // products.
    int lowest = 0;
    int highest = 0;
    if (status.ok()) {
      status = CudaStatus(cudaDeviceGetStreamPriorityRange(&lowest, &highest), "priorities");
    }
    if (status.ok()) {
      status = CudaStatus(
          cudaStreamCreateWithPriority(&rows_stream_, cudaStreamNonBlocking, highest), "a stream");
    }
    if (status.ok()) status = MakeOutputs(flags.prefill.ahead + 1);
    // A layer's first batch of a size looks for its product's algorithm: not in an arm's time.
    if (status.ok()) status = engine_.RunLayers(flags.decode.stream_count);
    if (status.ok()) status = engine_.RunLayers(flags.prefill.step_tokens);
    if (!status.ok()) return status;
    return &engine_;
  }

  Result<std::unique_ptr<OverlapSource>> OpenHbm(Store& store, std::uint64_t hbm_bytes) override {
    HbmOptions options = OverlapHbmOptions(recipe_, layer_ids_, row_size_bytes_, tokens_max_,
                                           static_cast<std::uint32_t>(outputs_.size()));
    options.hbm_budget_bytes = hbm_bytes;
    options.gather_multiprocessors_max = multiprocessors_max_;
    Result<std::unique_ptr<HbmTier>> tier = HbmTier::Open(store, options);
    if (!tier.ok()) return std::move(tier).TakeStatus();
    return std::unique_ptr<OverlapSource>(std::make_unique<OwningHbmSource>(
        std::move(tier).value(), outputs_, rows_stream_, engine_.stream()));
  }

  Result<std::unique_ptr<OverlapSource>> OpenTable(const Hasher& hasher,
                                                   const OverlapTableLayout& layout,
                                                   TablePlace place, bool in_front) override {
    if (table_ == nullptr || table_->place() != place) {
      table_.reset();
      Result<std::unique_ptr<GpuTable>> table = GpuTable::Make(layout, place);
      if (!table.ok()) return std::move(table).TakeStatus();
      table_ = std::move(table).value();
    }
    return NewTableSource(*table_, hasher, outputs_, tokens_max_, multiprocessors_max_,
                          in_front ? engine_.stream() : rows_stream_, engine_.stream());
  }
  void DropTable() noexcept override { table_.reset(); }

 private:
  /// Places for the rows of steps: the addresses that the layers read.
  Status MakeOutputs(std::size_t place_count) {
    const std::size_t size_bytes =
        std::size_t{2} * tokens_max_ * recipe_.column_count() * recipe_.parameters.head_dim;
    for (std::size_t place = 0; place < place_count; ++place) {
      outputs_.emplace_back();
      for (const std::uint32_t layer_id : layer_ids_) {
        CudaArray<std::byte>& memory = output_memory_.emplace_back();
        if (Status status = AllocateZeroed(size_bytes, memory); !status.ok()) return status;
        outputs_.back().push_back({.layer_id = layer_id, .rows = memory.get()});
      }
    }
    return CudaStatus(cudaDeviceSynchronize(), "preparing places for rows");
  }

  std::vector<std::uint32_t> layer_ids_;
  Recipe recipe_;
  std::uint32_t row_size_bytes_ = 0;
  std::uint32_t tokens_max_ = 0;
  std::uint32_t multiprocessors_max_ = 0;
  GpuEngine engine_;
  cudaStream_t rows_stream_ = nullptr;
  std::vector<CudaArray<std::byte>> output_memory_;
  std::vector<std::vector<HbmOutput>> outputs_;  ///< Shape [places][layers].
  std::unique_ptr<GpuTable> table_;
};

}  // namespace

std::unique_ptr<OverlapDevice> NewOverlapGpu() {
  return std::make_unique<OverlapGpu>();
}

}  // namespace tiercel::bench
