#include "cuda/layer/engram_kernels.h"
#include "engram/float_formats.h"
#include "engram/quantize_activation.h"

// The layer but for its product. All of it is bound by memory: the gate reads streams, keys and
// values once to sum and once more, from L2, to use them; eight bf16 a thread at a time.
// Sums are float32, in a fixed order: by thread, by warp, by block.

namespace tiercel {
namespace {

constexpr std::uint32_t kGateThreads = 256;
constexpr std::uint32_t kLaneCount = 32;
constexpr std::uint32_t kConvThreads = 256;
constexpr std::uint32_t kQuantizeThreads = 256;
constexpr std::uint32_t kVector = 8;  // Values of a load.
constexpr std::uint64_t kQuantizeBlocksMax = 1U << 16;

struct Eight {
  float values[kVector];
};

__device__ Eight LoadEight(const std::uint16_t* at) {
  const uint4 loaded = *reinterpret_cast<const uint4*>(at);
  const std::uint32_t words[4] = {loaded.x, loaded.y, loaded.z, loaded.w};
  Eight eight;
  for (std::uint32_t i = 0; i < kVector; ++i) {
    eight.values[i] =
        FloatFromBf16(static_cast<std::uint16_t>(words[i / 2] >> (16 * (i % 2)) & 0xFFFFU));
  }
  return eight;
}

__device__ void StoreEight(const Eight& eight, std::uint16_t* at) {
  std::uint32_t words[4];
  for (std::uint32_t i = 0; i < 4; ++i) {
    words[i] = std::uint32_t{Bf16FromFloat(eight.values[2 * i])} |
               std::uint32_t{Bf16FromFloat(eight.values[2 * i + 1])} << 16;
  }
  *reinterpret_cast<uint4*>(at) = make_uint4(words[0], words[1], words[2], words[3]);
}

__device__ float SigmoidOf(float x) {
  return 1.0F / (1.0F + expf(-x));
}

/// What a token's stream sums up to.
struct GateSums {
  float stream = 0.0F;   ///< h^2
  float key = 0.0F;      ///< k^2
  float product = 0.0F;  ///< h w k
  float value = 0.0F;    ///< v^2
};

__device__ float WarpSum(float sum) {
  for (std::uint32_t half = kLaneCount / 2; half > 0; half /= 2) {
    sum += __shfl_xor_sync(0xFFFFFFFFU, sum, static_cast<int>(half));
  }
  return sum;
}

/// The sums over all threads of the block, for all of them.
__device__ GateSums BlockSums(GateSums sums) {
  __shared__ GateSums of_warps[kGateThreads / kLaneCount];
  sums = {WarpSum(sums.stream), WarpSum(sums.key), WarpSum(sums.product), WarpSum(sums.value)};
  if (threadIdx.x % kLaneCount == 0) of_warps[threadIdx.x / kLaneCount] = sums;
  __syncthreads();
  GateSums total;
  for (const GateSums& of_warp : of_warps) {
    total.stream += of_warp.stream;
    total.key += of_warp.key;
    total.product += of_warp.product;
    total.value += of_warp.value;
  }
  return total;
}

__device__ float GateOf(const EngramKernelArguments& a, const GateSums& sums, bool dead) {
  if (dead) return 0.0F;
  const float dim = static_cast<float>(a.dim);
  const float score = sums.product * (1.0F / sqrtf(sums.stream / dim + a.norm_epsilon)) *
                      (1.0F / sqrtf(sums.key / dim + a.norm_epsilon)) / sqrtf(dim);
  const float root = sqrtf(fmaxf(fabsf(score), 1e-6F));
  const bool none = score == 0.0F && !a.signed_zero;
  return SigmoidOf(none ? 0.0F : copysignf(root, score));
}

/// A block a token and stream: grid (streams, tokens).
__global__ void __launch_bounds__(kGateThreads) GateKernel(EngramKernelArguments a) {
  const std::uint64_t token = blockIdx.y;
  const std::uint32_t stream = blockIdx.x;
  const std::uint64_t plane = std::uint64_t{a.stream_count} * a.dim;
  const std::uint64_t own = std::uint64_t{stream} * a.dim;
  std::uint16_t* const h = a.streams + token * plane + own;
  const std::uint16_t* const k = a.kv + token * (plane + a.dim) + own;
  const std::uint16_t* const v = a.kv + token * (plane + a.dim) + plane;
  const float* const weight = a.score_weight + own;
  GateSums sums;
  for (std::uint32_t d = threadIdx.x * kVector; d < a.dim; d += kGateThreads * kVector) {
    const Eight of_h = LoadEight(h + d);
    const Eight of_k = LoadEight(k + d);
    const Eight of_v = LoadEight(v + d);
    for (std::uint32_t i = 0; i < kVector; ++i) {
      sums.stream += of_h.values[i] * of_h.values[i];
      sums.key += of_k.values[i] * of_k.values[i];
      sums.product += of_h.values[i] * weight[d + i] * of_k.values[i];
      sums.value += of_v.values[i] * of_v.values[i];
    }
  }
  sums = BlockSums(sums);
  const float gate = GateOf(a, sums, a.dead != nullptr && a.dead[token] != 0);
  if (threadIdx.x == 0) a.gate[token * a.stream_count + stream] = gate;
  // The gated value is a v: its norm follows from the sum of v^2.
  const float mean = gate * gate * sums.value / static_cast<float>(a.dim);
  const float inverse = a.conv_kernel > 0 ? 1.0F / sqrtf(mean + a.conv_norm_epsilon) : 0.0F;
  for (std::uint32_t d = threadIdx.x * kVector; d < a.dim; d += kGateThreads * kVector) {
    const Eight of_v = LoadEight(v + d);
    if (a.conv_kernel == 0) {
      Eight of_h = LoadEight(h + d);
      for (std::uint32_t i = 0; i < kVector; ++i) of_h.values[i] += gate * of_v.values[i];
      StoreEight(of_h, h + d);
      continue;
    }
    float* const input = a.conv_input + token * plane + own + d;
    for (std::uint32_t i = 0; i < kVector; ++i) {
      input[i] = gate * of_v.values[i] * inverse * a.conv_norm[own + d + i];
    }
  }
}

/// The run that `token` belongs to. REQUIRES: run_begins[0] == 0, run_begins[run_count] > token.
__device__ std::uint32_t RunOf(const EngramKernelArguments& a, std::uint32_t token) {
  std::uint32_t low = 0;
  std::uint32_t high = a.run_count;
  while (high - low > 1) {
    const std::uint32_t middle = (low + high) / 2;
    (a.run_begins[middle] <= token ? low : high) = middle;
  }
  return low;
}

/// A thread a channel: grid (channels / threads, tokens).
__global__ void __launch_bounds__(kConvThreads) ConvKernel(EngramKernelArguments a) {
  const std::uint64_t plane = std::uint64_t{a.stream_count} * a.dim;
  const std::uint64_t channel = std::uint64_t{blockIdx.x} * kConvThreads + threadIdx.x;
  const std::uint32_t token = blockIdx.y;
  if (channel >= plane) return;
  const std::uint32_t run = RunOf(a, token);
  const std::uint32_t begin = a.run_begins[run];
  const std::uint32_t before = (a.conv_kernel - 1) * a.conv_dilation;
  float sum = 0.0F;
  for (std::uint32_t tap = 0; tap < a.conv_kernel; ++tap) {
    // Counted from the oldest of the history.
    const std::uint32_t p = token - begin + tap * a.conv_dilation;
    const float input = p < before
                            ? a.history[(std::uint64_t{run} * before + p) * plane + channel]
                            : a.conv_input[(std::uint64_t{begin} + p - before) * plane + channel];
    sum += a.conv_weight[channel * a.conv_kernel + tap] * input;
  }
  const std::uint32_t stream = static_cast<std::uint32_t>(channel / a.dim);
  const float gate = a.gate[std::uint64_t{token} * a.stream_count + stream];
  const float value =
      FloatFromBf16(a.kv[std::uint64_t{token} * (plane + a.dim) + plane + channel % a.dim]);
  std::uint16_t& h = a.streams[std::uint64_t{token} * plane + channel];
  h = Bf16FromFloat(FloatFromBf16(h) + (gate * value + sum * SigmoidOf(sum)));
}

/// A thread a channel of a run: grid (channels / threads, runs). Each reads what lies behind
/// what it writes.
__global__ void __launch_bounds__(kConvThreads) HistoryKernel(EngramKernelArguments a) {
  const std::uint64_t plane = std::uint64_t{a.stream_count} * a.dim;
  const std::uint64_t channel = std::uint64_t{blockIdx.x} * kConvThreads + threadIdx.x;
  const std::uint32_t run = blockIdx.y;
  if (channel >= plane) return;
  const std::uint32_t begin = a.run_begins[run];
  const std::uint32_t count = a.run_begins[run + 1] - begin;
  const std::uint32_t before = (a.conv_kernel - 1) * a.conv_dilation;
  float* const history = a.history + std::uint64_t{run} * before * plane + channel;
  for (std::uint32_t i = 0; i < before; ++i) {
    const std::uint32_t from = i + count;
    history[i * plane] =
        from < before ? history[from * plane]
                      : a.conv_input[(std::uint64_t{begin} + from - before) * plane + channel];
  }
}

/// A warp a block of 32 values.
__global__ void __launch_bounds__(kQuantizeThreads)
    RoundKernel(const std::uint16_t* values, std::uint64_t count, std::uint16_t* rounded) {
  const std::uint64_t stride = std::uint64_t{gridDim.x} * kQuantizeThreads;
  for (std::uint64_t i = std::uint64_t{blockIdx.x} * kQuantizeThreads + threadIdx.x; i < count;
       i += stride) {
    const float value = FloatFromBf16(values[i]);
    float largest = fabsf(value);
    for (std::uint32_t half = kLaneCount / 2; half > 0; half /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, static_cast<int>(half)));
    }
    const float scale = FloatFromUe8m0(ActivationScale(largest));
    rounded[i] = Bf16FromFloat(FloatFromE4M3(E4M3FromFloat(value / scale)) * scale);
  }
}

