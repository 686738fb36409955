#ifndef TIERCEL_TOOLS_TOKEN_TRACE_H_
#define TIERCEL_TOOLS_TOKEN_TRACE_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "tiercel/status.h"

namespace tiercel::tools {

/// The two files of a token trace.
struct TracePaths {
  std::string tokens;
  std::string offsets;
};

/// The files of a trace by its tokens' file, or by what their names begin with:
/// "a.tokens.u32.zst", "a.tokens.u32" and "a" have "a.offsets.u64" beside them, and a
/// directory has "tokens.u32.zst" and "offsets.u64" in it. `offsets` overrules the second.
///
/// Errors: kNotFound (no such tokens), kInvalidArgument (no name from which the offsets'
/// could be told).
[[nodiscard]] Result<TracePaths> FindTrace(const std::string& path, const std::string& offsets);

/// A trace in memory.
struct TokenTrace {
  std::vector<std::int32_t> tokens;    ///< Of all documents, one after another.
  std::vector<std::uint64_t> offsets;  ///< Shape [documents + 1].
};

/// Reads both files. Ids must lie below `id_limit`.
///   keep_count  of the offsets: how many tokens, from the first on, are kept in memory.
///               Null: all. The others are checked all the same.
/// Errors: as ReadTokens() and ReadOffsets(); kInvalidArgument where they do not belong
/// together.
[[nodiscard]] Result<TokenTrace> LoadTokenTrace(
    const TracePaths& paths, std::uint64_t id_limit,
    const std::function<std::uint64_t(std::span<const std::uint64_t>)>& keep_count = nullptr);

/// What is in a trace.
struct TraceSummary {
  std::uint64_t token_count = 0;
  std::uint64_t dead_token_count = 0;
  std::uint64_t unique_token_count = 0;  ///< Dead ones apart.
  std::uint32_t largest_token = 0;       ///< 0 where all are dead.
  std::uint64_t document_count = 0;
  std::uint64_t empty_document_count = 0;
  std::uint64_t longest_document_tokens = 0;
  std::uint64_t longest_document_index = 0;
  std::uint64_t median_document_tokens = 0;
};

[[nodiscard]] TraceSummary SummarizeTrace(const TokenTrace& trace);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_TOKEN_TRACE_H_
