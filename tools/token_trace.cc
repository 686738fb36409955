#include "tools/token_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <utility>

#include "tiercel/types.h"
#include "tools/token_file.h"

namespace tiercel::tools {
namespace {

constexpr std::string_view kTokens = "tokens.u32";
constexpr std::string_view kPacked = ".zst";
constexpr std::string_view kOffsets = "offsets.u64";

bool Exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored) && !std::filesystem::is_directory(path, ignored);
}

/// "a.offsets.u64" for "a.tokens.u32.zst"; empty where the name is no such.
std::string OffsetsBeside(std::string tokens) {
  if (tokens.ends_with(kPacked)) tokens.resize(tokens.size() - kPacked.size());
  if (!tokens.ends_with(kTokens)) return {};
  tokens.resize(tokens.size() - kTokens.size());
  return tokens.append(kOffsets);
}

}  // namespace

Result<TracePaths> FindTrace(const std::string& path, const std::string& offsets) {
  TracePaths paths{.tokens = {}, .offsets = offsets};
  const std::string plain(kTokens);
  const std::string packed = plain + std::string(kPacked);
  for (const std::string& name :
       {path, path + "." + packed, path + "." + plain, path + "/" + packed, path + "/" + plain}) {
    if (!Exists(name)) continue;
    paths.tokens = name;
    break;
  }
  if (paths.tokens.empty()) {
    return Status(StatusCode::kNotFound,
                  fmt::format("{}: no such trace, and neither {}.{} nor {}/{} is there", path, path,
                              packed, path, packed));
  }
  if (paths.offsets.empty()) paths.offsets = OffsetsBeside(paths.tokens);
  if (paths.offsets.empty()) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: its name does not end in {} or {}: give the documents' "
                              "boundaries with --offsets",
                              paths.tokens, plain, packed));
  }
  return paths;
}

Result<TokenTrace> LoadTokenTrace(
    const TracePaths& paths, std::uint64_t id_limit,
    const std::function<std::uint64_t(std::span<const std::uint64_t>)>& keep_count) {
  TokenTrace trace;
  Result<std::vector<std::uint64_t>> offsets = ReadOffsets(paths.offsets);
  if (!offsets.ok()) return std::move(offsets).TakeStatus();
  trace.offsets = std::move(offsets).value();
  ReadTokensOptions options{.id_limit = id_limit};
  if (keep_count) options.keep_count_max = keep_count(trace.offsets);
  Result<TokenFile> file = ReadTokens(paths.tokens, options);
  if (!file.ok()) return std::move(file).TakeStatus();
  if (file.value().token_count != trace.offsets.back()) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("{} ends at token {}, but {} holds {} tokens: they do not belong "
                    "together",
                    paths.offsets, trace.offsets.back(), paths.tokens, file.value().token_count));
  }
  trace.tokens = std::move(file.value().tokens);
  return trace;
}

TraceSummary SummarizeTrace(const TokenTrace& trace) {
  TraceSummary summary;
  summary.token_count = trace.tokens.size();
  std::vector<bool> seen;
  for (const std::int32_t token : trace.tokens) {
    if (token == kDeadToken) {
      ++summary.dead_token_count;
      continue;
    }
    const auto id = static_cast<std::uint32_t>(token);
    if (id >= seen.size()) seen.resize(std::max<std::size_t>(id + std::size_t{1}, 2 * seen.size()));
    if (seen[id]) continue;
    seen[id] = true;
    ++summary.unique_token_count;
    summary.largest_token = std::max(summary.largest_token, id);
  }
  std::vector<std::uint64_t> lengths;
  for (std::size_t i = 0; i + 1 < trace.offsets.size(); ++i) {
    const std::uint64_t length = trace.offsets[i + 1] - trace.offsets[i];
    summary.empty_document_count += length == 0 ? 1 : 0;
    if (length > summary.longest_document_tokens) {
      summary.longest_document_tokens = length;
      summary.longest_document_index = i;
    }
    lengths.push_back(length);
  }
  summary.document_count = lengths.size();
  if (!lengths.empty()) {
    const auto middle = lengths.begin() + static_cast<std::ptrdiff_t>(lengths.size() / 2);
    std::nth_element(lengths.begin(), middle, lengths.end());
    summary.median_document_tokens = *middle;
  }
  return summary;
}

}  // namespace tiercel::tools
