#include <fmt/format.h>

#include <charconv>

#include "tools/command.h"
#include "tools/command_line.h"

namespace tiercel::tools {
namespace {

MemoryOptions ParseMemory(const std::string& numa) {
  MemoryOptions options;
  if (numa == "interleave") return options;
  if (numa == "none") {
    options.numa = NumaPlacement::kNone;
    return options;
  }
  options.numa = NumaPlacement::kNode;
  const auto [end, error] =
      std::from_chars(numa.data(), numa.data() + numa.size(), options.numa_node);
  if (error != std::errc() || end != numa.data() + numa.size()) {
    throw CLI::ValidationError("--numa", fmt::format("'{}' is neither interleave, none nor the "
                                                     "number of a node",
                                                     numa));
  }
  return options;
}

Updates ParseUpdates(const std::string& updates) {
  if (updates == "auto") return Updates::kAuto;
  if (updates == "off") return Updates::kOff;
  if (updates == "read") return Updates::kReadOnly;
  throw CLI::ValidationError("--updates",
                             fmt::format("'{}' is neither auto, off nor read", updates));
}

}  // namespace

void ChecksumFlags::AddTo(CLI::App& app) {
  app.add_option("--checksums", use,
                 "Check rows in place against a sidecar: auto (where there is one), required, off")
      ->type_name("USE")
      ->capture_default_str();
  app.add_option("--checksums-file", path,
                 "The sidecar; else tiercel.checksums in the checkpoint's directory")
      ->type_name("FILE");
}

ChecksumUse ChecksumFlags::Use() const {
  if (use == "auto") return ChecksumUse::kAuto;
  if (use == "required") return ChecksumUse::kRequired;
  if (use == "off") return ChecksumUse::kOff;
  throw CLI::ValidationError("--checksums",
                             fmt::format("'{}' is neither auto, required nor off", use));
}

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
  app.add_option("--queue-depth", queue_depth,
                 "Reads in flight for each of them, up to 4096; 0: as the disk's profile says, "
                 "else 128")
      ->type_name("N")
      ->check(CLI::Range(0, 4096))
      ->capture_default_str();
  app.add_option("--read-block", read_block,
                 "Direct reads are widened to this, a power of two up to 64KiB; 0: as the disk's "
                 "profile says, else its physical block")
      ->type_name("BYTES")
      ->capture_default_str();
  app.add_option("--disk-profile", disk_profile,
                 "Profile from `tiercel calibrate`, instead of the one kept for the disk")
      ->type_name("FILE");
  app.add_option("--shard", shard,
                 "Serve the heads of rank R of N alone: head h of every order is rank h mod N's")
      ->type_name("R/N")
      ->capture_default_str();
  app.add_flag("--hugetlb", hugetlb,
               "The cache in 2 MiB pages that were set aside (sysctl vm.nr_hugepages)");
  app.add_option("--numa", numa,
                 "NUMA nodes of the cache: interleave, none, or a node's number, which the "
                 "threads that read are bound to as well")
      ->type_name("NODES")
      ->capture_default_str();
  app.add_flag("--iopoll", io_poll, "io_uring polls the disk for completions (IOPOLL)");
  app.add_flag("--sqpoll", submission_poll, "A kernel thread takes the reads (SQPOLL)");
  app.add_option("--state", state, "State directory with updated rows, instead of the table's own")
      ->type_name("DIR");
  app.add_option("--updates", updates,
                 "Updated rows: auto (where there is a state), off (the table's own rows), or read "
                 "(there must be a state)")
      ->type_name("HOW")
      ->capture_default_str();
  checksums.AddTo(app);
}

StoreOptions StoreFlags::ToOptions(const std::string& verb) const {
  StoreOptions options;
  options.dram_budget_bytes = OrUsage("--dram", ParseByteSize(dram));
  options.engine = OrUsage("--engine", ParseEngine(engine));
  options.scales = OrUsage("--scales", ParseScalePlacement(scales));
  options.io_thread_count = io_thread_count;
  options.queue_depth = queue_depth;
  const std::uint64_t block_bytes = OrUsage("--read-block", ParseByteSize(read_block));
  if (block_bytes > 65536 || (block_bytes & (block_bytes - 1)) != 0) {
    throw CLI::ValidationError("--read-block", read_block + " is not a power of two up to 64KiB");
  }
  options.read_block_bytes = static_cast<std::uint32_t>(block_bytes);
  options.disk_profile_path = disk_profile;
  options.shard = OrUsage("--shard", ParseShard(shard));
  options.memory = ParseMemory(numa);
  if (hugetlb) options.memory.pages = CachePages::kHugetlb;
  options.io_poll = io_poll;
  options.submission_poll = submission_poll;
  options.state_path = state;
  options.updates = ParseUpdates(updates);
  options.checksums = checksums.Use();
  options.checksums_path = checksums.path;
  options.log = [verb](std::string_view line) { PrintError(verb, line); };
  return options;
}

}  // namespace tiercel::tools
