// A process of its own for the tests of shared caches: the writer.
//
//   shared_cache_driver CHECKPOINT  opens a store whose cache is shared, sends its descriptor
//                                   over the Unix socket that is its input when groups have
//                                   begun to make room for others, and looks up runs at random
//                                   until it is killed.
//
// Exit status: 1 with a line on stderr.

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>

#include "base/prng.h"
#include "tests/store/shared_cache_parts.h"

namespace tiercel::testing {
namespace {

int Write(const std::string& checkpoint) {
  Result<std::unique_ptr<Store>> store = Store::Open(checkpoint, SharedStoreOptions());
  if (!store.ok()) {
    std::fprintf(stderr, "shared_cache_driver: %s\n", store.status().ToString().c_str());
    return 1;
  }
  const Result<int> descriptor = store.value()->ShareCache();
  Prng prng(static_cast<std::uint64_t>(getpid()));
  for (bool sent = false;;) {
    // Some runs often, all of them now and then: groups come, go and come again.
    if (!LookUpRun(*store.value(), prng.Below(1 + prng.Below(kSharedRuns)))) return 1;
    if (sent || store.value()->Stats().orders[0].cache_evictions < 100) continue;
    sent = SendDescriptor(STDIN_FILENO, descriptor.value());
    if (!sent) return 1;
  }
}

}  // namespace
}  // namespace tiercel::testing

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  return tiercel::testing::Write(argv[1]);
}
