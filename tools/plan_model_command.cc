// tiercel plan-model: experts and tables for a budget of parameters.

#include <fmt/format.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tools/command.h"
#include "tools/command_line.h"
#include "tools/model_sizing.h"

namespace tiercel::tools {
namespace {

struct PlanModelFlags {
  CLI::App* app = nullptr;
  std::string like;
  std::string total_params;
  std::string active_params;
  std::string row_format;
  std::string dram;
  std::string slots;
  SizingOptions given;  ///< What the options write to; used where they were given.
  bool json = false;
};

RowFormat ParseRowFormat(const std::string& name) {
  for (const RowFormat format : {RowFormat::kE4M3Block32, RowFormat::kE4M3Tensor, RowFormat::kBf16,
                                 RowFormat::kFp16, RowFormat::kFp32}) {
    if (Name(format) == name) return format;
  }
  throw CLI::ValidationError("--row-format",
                             name + " is none of e4m3-block32, e4m3-tensor, bf16, fp16 and fp32");
}

/// The published model's options, or the defaults, with those of the command line instead.
SizingOptions OptionsOf(const PlanModelFlags& flags) {
  SizingOptions options;
  if (!flags.like.empty()) options = OrUsage("--like", PublishedSizing(flags.like));
  const auto take = [&](const char* name, auto SizingOptions::*member) {
    if (flags.app->count(name) > 0) options.*member = flags.given.*member;
  };
  take("--ratio", &SizingOptions::ratio);
  take("--layers", &SizingOptions::layer_ids);
  take("--dim", &SizingOptions::dim);
  take("--blocks", &SizingOptions::block_count);
  take("--dense-blocks", &SizingOptions::dense_block_count);
  take("--active-experts", &SizingOptions::active_expert_count);
  take("--shared-experts", &SizingOptions::shared_expert_count);
  take("--expert-dim", &SizingOptions::expert_dim);
  take("--vocab", &SizingOptions::vocab_size);
  take("--compressed-vocab", &SizingOptions::compressed_vocab_size);
  take("--order-max", &SizingOptions::order_max);
  take("--heads", &SizingOptions::head_count);
  take("--memory-dim", &SizingOptions::memory_dim);
  take("--batch-tokens", &SizingOptions::batch_tokens);
  if (!flags.total_params.empty()) {
    options.total_params = OrUsage("--total-params", ParseParams(flags.total_params));
  }
  if (!flags.active_params.empty()) {
    options.active_params = OrUsage("--active-params", ParseParams(flags.active_params));
  }
  if (!flags.slots.empty()) {
    options.engram_slots = static_cast<std::uint64_t>(OrUsage("--slots", ParseParams(flags.slots)));
  }
  if (!flags.row_format.empty()) options.row_format = ParseRowFormat(flags.row_format);
  if (!flags.dram.empty()) options.dram_bytes = OrUsage("--dram", ParseByteSize(flags.dram));
  return options;
}

Result<ExitCode> RunPlanModel(const PlanModelFlags& flags) {
  const SizedModel model = OrUsage("plan-model", SizeModel(OptionsOf(flags)));
  Result<std::string> text = flags.json ? SizingJson(model) : SizingText(model);
  if (!text.ok()) return ErrorOf(text);
  Print(text.value());
  return ExitCode::kOk;
}

void AddSizeOptions(CLI::App& app, SizingOptions& given) {
  const auto add = [&](const char* name, auto& value, const char* help) {
    app.add_option(name, value, help)->type_name("N")->capture_default_str();
  };
  app.add_option("--ratio", given.ratio, "Share of the sparse parameters that tables get")
      ->type_name("R")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  app.add_option("--layers", given.layer_ids, "Blocks with a table, counted from 0, by commas")
      ->type_name("LIST")
      ->delimiter(',')
      ->capture_default_str();
  add("--dim", given.dim, "Width of the backbone");
  add("--blocks", given.block_count, "Its blocks");
  add("--dense-blocks", given.dense_block_count, "Leading ones without experts");
  add("--active-experts", given.active_expert_count, "Routed experts that a token goes to");
  add("--shared-experts", given.shared_expert_count, "Experts that every token goes to");
  add("--expert-dim", given.expert_dim, "Inner width of an expert");
  add("--vocab", given.vocab_size, "Token ids");
  add("--compressed-vocab", given.compressed_vocab_size, "Classes of the token map");
  add("--order-max", given.order_max, "Longest n-gram");
  add("--heads", given.head_count, "Heads of an order");
  add("--memory-dim", given.memory_dim, "Values that a token gets of a table, all heads");
  add("--batch-tokens", given.batch_tokens, "Tokens whose rows are in HBM at a time");
}

}  // namespace

Command AddPlanModelCommand(CLI::App& program) {
  auto flags = std::make_shared<PlanModelFlags>();
  CLI::App* const app = program.add_subcommand(
      "plan-model", "Sizes of experts and Engram tables for a budget of parameters");
  flags->app = app;
  app->add_option("--like", flags->like,
                  "Begin with a published model: engram-27b, engram-40b, moe-27b or "
                  "deepseek-v4.1-flash")
      ->type_name("MODEL");
  app->add_option("--total-params", flags->total_params, "All parameters, such as 26.7B")
      ->type_name("N");
  app->add_option("--active-params", flags->active_params,
                  "Those that a token works with; else an estimate")
      ->type_name("N");
  AddSizeOptions(*app, flags->given);
  app->add_option("--slots", flags->slots, "Rows of a head, instead of --ratio")->type_name("N");
  app->add_option("--row-format", flags->row_format,
                  "e4m3-block32, e4m3-tensor, bf16 (the default), fp16 or fp32")
      ->type_name("FORMAT");
  app->add_option("--dram", flags->dram, "Memory of the store; 4GiB")->type_name("BYTES");
  app->add_flag("--json", flags->json, "Print the plan as JSON");
  return {.app = app, .run = [flags] { return RunPlanModel(*flags); }};
}

}  // namespace tiercel::tools
