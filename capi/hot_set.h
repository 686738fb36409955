#ifndef TIERCEL_CAPI_HOT_SET_H_
#define TIERCEL_CAPI_HOT_SET_H_

#include "tiercel/tiercel.h"

namespace tiercel::capi {

/// The defaults of HotSetSaveOptions and HotSetLoadOptions.
[[nodiscard]] tiercel_hot_set_save_options DefaultSaveOptions();
[[nodiscard]] tiercel_hot_set_load_options DefaultLoadOptions();

}  // namespace tiercel::capi

#endif  // TIERCEL_CAPI_HOT_SET_H_
