#ifndef TIERCEL_BENCH_OVERLAP_GPU_H_
#define TIERCEL_BENCH_OVERLAP_GPU_H_

#include <memory>

#include "bench/overlap_arms.h"

namespace tiercel::bench {

/// The current CUDA device. Nothing touches it before OverlapDevice::Open().
[[nodiscard]] std::unique_ptr<OverlapDevice> NewOverlapGpu();

}  // namespace tiercel::bench

#endif  // TIERCEL_BENCH_OVERLAP_GPU_H_
