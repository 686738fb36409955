#ifndef TIERCEL_TESTS_STORE_SHARED_CACHE_PARTS_H_
#define TIERCEL_TESTS_STORE_SHARED_CACHE_PARTS_H_

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/made_checkpoint.h"
#include "tiercel/shared_cache.h"
#include "tiercel/store.h"

namespace tiercel::testing {

/// Token runs that writers look up and readers ask for: of each, kSharedRunTokens tokens.
inline constexpr std::uint64_t kSharedRuns = 600;
inline constexpr std::size_t kSharedRunTokens = 24;

/// How the writer opens its store: the least there may be, so that groups go all the time.
[[nodiscard]] StoreOptions SharedStoreOptions();

/// Tokens of run `number`, the same in every process.
[[nodiscard]] std::vector<std::int32_t> SharedRunTokens(const CheckpointInfo& checkpoint,
                                                        std::uint64_t number);

/// Looks the run up in every layer of the store, so that its groups come into the cache.
/// False, with a failure of the test or a line on stderr, where that fails.
[[nodiscard]] bool LookUpRun(Store& store, std::uint64_t number);

/// Hands a descriptor to whoever is at the other end of the Unix socket.
[[nodiscard]] bool SendDescriptor(int socket, int descriptor);
/// One that was sent; -1 where the other end is gone.
[[nodiscard]] int ReceiveDescriptor(int socket);

/// A process that writes a shared cache (shared_cache_driver.cc) until it is killed, at the
/// latest by the destructor.
class SharedCacheWriter {
 public:
  explicit SharedCacheWriter(const std::string& checkpoint);
  SharedCacheWriter(const SharedCacheWriter&) = delete;
  SharedCacheWriter& operator=(const SharedCacheWriter&) = delete;
  ~SharedCacheWriter();

  /// Of its cache; the caller's. -1 where it died.
  [[nodiscard]] int TakeDescriptor() const { return ReceiveDescriptor(socket_); }
  [[nodiscard]] pid_t pid() const { return child_; }
  /// Kills it with SIGKILL and waits until it is gone. Returns whether it was alive till then.
  bool Kill();

 private:
  pid_t child_ = -1;
  int socket_ = -1;
};

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_STORE_SHARED_CACHE_PARTS_H_
