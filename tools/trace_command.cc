// tiercel trace: makes token traces, and tells what is in them.

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tiercel/token_map.h"
#include "tools/byte_source.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/token_trace.h"
#include "tools/trace_input.h"
#include "tools/trace_writer.h"

namespace tiercel::tools {
namespace {

struct RecordFlags {
  std::string in = "-";
  std::string out;
  std::string format = "text";
  std::string token_map;
  std::optional<std::uint64_t> vocab_size;
  std::optional<std::int32_t> document_end;
  bool force = false;
  bool json = false;
};

struct InfoFlags {
  std::string trace;
  std::string offsets;
  bool json = false;
};

struct SortFlags {
  std::string trace;
  std::string offsets;
  std::string kinds;
  std::string out;
  bool force = false;
  bool json = false;
};

struct TraceFlags {
  RecordFlags record;
  SortFlags sort;
  InfoFlags info;
};

Result<std::uint64_t> IdLimit(const RecordFlags& flags) {
  if (flags.token_map.empty()) return flags.vocab_size.value_or(TraceInputOptions{}.id_limit);
  Result<TokenMap> map = TokenMap::Load(flags.token_map);
  if (!map.ok()) return ErrorOf(map);
  return std::uint64_t{map.value().entry_count()};
}

/// Where a trace goes that is made.
TracePaths OutputPaths(const std::string& prefix) {
  return {.tokens = prefix + ".tokens.u32.zst", .offsets = prefix + ".offsets.u64"};
}

void PrintWritten(const TraceWriter& writer, const TracePaths& paths, bool as_json) {
  if (as_json) {
    const nlohmann::ordered_json json = {{"tokens", writer.token_count()},
                                         {"documents", writer.document_count()},
                                         {"tokens_file", paths.tokens},
                                         {"offsets_file", paths.offsets}};
    Print(json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  } else {
    Print(fmt::format("{} tokens of {} documents, written to {} and {}\n",
                      FormatCount(writer.token_count()), FormatCount(writer.document_count()),
                      paths.tokens, paths.offsets));
  }
}

Result<ExitCode> RunRecord(const RecordFlags& flags) {
  TraceInputOptions options;
  options.format = OrUsage("--format", ParseTraceFormat(flags.format));
  options.document_end = flags.document_end;
  if (flags.document_end && options.format != TraceFormat::kU32) {
    throw CLI::ValidationError("--document-end", "in text, each line is a document");
  }
  CatchInterrupts();
  Result<std::uint64_t> id_limit = IdLimit(flags);
  if (!id_limit.ok()) return ErrorOf(id_limit);
  options.id_limit = id_limit.value();
  options.progress = [](std::uint64_t) { return !Interrupted(); };
  const TracePaths paths = OutputPaths(flags.out);
  Result<ByteSource> source = ByteSource::Open(flags.in);
  if (!source.ok()) return ErrorOf(source);
  Result<std::unique_ptr<TraceWriter>> created = TraceWriter::Create(paths, flags.force);
  if (!created.ok()) return ErrorOf(created);
  TraceWriter& writer = *created.value();
  if (Status status = ReadTraceInput(source.value(), options, writer); !status.ok()) return status;
  if (Status status = writer.Publish(); !status.ok()) return status;
  PrintWritten(writer, paths, flags.json);
  return ExitCode::kOk;
}

/// The kind of each document, from a JSON array of strings.
Result<std::vector<std::string>> ReadKinds(const std::string& path, std::size_t document_count) {
  std::ifstream file(path);
  if (!file) return Status(StatusCode::kNotFound, path + ": cannot be read");
  const nlohmann::json json = nlohmann::json::parse(file, nullptr, /*allow_exceptions=*/false);
  const bool strings = json.is_array() && std::ranges::all_of(json, [](const nlohmann::json& kind) {
                         return kind.is_string();
                       });
  if (!strings || json.size() != document_count) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: not a JSON array of {} strings, one for each document", path,
                              document_count));
  }
  return json.get<std::vector<std::string>>();
}

Result<ExitCode> RunSort(const SortFlags& flags) {
  CatchInterrupts();
  Result<TracePaths> source = FindTrace(flags.trace, flags.offsets);
  if (!source.ok()) return ErrorOf(source);
  Result<TokenTrace> trace = LoadTokenTrace(source.value(), TraceInputOptions{}.id_limit);
  if (!trace.ok()) return ErrorOf(trace);
  const std::vector<std::uint64_t>& offsets = trace.value().offsets;
  Result<std::vector<std::string>> kinds = ReadKinds(flags.kinds, offsets.size() - 1);
  if (!kinds.ok()) return ErrorOf(kinds);
  std::vector<std::size_t> order(offsets.size() - 1);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {},
                           [&](std::size_t i) -> const std::string& { return kinds.value()[i]; });
  const TracePaths paths = OutputPaths(flags.out);
  Result<std::unique_ptr<TraceWriter>> created = TraceWriter::Create(paths, flags.force);
  if (!created.ok()) return ErrorOf(created);
  TraceWriter& writer = *created.value();
  for (const std::size_t document : order) {
    if (Interrupted()) return Status(StatusCode::kCancelled, "stopped; nothing was written");
    for (std::uint64_t i = offsets[document]; i < offsets[document + 1]; ++i) {
      if (Status status = writer.AddToken(trace.value().tokens[i]); !status.ok()) return status;
    }
    if (Status status = writer.EndDocument(); !status.ok()) return status;
  }
  if (Status status = writer.Publish(); !status.ok()) return status;
  PrintWritten(writer, paths, flags.json);
  return ExitCode::kOk;
}

