#include "bench/overlap_gpu_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace tiercel::bench {
namespace {

/// What is generated in host memory before it is copied to the device's.
constexpr std::uint64_t kCopyBytes = std::uint64_t{1} << 30;
/// Device memory that a table in HBM leaves: weights, rows of steps, the driver's.
constexpr std::uint64_t kSpareHbmBytes = std::uint64_t{4} << 30;

struct FreePinned {
  void operator()(void* memory) const noexcept { cudaFreeHost(memory); }
};

struct DestroyEvent {
  void operator()(cudaEvent_t event) const noexcept { cudaEventDestroy(event); }
};
using OwnedEvent = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, DestroyEvent>;

class TableSource final : public OverlapSource {
 public:
  TableSource(const GpuTable& table, const Hasher& hasher,
              std::vector<std::vector<HbmOutput>> outputs, std::uint32_t multiprocessors_max,
              cudaStream_t rows_stream, cudaStream_t model_stream)
      : table_(table),
        hasher_(hasher),
        outputs_(std::move(outputs)),
        multiprocessors_max_(multiprocessors_max),
        rows_stream_(rows_stream),
        model_stream_(model_stream) {}
  ~TableSource() override { cudaDeviceSynchronize(); }

  Status Init(std::uint32_t tokens_max) {
    numbers_of_layer_ = std::size_t{tokens_max} * hasher_.recipe().column_count();
    const std::size_t layer_count = outputs_[0].size();
    void* memory = nullptr;
    Status status =
        CudaStatus(cudaHostAlloc(&memory, outputs_.size() * layer_count * numbers_of_layer_ * 4,
                                 cudaHostAllocMapped),
                   "numbers of rows");
    if (!status.ok()) return status;
    numbers_.reset(static_cast<std::uint32_t*>(memory));
    for (std::size_t i = 0; i < outputs_.size() * layer_count; ++i) {
      cudaEvent_t event = nullptr;
      status = CudaStatus(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "an event");
      if (!status.ok()) return status;
      gathered_.emplace_back(event);
    }
    return {};
  }

  Status Start(std::size_t place, const OverlapStep& step,
               std::span<const std::chrono::nanoseconds> /*needed_after*/) override {
    for (std::size_t layer = 0; layer < outputs_[place].size(); ++layer) {
      if (Status status = Gather(place, layer, step); !status.ok()) return status;
    }
    return {};
  }
  Status Wait(std::size_t place, std::size_t layer) override {
    return CudaStatus(cudaStreamWaitEvent(model_stream_, EventOf(place, layer), 0),
                      "waiting for a gather");
  }
  [[nodiscard]] const std::byte* Rows(std::size_t place, std::size_t layer) const override {
    return outputs_[place][layer].rows;
  }
  Status Finish(std::size_t /*place*/) override { return {}; }

 private:
  [[nodiscard]] cudaEvent_t EventOf(std::size_t place, std::size_t layer) const {
    return gathered_[place * outputs_[0].size() + layer].get();
  }

  Status Gather(std::size_t place, std::size_t layer, const OverlapStep& step) {
    const HbmOutput& output = outputs_[place][layer];
    const std::vector<OverlapTableLayer>& layers = table_.layout().layers;
    const auto at = std::ranges::find(layers, output.layer_id, &OverlapTableLayer::layer_id);
    const std::size_t count = step.token_count * hasher_.recipe().column_count();
    std::uint32_t* const numbers =
        numbers_.get() + (place * outputs_[0].size() + layer) * numbers_of_layer_;
    Status status = RowNumbers(hasher_, static_cast<std::uint32_t>(at - layers.begin()), step.runs,
                               {numbers, count});
    if (!status.ok()) return status;
    status = GatherFromSlabAsync({.slab = table_.device() + at->offset_bytes,
                                  .group_stride_bytes = at->shape.row_size_bytes(),
                                  .groups = numbers,
                                  .group_count = count,
                                  .shape = at->shape,
                                  .rows_per_group = 1,
                                  .format = HbmFormat::kBf16,
                                  .rows = output.rows,
                                  .multiprocessors_max = multiprocessors_max_},
                                 rows_stream_);
    if (!status.ok()) return status;
    return CudaStatus(cudaEventRecord(EventOf(place, layer), rows_stream_), "an event");
  }

