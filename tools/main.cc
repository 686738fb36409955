// The program `tiercel`: one verb a file, each in VERB_command.cc.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "tools/command.h"
#include "tools/command_line.h"

namespace tiercel::tools {
namespace {

constexpr const char* kFooter =
    "Exit codes: 0 all is well; 1 rows are wrong or could not be read; 2 the command line makes\n"
    "no sense; 3 it could not be done. `tiercel VERB --help` tells a verb's options.";

ExitCode UsageError(const CLI::App& program, const CLI::ParseError& error) {
  const std::vector<CLI::App*> verbs = program.get_subcommands();
  const std::string verb = verbs.empty() ? "" : verbs.front()->get_name();
  const std::string what =
      error.get_name() == "RequiredError" && verbs.empty() ? "give one verb" : error.what();
  PrintError(verb,
             fmt::format("{}\nSee `tiercel {}{}--help`.", what, verb, verb.empty() ? "" : " "));
  return ExitCode::kUsage;
}

ExitCode RunVerb(const CLI::App& program, const Command& command) {
  const std::string verb = command.app->get_name();
  Result<ExitCode> result = Status(StatusCode::kUnavailable, "the verb did not run");
  try {
    result = command.run();
  } catch (const CLI::ParseError& error) {
    return UsageError(program, error);
  } catch (const std::bad_alloc&) {
    result = Status(StatusCode::kResourceExhausted, "out of memory");
  } catch (const std::exception& error) {
    result = Status(StatusCode::kIoError, error.what());
  }
  ExitCode code = result.ok() ? result.value() : ExitCode::kFailure;
  if (!result.ok()) PrintError(verb, result.status().ToString());
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
    PrintError(verb, "IO_ERROR: stdout could not be written in full");
    code = ExitCode::kFailure;
  }
  return code;
}

bool IsVerb(const std::vector<Command>& commands, std::string_view word) {
  return std::any_of(commands.begin(), commands.end(),
                     [word](const Command& command) { return command.app->get_name() == word; });
}

ExitCode Main(int argc, char** argv) {
  CLI::App program("Serves the rows of Engram tables from DRAM and NVMe.", "tiercel");
  program.set_version_flag("--version", "tiercel " TIERCEL_VERSION);
  program.footer(kFooter);
  program.require_subcommand(1);
  const std::vector<Command> commands = {
      AddHashCommand(program),       AddTokenMapCommand(program),
      AddInspectCommand(program),    AddLookupCommand(program),
      AddVerifyCommand(program),     AddReplayCommand(program),
      AddServeBenchCommand(program), AddMakeCheckpointCommand(program),
      AddCalibrateCommand(program),  AddCurveCommand(program),
      AddPlanCommand(program),       AddTraceCommand(program),
      AddWarmCommand(program),       AddPackCommand(program),
      AddUnpackCommand(program),     AddDiffCommand(program),
      AddCompactCommand(program),    AddUpdateCommand(program),
      AddPlanModelCommand(program)};
  // CLI11 would only say that a verb is missing.
  if (argc > 1 && argv[1][0] != '-' && !IsVerb(commands, argv[1])) {
    PrintError("", fmt::format("there is no verb '{}'\nSee `tiercel --help`.", argv[1]));
    return ExitCode::kUsage;
  }
  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // --help and --version arrive here too, as successes that print on stdout.
    if (error.get_exit_code() == 0) return ExitCode{program.exit(error)};
    return UsageError(program, error);
  }
  for (const Command& command : commands) {
    if (command.app->parsed()) return RunVerb(program, command);
  }
  return ExitCode::kUsage;
}

}  // namespace
}  // namespace tiercel::tools

int main(int argc, char** argv) {
  try {
    return static_cast<int>(tiercel::tools::Main(argc, argv));
  } catch (const std::exception& error) {
    // From declaring the options: a mistake in this program, or no memory at all.
    std::fprintf(stderr, "tiercel: %s\n", error.what());
  } catch (...) {
    std::fputs("tiercel: an unknown exception\n", stderr);
  }
  return static_cast<int>(tiercel::tools::ExitCode::kFailure);
}
