#ifndef TIERCEL_CAPI_STORE_OPTIONS_H_
#define TIERCEL_CAPI_STORE_OPTIONS_H_

#include "tiercel/status.h"
#include "tiercel/store.h"
#include "tiercel/tiercel.h"

namespace tiercel::capi {

/// The defaults of StoreOptions.
[[nodiscard]] tiercel_store_options DefaultStoreOptions();
/// `given` of any version, or NULL. Errors: kInvalidArgument; ranges of numbers are
/// Store::Open()'s to check.
[[nodiscard]] Status ToStoreOptions(const tiercel_store_options* given, StoreOptions* options);

}  // namespace tiercel::capi

#endif  // TIERCEL_CAPI_STORE_OPTIONS_H_
