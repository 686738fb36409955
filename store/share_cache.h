#ifndef TIERCEL_STORE_SHARE_CACHE_H_
#define TIERCEL_STORE_SHARE_CACHE_H_

#include <cstdint>

#include "cache/group_cache.h"
#include "store/store_impl.h"
#include "tiercel/status.h"

namespace tiercel {

/// Takes `cache_bytes` of the budget as memory that processes share: sets impl.cache_memory,
/// and what of `cache_options` says that the cache lies in there.
/// Errors: as SharedSlab::Create(); kResourceExhausted (too little for one page).
[[nodiscard]] Status TakeSharedMemory(Store::Impl& impl, const MemoryOptions& memory,
                                      std::uint64_t cache_bytes, GroupCacheOptions& cache_options);

/// Says in the shared memory what the cache that was made in there is.
/// Errors: those of IdentityOf().
[[nodiscard]] Status DescribeSharedMemory(Store::Impl& impl);

}  // namespace tiercel

#endif  // TIERCEL_STORE_SHARE_CACHE_H_
