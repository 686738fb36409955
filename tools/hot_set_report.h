#ifndef TIERCEL_TOOLS_HOT_SET_REPORT_H_
#define TIERCEL_TOOLS_HOT_SET_REPORT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "tiercel/hot_set.h"

namespace tiercel::tools {

/// A load for people, "1,234 of 1,300 groups loaded in 0.42 s, 66 there already".
[[nodiscard]] std::string FormatHotSet(const HotSetProgress& progress);
[[nodiscard]] nlohmann::ordered_json HotSetJson(const HotSetProgress& progress);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_HOT_SET_REPORT_H_
