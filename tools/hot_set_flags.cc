#include "tools/hot_set_flags.h"

#include <chrono>
#include <thread>

#include "tools/command_line.h"
#include "tools/progress.h"

namespace tiercel::tools {

void HotSetFlags::AddTo(CLI::App& app) {
  app.add_option("--hot-set", path, "Hot set to load into the DRAM cache")->type_name("FILE");
  app.add_flag("--hot-set-keys", keys,
               "Take the keys alone from it, and read the rows from the tables");
  app.add_option("--pin", pin_share,
                 "Never evict this share of its groups, the most used ones; half of the cache at "
                 "most")
      ->type_name("SHARE")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
}

HotSetLoadOptions HotSetFlags::ToOptions() const {
  return {.bytes = !keys, .pin_share = pin_share};
}

Status LoadAndWait(Store& store, const HotSetFlags& flags, const std::string& verb) {
  if (Status status = store.LoadHotSet(flags.path, flags.ToOptions()); !status.ok()) {
    return status;
  }
  ProgressBar bar(verb, ProgressUnit::kBytes);
  for (HotSetProgress now = store.HotSet(); now.state == HotSetState::kLoading;
       now = store.HotSet()) {
    bar.Update(now.read_bytes, now.total_bytes);
    if (Interrupted()) store.CancelHotSet();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return store.WaitForHotSet();
}

}  // namespace tiercel::tools
