#ifndef TIERCEL_TOOLS_REFERENCE_CURVE_H_
#define TIERCEL_TOOLS_REFERENCE_CURVE_H_

#include "tiercel/recipe.h"
#include "tools/plan_model.h"

namespace tiercel::tools {

/// The store's hit rates on the reference trace, for a model of this kind: where nothing is
/// known of the text that will be served, it is a start.
[[nodiscard]] HitCurve ReferenceCurve(RecipeKind kind);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_REFERENCE_CURVE_H_
