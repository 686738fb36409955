#ifndef TIERCEL_BENCH_OVERLAP_GPU_MEMORY_H_
#define TIERCEL_BENCH_OVERLAP_GPU_MEMORY_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "bench/overlap_arms.h"
#include "cache/slab.h"
#include "cuda/cuda_status.h"
#include "tiercel/cuda.h"

namespace tiercel::bench {

struct FreeCuda {
  void operator()(void* memory) const noexcept { cudaFree(memory); }
};
template <typename T>
using CudaArray = std::unique_ptr<T, FreeCuda>;

/// Zeroed. Errors: as CudaStatus().
template <typename T>
[[nodiscard]] Status AllocateZeroed(std::size_t count, CudaArray<T>& array) {
  void* memory = nullptr;
  Status status = CudaStatus(cudaMalloc(&memory, count * sizeof(T)), "memory of the benchmark");
  if (!status.ok()) return status;
  array.reset(static_cast<T*>(memory));
  return CudaStatus(cudaMemset(memory, 0, count * sizeof(T)), "memory of the benchmark");
}

/// A made table, whole, where the device can read it.
class GpuTable {
 public:
  /// Generates it. Errors: kResourceExhausted, and as CudaStatus().
  [[nodiscard]] static Result<std::unique_ptr<GpuTable>> Make(const OverlapTableLayout& layout,
                                                              TablePlace place);
  [[nodiscard]] TablePlace place() const noexcept { return place_; }
  [[nodiscard]] const OverlapTableLayout& layout() const noexcept { return layout_; }
  /// The device's address.
  [[nodiscard]] const std::byte* device() const noexcept {
    return hbm_ ? hbm_.get() : registration_->device();
  }

 private:
  GpuTable(OverlapTableLayout layout, TablePlace place)
      : layout_(std::move(layout)), place_(place) {}
  [[nodiscard]] Status FillHbm();
  [[nodiscard]] Status FillPinned();

  const OverlapTableLayout layout_;
  const TablePlace place_;
  CudaArray<std::byte> hbm_;
  Slab slab_;
  std::optional<HostRegistration> registration_;  ///< Of slab_: goes before it.
};

/// Rows gathered out of a GpuTable.
///   rows_stream  where the gathers run; model_stream itself where nothing is to overlap.
[[nodiscard]] Result<std::unique_ptr<OverlapSource>> NewTableSource(
    const GpuTable& table, const Hasher& hasher, std::vector<std::vector<HbmOutput>> outputs,
    std::uint32_t tokens_max, std::uint32_t multiprocessors_max, cudaStream_t rows_stream,
    cudaStream_t model_stream);

}  // namespace tiercel::bench

#endif  // TIERCEL_BENCH_OVERLAP_GPU_MEMORY_H_
