// tiercel token-map: the token map of a tokenizer.

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "tiercel/token_map.h"
#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/token_file.h"

namespace tiercel::tools {
namespace {

// The largest tokenizer.json in use is some 30 MB.
constexpr std::uint64_t kTokenizerBytesMax = std::uint64_t{256} << 20;

struct TokenMapFlags {
  std::string tokenizer;
  std::string out;
  bool json = false;
};

Result<ExitCode> RunTokenMap(const TokenMapFlags& flags) {
  Result<std::string> text = ReadText(flags.tokenizer, kTokenizerBytesMax);
  if (!text.ok()) return ErrorOf(text);
  Result<TokenMap> map = TokenMap::FromTokenizerJson(text.value(), flags.tokenizer);
  if (!map.ok()) return ErrorOf(map);
  if (Status status = map.value().Save(flags.out); !status.ok()) return status;
  const std::uint64_t entry_count = map.value().entry_count();
  const std::uint64_t class_count = map.value().class_count();
  const double compression = 100.0 * Ratio(static_cast<double>(entry_count - class_count),
                                           static_cast<double>(entry_count));
  if (flags.json) {
    const nlohmann::ordered_json json = {{"tokenizer", flags.tokenizer},
                                         {"out", flags.out},
                                         {"entries", entry_count},
                                         {"classes", class_count},
                                         {"compression_percent", compression}};
    Print(json.dump() + "\n");
  } else {
    Print(fmt::format("{} entries, {} classes ({:.2f} % fewer), written to {}\n",
                      FormatCount(entry_count), FormatCount(class_count), compression, flags.out));
  }
  return ExitCode::kOk;
}

}  // namespace

Command AddTokenMapCommand(CLI::App& program) {
  auto flags = std::make_shared<TokenMapFlags>();
  CLI::App* const app =
      program.add_subcommand("token-map", "Token map of a Hugging Face tokenizer.json");
  app->add_option("TOKENIZER_JSON", flags->tokenizer, "The tokenizer; may be packed with zstd")
      ->type_name("FILE")
      ->required();
  app->add_option("--out", flags->out, "Takes one little-endian uint32 class per token id")
      ->type_name("FILE")
      ->required();
  app->add_flag("--json", flags->json, "Print the counts as JSON");
  return {.app = app, .run = [flags] { return RunTokenMap(*flags); }};
}

}  // namespace tiercel::tools
