#ifndef TIERCEL_BENCH_PEERS_SUBPROCESS_H_
#define TIERCEL_BENCH_PEERS_SUBPROCESS_H_

#include <string>
#include <vector>

#include "tiercel/status.h"

namespace tiercel::peers {

/// Runs a program, looked up in PATH, to its end and returns what it wrote to stdout.
/// It dies with this process.
///
/// Errors: kNotFound (no such program), kIoError (it failed: the message ends with what
/// it wrote to stderr).
[[nodiscard]] Result<std::string> RunProgram(const std::vector<std::string>& arguments);

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_SUBPROCESS_H_
