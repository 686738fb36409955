#ifndef TIERCEL_TOOLS_TABLE_TRACE_H_
#define TIERCEL_TOOLS_TABLE_TRACE_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "tiercel/checkpoint.h"
#include "tiercel/status.h"
#include "tiercel/token_map.h"
#include "tools/token_trace.h"

namespace tiercel::tools {

/// The options that name a checkpoint and a trace of tokens to serve from it.
struct TableTraceFlags {
  std::string path;
  std::string tokens;
  std::string offsets;
  std::string token_map;
  bool compressed = false;

  /// Declares them in `app`. `this` must outlive the parsing.
  void AddTo(CLI::App& app);
};

/// A trace that fits a checkpoint.
struct TableTrace {
  std::shared_ptr<const TokenMap> token_map;  ///< For the store; may be null.
  TokenTrace trace;
};

/// Loads the trace, and the map where there is one, and checks that the checkpoint takes
/// its ids. Throws CLI::ValidationError where a map is needed and not given.
///   keep_count  as LoadTokenTrace() takes it.
/// Errors: as TokenMap::Load() and LoadTokenTrace().
[[nodiscard]] Result<TableTrace> LoadTableTrace(
    const TableTraceFlags& flags, const CheckpointInfo& info,
    const std::function<std::uint64_t(std::span<const std::uint64_t>)>& keep_count = nullptr);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_TABLE_TRACE_H_