  const GpuTable& table_;
  const Hasher& hasher_;
  const std::vector<std::vector<HbmOutput>> outputs_;
  const std::uint32_t multiprocessors_max_;
  const cudaStream_t rows_stream_;
  const cudaStream_t model_stream_;
  std::size_t numbers_of_layer_ = 0;
  std::unique_ptr<std::uint32_t, FreePinned> numbers_;  ///< Shape [places, layers, numbers].
  std::vector<OwnedEvent> gathered_;                    ///< Shape [places, layers].
};

}  // namespace

Result<std::unique_ptr<GpuTable>> GpuTable::Make(const OverlapTableLayout& layout,
                                                 TablePlace place) {
  std::unique_ptr<GpuTable> table(new GpuTable(layout, place));
  Status status = place == TablePlace::kHbm ? table->FillHbm() : table->FillPinned();
  if (!status.ok()) return status;
  return table;
}

Status GpuTable::FillHbm() {
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
  Status status = CudaStatus(cudaMemGetInfo(&free_bytes, &total_bytes), "looking at the device");
  if (!status.ok()) return status;
  if (layout_.size_bytes + kSpareHbmBytes > free_bytes) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("a table of {} B in device memory, of which {} B are free and {} B "
                              "are needed beside it: take a smaller table or no --hbm-table",
                              layout_.size_bytes, free_bytes, kSpareHbmBytes));
  }
  void* memory = nullptr;
  status = CudaStatus(cudaMalloc(&memory, layout_.size_bytes), "the table in device memory");
  if (!status.ok()) return status;
  hbm_.reset(static_cast<std::byte*>(memory));
  const std::uint64_t piece_bytes = std::min(kCopyBytes, layout_.size_bytes);
  status = CudaStatus(cudaHostAlloc(&memory, piece_bytes, cudaHostAllocDefault), "a pinned piece");
  if (!status.ok()) return status;
  const std::unique_ptr<std::byte, FreePinned> piece(static_cast<std::byte*>(memory));
  for (std::uint64_t at = 0; at < layout_.size_bytes; at += piece_bytes) {
    const std::uint64_t size = std::min(piece_bytes, layout_.size_bytes - at);
    FillTable(layout_, at, {piece.get(), size});
    status = CudaStatus(cudaMemcpy(hbm_.get() + at, piece.get(), size, cudaMemcpyHostToDevice),
                        "copying the table");
    if (!status.ok()) return status;
  }
  return {};
}

Status GpuTable::FillPinned() {
  Result<Slab> slab = Slab::Map(layout_.size_bytes);
  if (!slab.ok()) return std::move(slab).TakeStatus();
  slab_ = std::move(slab).value();
  const std::span<std::byte> bytes = slab_.bytes().first(layout_.size_bytes);
  FillTable(layout_, 0, bytes);
  Result<HostRegistration> registration = HostRegistration::Register(bytes, /*read_only=*/false);
  if (!registration.ok()) return std::move(registration).TakeStatus();
  registration_.emplace(std::move(registration).value());
  return {};
}

Result<std::unique_ptr<OverlapSource>> NewTableSource(const GpuTable& table, const Hasher& hasher,
                                                      std::vector<std::vector<HbmOutput>> outputs,
                                                      std::uint32_t tokens_max,
                                                      std::uint32_t multiprocessors_max,
                                                      cudaStream_t rows_stream,
                                                      cudaStream_t model_stream) {
  auto source = std::make_unique<TableSource>(table, hasher, std::move(outputs),
                                              multiprocessors_max, rows_stream, model_stream);
  if (Status status = source->Init(tokens_max); !status.ok()) return status;
  return std::unique_ptr<OverlapSource>(std::move(source));
}

}  // namespace tiercel::bench
