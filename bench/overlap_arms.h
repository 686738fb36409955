#ifndef TIERCEL_BENCH_OVERLAP_ARMS_H_
#define TIERCEL_BENCH_OVERLAP_ARMS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "bench/overlap_loop.h"
#include "tiercel/checkpoint.h"
#include "tiercel/status.h"

namespace tiercel::bench {

/// The command line of an overlap benchmark.
struct OverlapFlags {
  std::string checkpoint;
  std::string trace;
  std::string offsets;
  std::string token_map;
  std::vector<std::string> budgets = {"256MiB", "1GiB", "4GiB"};
  std::string resident_budget = "6GiB";
  double block_ms = 8.0;
  double prefill_block_ms = 8.0;
  std::uint32_t block_count = 16;
  SequenceChoice sequences;
  std::uint32_t warm_sequence_count = 512;
  DecodeOptions decode;
  PrefillOptions prefill;
  std::uint32_t round_count = 3;
  bool json = false;
};

/// What a program does instead of computing by the clock.
struct OverlapDevice {
  /// Sets the functions of `model`; they must stay good for the whole run. Null: by the clock.
  std::function<Status(const CheckpointInfo& info, const OverlapFlags& flags, OverlapModel& model)>
      attach;
  /// Whether the second arm, which the others are compared with, has its rows on the device;
  /// else they are resident in DRAM.
  bool has_rows = false;
};

/// Parses the command line, runs all arms and prints what they came to. Returns main()'s value.
int OverlapMain(int argc, char** argv, const char* name, const OverlapDevice& device);

}  // namespace tiercel::bench

#endif  // TIERCEL_BENCH_OVERLAP_ARMS_H_
