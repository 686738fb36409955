#ifndef TIERCEL_CAPI_START_OPTIONS_H_
#define TIERCEL_CAPI_START_OPTIONS_H_

#include "tiercel/prefetch.h"
#include "tiercel/status.h"
#include "tiercel/tiercel.h"

namespace tiercel::capi {

/// The defaults of PrefetchOptions.
[[nodiscard]] tiercel_start_options DefaultStartOptions();
/// Those of PrefetchLayer.
[[nodiscard]] tiercel_prefetch_layer DefaultPrefetchLayer();
/// `given` of any version, or NULL. Allocates nothing. Errors: kInvalidArgument.
[[nodiscard]] Status ToPrefetchOptions(const tiercel_start_options* given,
                                       PrefetchOptions* options);

}  // namespace tiercel::capi

#endif  // TIERCEL_CAPI_START_OPTIONS_H_
