#ifndef TIERCEL_TOOLS_HOT_SET_FLAGS_H_
#define TIERCEL_TOOLS_HOT_SET_FLAGS_H_

#include <CLI/CLI.hpp>
#include <string>

#include "tiercel/hot_set.h"
#include "tiercel/store.h"

namespace tiercel::tools {

/// The options that say which hot set a store loads, and how.
struct HotSetFlags {
  std::string path;  ///< Empty: none.
  bool keys = false;
  double pin_share = 0.0;

  /// Declares them in `app`. `this` must outlive the parsing.
  void AddTo(CLI::App& app);
  [[nodiscard]] HotSetLoadOptions ToOptions() const;
};

/// Has `store` load the hot set of `flags`, and waits for it, with a bar. An interrupt
/// stops it. Errors: as Store::LoadHotSet() and WaitForHotSet().
[[nodiscard]] Status LoadAndWait(Store& store, const HotSetFlags& flags, const std::string& verb);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_HOT_SET_FLAGS_H_
