#include <fmt/format.h>

#include "tools/command.h"
#include "tools/command_line.h"

namespace tiercel::tools {

void StoreFlags::AddTo(CLI::App& app) {
  CLI::Option* const budget =
      app.add_option("--dram", dram, "Memory for rows, such as 256MiB or 4GiB; at least 16MiB")
          ->type_name("BYTES");
  if (dram.empty()) {
    budget->required();
  } else {
    budget->capture_default_str();
  }
  app.add_option("--engine", engine, "How the disk is read: auto, uring or pread")
      ->type_name("ENGINE")
      ->capture_default_str();
  app.add_option("--scales", scales, "Where scales stored apart are kept: auto, resident or disk")
      ->type_name("PLACE")
      ->capture_default_str();
  app.add_option("--io-threads", io_thread_count, "Threads that read, up to 64; 0: one a disk")
      ->type_name("N")
      ->check(CLI::Range(0, 64))
      ->capture_default_str();
  app.add_option("--queue-depth", queue_depth, "Reads in flight for each of them, 1 to 4096")
      ->type_name("N")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_flag("--iopoll", io_poll, "io_uring polls the disk for completions (IOPOLL)");
  app.add_flag("--sqpoll", submission_poll, "A kernel thread takes the reads (SQPOLL)");
}

StoreOptions StoreFlags::ToOptions(const std::string& verb) const {
  StoreOptions options;
  options.dram_budget_bytes = OrUsage("--dram", ParseByteSize(dram));
  options.engine = OrUsage("--engine", ParseEngine(engine));
  options.scales = OrUsage("--scales", ParseScalePlacement(scales));
  options.io_thread_count = io_thread_count;
  options.queue_depth = queue_depth;
  options.io_poll = io_poll;
  options.submission_poll = submission_poll;
  options.log = [verb](std::string_view line) { PrintError(verb, line); };
  return options;
}

}  // namespace tiercel::tools