std::string InfoText(const TracePaths& paths, const TraceSummary& summary) {
  std::string text = fmt::format("{}\n", paths.tokens);
  text += fmt::format("  tokens     {} of {} kinds, the largest {}; {} dead\n",
                      FormatCount(summary.token_count), FormatCount(summary.unique_token_count),
                      summary.largest_token, FormatCount(summary.dead_token_count));
  text += fmt::format("  documents  {}, {} of them empty\n", FormatCount(summary.document_count),
                      FormatCount(summary.empty_document_count));
  text += fmt::format("  longest    {} tokens, document {}; the median has {}\n",
                      FormatCount(summary.longest_document_tokens), summary.longest_document_index,
                      FormatCount(summary.median_document_tokens));
  return text;
}

Result<ExitCode> RunInfo(const InfoFlags& flags) {
  Result<TracePaths> paths = FindTrace(flags.trace, flags.offsets);
  if (!paths.ok()) return ErrorOf(paths);
  Result<TokenTrace> trace = LoadTokenTrace(paths.value(), TraceInputOptions{}.id_limit);
  if (!trace.ok()) return ErrorOf(trace);
  const TraceSummary summary = SummarizeTrace(trace.value());
  if (!flags.json) {
    Print(InfoText(paths.value(), summary));
    return ExitCode::kOk;
  }
  const nlohmann::ordered_json json = {{"tokens_file", paths.value().tokens},
                                       {"offsets_file", paths.value().offsets},
                                       {"tokens", summary.token_count},
                                       {"dead_tokens", summary.dead_token_count},
                                       {"unique_tokens", summary.unique_token_count},
                                       {"largest_token", summary.largest_token},
                                       {"documents", summary.document_count},
                                       {"empty_documents", summary.empty_document_count},
                                       {"longest_document_tokens", summary.longest_document_tokens},
                                       {"longest_document", summary.longest_document_index},
                                       {"median_document_tokens", summary.median_document_tokens}};
  Print(json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  return ExitCode::kOk;
}

CLI::App* AddRecord(CLI::App& trace, RecordFlags& flags) {
  CLI::App* const app = trace.add_subcommand("record", "Make a trace from token ids");
  app->add_option("--out", flags.out, "What the names of its two files begin with")
      ->type_name("PREFIX")
      ->required();
  app->add_option("--in", flags.in, "Token ids; - is stdin; may be packed with zstd")
      ->type_name("FILE|-")
      ->capture_default_str();
  app->add_option("--format", flags.format,
                  "text: a document a line, ids apart by blanks or a JSON array; u32: "
                  "little-endian 32-bit ids")
      ->type_name("FORMAT")
      ->capture_default_str();
  app->add_option("--document-end", flags.document_end,
                  "u32: the id that ends a document, and belongs to it; else all is one")
      ->type_name("ID");
  CLI::Option* const map =
      app->add_option("--token-map", flags.token_map, "Ids must be known to this map")
          ->type_name("FILE");
  app->add_option("--vocab-size", flags.vocab_size, "Ids must be below this")
      ->type_name("N")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 31))
      ->excludes(map);
  app->add_flag("--force", flags.force, "Replace files that are there");
  app->add_flag("--json", flags.json, "Print what was written as JSON");
  return app;
}

CLI::App* AddSort(CLI::App& trace, SortFlags& flags) {
  CLI::App* const app =
      trace.add_subcommand("sort", "Put a trace's documents in the order of their kinds");
  app->add_option("TRACE", flags.trace, "Trace: its tokens' file, or its directory")->required();
  app->add_option("--offsets", flags.offsets,
                  "Its documents' boundaries; else the file of that name beside the tokens")
      ->type_name("FILE");
  app->add_option("--kinds", flags.kinds, "JSON array of strings: the kind of each document")
      ->type_name("FILE")
      ->required();
  app->add_option("--out", flags.out, "What the names of its two files begin with")
      ->type_name("PREFIX")
      ->required();
  app->add_flag("--force", flags.force, "Replace files that are there");
  app->add_flag("--json", flags.json, "Print what was written as JSON");
  return app;
}

}  // namespace

Command AddTraceCommand(CLI::App& program) {
  auto flags = std::make_shared<TraceFlags>();
  CLI::App* const app = program.add_subcommand("trace", "Make a token trace, or describe one");
  app->require_subcommand(1);
  const CLI::App* const record = AddRecord(*app, flags->record);
  const CLI::App* const sort = AddSort(*app, flags->sort);
  CLI::App* const info = app->add_subcommand("info", "What is in a trace");
  info->add_option("TRACE", flags->info.trace, "Trace: its tokens' file, or its directory")
      ->required();
  info->add_option("--offsets", flags->info.offsets,
                   "Its documents' boundaries; else the file of that name beside the tokens")
      ->type_name("FILE");
  info->add_flag("--json", flags->info.json, "Print it as JSON");
  return {.app = app, .run = [flags, record, sort] {
            if (record->parsed()) return RunRecord(flags->record);
            return sort->parsed() ? RunSort(flags->sort) : RunInfo(flags->info);
          }};
}

}  // namespace tiercel::tools
