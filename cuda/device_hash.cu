#include "cuda/device_hash.h"
#include "cuda/device_hash_kernel.cuh"

namespace tiercel {
namespace {

template <RecipeKind kKind>
cudaError_t LaunchKind(const HashArguments& arguments, const ProbeArguments* probe,
                       cudaStream_t stream) noexcept {
  const std::uint64_t count =
      std::uint64_t{arguments.tokens.token_count} * (arguments.order_max - 1);
  const auto blocks = static_cast<std::uint32_t>((count + kHashThreads - 1) / kHashThreads);
  if (probe != nullptr) {
    HashKernel<kKind, true><<<blocks, kHashThreads, 0, stream>>>(arguments, *probe);
  } else {
    HashKernel<kKind, false><<<blocks, kHashThreads, 0, stream>>>(arguments, {});
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t LaunchHash(const HashArguments& arguments, const ProbeArguments* probe,
                       cudaStream_t stream) noexcept {
  if (arguments.tokens.token_count == 0) return cudaSuccess;
  switch (arguments.kind) {
    case RecipeKind::kDeepSeekV41:
      return LaunchKind<RecipeKind::kDeepSeekV41>(arguments, probe, stream);
    case RecipeKind::kEngramDemo:
      return LaunchKind<RecipeKind::kEngramDemo>(arguments, probe, stream);
    case RecipeKind::kQwen38:
      break;
  }
  return LaunchKind<RecipeKind::kQwen38>(arguments, probe, stream);
}

cudaError_t LaunchApplyChanges(const DeviceTable& table, const DeviceChange* changes,
                               std::uint32_t change_count, cudaStream_t stream) noexcept {
  if (change_count == 0) return cudaSuccess;
  const std::uint32_t blocks = (change_count + kHashThreads - 1) / kHashThreads;
  ApplyChangesKernel<false><<<blocks, kHashThreads, 0, stream>>>(table, changes, change_count);
  ApplyChangesKernel<true><<<blocks, kHashThreads, 0, stream>>>(table, changes, change_count);
  return cudaGetLastError();
}

}  // namespace tiercel
