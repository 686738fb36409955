// What a table outside of the GPU's memory costs: overlap_bench with a GPU that computes.
//
// A block is as many products of matrices as take --block-ms alone. An Engram layer is the
// real one (cuda/layer/), its weights random and as wide as the model's: its rows are copied
// from pinned memory in front of it, on the same stream. The host queues blocks ahead of the
// GPU and waits for rows when it comes to their layer; a step ends when the GPU is done, as it
// must before a token is sampled. Arms beside those of overlap_bench: rows that are on the
// device already, which no arm can beat, and which the others are compared with.
//
// Not measured: more than one GPU, graphs, the HBM cache.

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "bench/overlap_arms.h"
#include "cuda/cuda_status.h"
#include "cuda/layer/engram_layer.h"
#include "cuda/layer/engram_product.h"

namespace tiercel::bench {
namespace {

/// Products of a block: [kProductRows, kProductWidth] by a square matrix.
constexpr std::uint32_t kProductRows = 2048;
constexpr std::uint32_t kProductWidth = 4096;
constexpr int kCalibrationProducts = 200;

struct FreeCuda {
  void operator()(void* memory) const noexcept { cudaFree(memory); }
};
template <typename T>
using CudaArray = std::unique_ptr<T, FreeCuda>;

/// Zeroed. Errors: as CudaStatus().
template <typename T>
Status AllocateZeroed(std::size_t count, CudaArray<T>& array) {
  void* memory = nullptr;
  Status status = CudaStatus(cudaMalloc(&memory, count * sizeof(T)), "memory of the benchmark");
  if (!status.ok()) return status;
  array.reset(static_cast<T*>(memory));
  return CudaStatus(cudaMemset(memory, 0, count * sizeof(T)), "memory of the benchmark");
}

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

/// The GPU's part of a model.
class OverlapGpu {
 public:
  Status Attach(const CheckpointInfo& info, const OverlapFlags& flags, OverlapModel& model) {
    tokens_max_ = std::max(flags.decode.stream_count, flags.prefill.step_tokens);
    if (Status status = Init(info, model.layer_ids.size()); !status.ok()) return status;
    if (Status status = Calibrate(flags.block_ms); !status.ok()) return status;
    model.prepare = [](std::span<std::byte> rows) {
      return CudaStatus(cudaHostRegister(rows.data(), rows.size(), cudaHostRegisterDefault),
                        "pinning rows");
    };
    model.release = [](std::span<std::byte> rows) { cudaHostUnregister(rows.data()); };
    model.compute = [this](std::uint32_t, std::size_t) { return RunProducts(products_of_block_); };
    model.use = [this](std::size_t index, std::span<const std::byte> rows, std::size_t tokens) {
      return RunLayer(index, rows, static_cast<std::uint32_t>(tokens));
    };
    model.finish = [this] { return CudaStatus(cudaStreamSynchronize(stream_), "a step"); };
    return {};
  }

 private:
  Status Init(const CheckpointInfo& info, std::size_t layer_count) {
    const Recipe& recipe = info.recipe;
    const RecipeKind kind = recipe.parameters.kind;
    const std::uint32_t width = recipe.column_count() * recipe.parameters.head_dim;
    FusionShape shape = PublishedFusionShape(kind, DimOf(kind), width);
    if (kind == RecipeKind::kDeepSeekV41) shape.rounding = FusionRounding::kDeepSeekV41;
    FusionWeights<float> weights = ZeroFusionWeights<float>(shape);
    Prng prng(1);
    for (auto* const values : {&weights.kv_weight, &weights.key_norm, &weights.query_norm,
                               &weights.conv_norm, &weights.conv_weight}) {
      for (float& value : *values) value = static_cast<float>(prng.Unit() * 0.02);
    }
    if (Status status = CudaStatus(cudaStreamCreate(&stream_), "a stream"); !status.ok()) {
      return status;
    }
    for (std::size_t i = 0; i < layer_count; ++i) {
      Result<std::unique_ptr<CudaEngramLayer>> layer =
          CudaEngramLayer::Create(shape, weights, tokens_max_);
      if (!layer.ok()) return std::move(layer).TakeStatus();
      layers_.push_back(std::move(layer).value());
    }
    Status status = AllocateZeroed(std::size_t{tokens_max_} * width, rows_);
    if (status.ok()) status = AllocateZeroed(tokens_max_ * shape.plane(), streams_);
    if (status.ok()) {
      status = AllocateZeroed(shape.history_tokens() * shape.plane() + 1, history_);
    }
    if (status.ok()) status = AllocateZeroed(std::size_t{2}, run_begins_);
    constexpr std::size_t kWidth = kProductWidth;
    if (status.ok()) status = AllocateZeroed(kProductRows * kWidth, product_x_);
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

  /// How many products take so long. The first ones warm up.
  Status Calibrate(double block_ms) {
    double milliseconds = 0.0;
    for (int round = 0; round < 2; ++round) {
      const auto begin = std::chrono::steady_clock::now();
      if (Status status = RunProducts(kCalibrationProducts); !status.ok()) return status;
      Status status = CudaStatus(cudaStreamSynchronize(stream_), "the calibration");
      if (!status.ok()) return status;
      milliseconds =
          std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
              .count();
    }
    const double one = milliseconds / kCalibrationProducts;
    products_of_block_ = std::max(1, static_cast<int>(std::lround(block_ms / one)));
    return {};
  }

  Status RunLayer(std::size_t index, std::span<const std::byte> rows, std::uint32_t tokens) {
    if (!rows.empty()) {
      Status status = CudaStatus(
          cudaMemcpyAsync(rows_.get(), rows.data(), rows.size(), cudaMemcpyHostToDevice, stream_),
          "copying rows");
      if (!status.ok()) return status;
    }
    if (tokens != run_tokens_) {
      // All tokens count as one sequence: what that is has no part in the time.
      const std::uint32_t begins[2] = {0, tokens};
      Status status = CudaStatus(cudaMemcpyAsync(run_begins_.get(), begins, sizeof(begins),
                                                 cudaMemcpyHostToDevice, stream_),
                                 "copying a run");
      if (!status.ok()) return status;
      run_tokens_ = tokens;
    }
    return layers_[index]->ForwardAsync({.token_count = tokens,
                                         .embeddings = rows_.get(),
                                         .streams = streams_.get(),
                                         .run_count = 1,
                                         .run_begins = run_begins_.get(),
                                         .history = history_.get()},
                                        stream_);
  }

  std::uint32_t tokens_max_ = 0;
  cudaStream_t stream_ = nullptr;  // Ends with the process, as does all the rest.
  std::vector<std::unique_ptr<CudaEngramLayer>> layers_;
  std::unique_ptr<BfloatProduct> product_;
  int products_of_block_ = 1;
  std::uint32_t run_tokens_ = 0;
  CudaArray<std::uint16_t> rows_;
  CudaArray<std::uint16_t> streams_;
  CudaArray<float> history_;
  CudaArray<std::uint32_t> run_begins_;
  CudaArray<std::uint16_t> product_x_;
  CudaArray<std::uint16_t> product_y_;
  CudaArray<std::uint16_t> product_w_;
};

}  // namespace
}  // namespace tiercel::bench

int main(int argc, char** argv) {
  using namespace tiercel::bench;
  OverlapGpu gpu;
  const OverlapDevice device = {
      .attach = [&gpu](const tiercel::CheckpointInfo& info, const OverlapFlags& flags,
                       OverlapModel& model) { return gpu.Attach(info, flags, model); },
      .has_rows = true};
  return OverlapMain(argc, argv, "overlap_gpu_bench", device);
}
