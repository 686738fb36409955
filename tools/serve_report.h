#ifndef TIERCEL_TOOLS_SERVE_REPORT_H_
#define TIERCEL_TOOLS_SERVE_REPORT_H_

#include <string>

#include "tiercel/recipe.h"
#include "tools/serve_engine.h"

namespace tiercel::tools {

struct ServeReport {
  std::string path;
  std::string layout;
  RecipeKind recipe = RecipeKind::kDeepSeekV41;
  ServeOptions options;
  ServeRun run;
};

[[nodiscard]] std::string ReportText(const ServeReport& report);
[[nodiscard]] std::string ReportJson(const ServeReport& report);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_SERVE_REPORT_H_
