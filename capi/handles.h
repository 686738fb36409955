#ifndef TIERCEL_CAPI_HANDLES_H_
#define TIERCEL_CAPI_HANDLES_H_

#include <memory>

#include "tiercel/checkpoint.h"
#include "tiercel/hasher.h"
#include "tiercel/prefetch.h"
#include "tiercel/shared_cache.h"
#include "tiercel/store.h"
#include "tiercel/tiercel.h"
#include "tiercel/token_map.h"

// What the opaque handles of the C API point to.

struct tiercel_token_map {
  std::shared_ptr<const tiercel::TokenMap> map;
};

/// A caller's (`own`) or a store's.
struct tiercel_checkpoint {
  std::unique_ptr<const tiercel::CheckpointInfo> own;
  const tiercel::CheckpointInfo* info = nullptr;
};

/// A caller's (`own`) or a store's.
struct tiercel_hasher {
  std::unique_ptr<const tiercel::Hasher> own;
  const tiercel::Hasher* hasher = nullptr;
};

struct tiercel_store {
  std::unique_ptr<tiercel::Store> store;
  tiercel_checkpoint checkpoint;  ///< The store's own, lent out.
  tiercel_hasher hasher;          ///< The same.
};

struct tiercel_shared_cache {
  tiercel::SharedCache cache;
};

struct tiercel_ticket {
  tiercel::Ticket ticket;
};

#endif  // TIERCEL_CAPI_HANDLES_H_
