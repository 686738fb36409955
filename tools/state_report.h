#ifndef TIERCEL_TOOLS_STATE_REPORT_H_
#define TIERCEL_TOOLS_STATE_REPORT_H_

#include <nlohmann/json.hpp>
#include <string>

#include "tiercel/overlay.h"

namespace tiercel::tools {

/// What a state directory holds, for scripts.
[[nodiscard]] nlohmann::ordered_json StateJson(const StateInfo& info);

/// The same for people: some lines.
[[nodiscard]] std::string StateText(const StateInfo& info);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_STATE_REPORT_H_