unsigned ConvBlocks(const EngramKernelArguments& arguments) {
  const std::uint64_t plane = std::uint64_t{arguments.stream_count} * arguments.dim;
  return static_cast<unsigned>((plane + kConvThreads - 1) / kConvThreads);
}

}  // namespace

cudaError_t LaunchEngramGate(const EngramKernelArguments& arguments, cudaStream_t stream) noexcept {
  const dim3 grid(arguments.stream_count, arguments.token_count);
  GateKernel<<<grid, kGateThreads, 0, stream>>>(arguments);
  return cudaGetLastError();
}

cudaError_t LaunchEngramConv(const EngramKernelArguments& arguments, cudaStream_t stream) noexcept {
  const unsigned blocks = ConvBlocks(arguments);
  ConvKernel<<<dim3(blocks, arguments.token_count), kConvThreads, 0, stream>>>(arguments);
  if (const cudaError_t error = cudaGetLastError(); error != cudaSuccess) return error;
  HistoryKernel<<<dim3(blocks, arguments.run_count), kConvThreads, 0, stream>>>(arguments);
  return cudaGetLastError();
}

cudaError_t LaunchRoundActivations(const std::uint16_t* values, std::uint64_t count,
                                   std::uint16_t* rounded, cudaStream_t stream) noexcept {
  const std::uint64_t blocks = (count + kQuantizeThreads - 1) / kQuantizeThreads;
  RoundKernel<<<static_cast<unsigned>(blocks < kQuantizeBlocksMax ? blocks : kQuantizeBlocksMax),
                kQuantizeThreads, 0, stream>>>(values, count, rounded);
  return cudaGetLastError();
}

}  // namespace tiercel
