#ifndef TIERCEL_TOOLS_REPLAY_ENGINE_H_
#define TIERCEL_TOOLS_REPLAY_ENGINE_H_

#include <cstdint>
#include <functional>
#include <span>

#include "tiercel/status.h"
#include "tiercel/store.h"
#include "tools/replay_report.h"
#include "tools/replay_schedule.h"

namespace tiercel::tools {

struct ReplayOptions {
  ReplayScheduleOptions schedule;
  std::vector<std::uint32_t> layer_ids;  ///< Layers to look up, in this order. Not empty.
  /// Tokens to serve before counting begins.
  std::uint64_t warm_token_count = 0;
  /// Compares every row with SyntheticRow. REQUIRES: a made checkpoint.
  bool verify = false;
  /// Called after every step; returning false stops the replay with kCancelled.
  std::function<bool(std::uint64_t done_tokens)> progress;
};

/// Serves a trace's documents from `store` and measures it.
///
///   tokens   the trace, at least up to the last token that is served.
///   offsets  documents' boundaries, as ReadOffsets() gives them.
///
/// A step's time is that of its Store::Lookup alone: hashing for the statistics,
/// checking and progress lie outside. Failed or different rows are not an error but
/// counted. Errors: as Store::Lookup, kCancelled.
[[nodiscard]] Result<ReplayReport> Replay(Store& store, std::span<const std::int32_t> tokens,
                                          std::span<const std::uint64_t> offsets,
                                          const ReplayOptions& options);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_REPLAY_ENGINE_H_
