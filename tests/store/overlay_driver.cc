// A process of its own for the tests of updated rows: one that is killed, one that holds the
// lock, one that reads beside others.
//
//   overlay_driver update CHECKPOINT STATE  updates batch after batch (driver_batches.h) from
//                                           where the state stands; prints each one's number,
//                                           8 bytes, when it is acknowledged. Never ends.
//   overlay_driver hold CHECKPOINT STATE    opens for updates, prints "+", waits for the end
//                                           of its input.
//   overlay_driver read CHECKPOINT STATE    prints the sequence, 8 bytes, and waits likewise.
//
// Exit status: 0, or 1 with a line on stderr.

#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "tests/store/driver_batches.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

int Fail(const Status& status) {
  std::fprintf(stderr, "overlay_driver: %s\n", status.ToString().c_str());
  return 1;
}

bool Print(const void* bytes, std::size_t size_bytes) {
  return write(STDOUT_FILENO, bytes, size_bytes) == static_cast<ssize_t>(size_bytes);
}

int WaitForEnd() {
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}

int Run(std::string_view mode, const std::string& checkpoint, const std::string& state) {
  StoreOptions options = DriverOptions(state);
  options.updates = mode == "read" ? Updates::kReadOnly : Updates::kReadWrite;
  Result<std::unique_ptr<Store>> store = Store::Open(checkpoint, options);
  if (!store.ok()) return Fail(store.status());
  std::uint64_t sequence = store.value()->Stats().overlay.sequence;
  if (mode == "read") return Print(&sequence, sizeof(sequence)) ? WaitForEnd() : 1;
  if (mode == "hold") return Print("+", 1) ? WaitForEnd() : 1;
  for (++sequence;; ++sequence) {
    const UpdateBatch batch = DriverBatch(*store.value(), sequence);
    if (const Status status = store.value()->Update(batch.rows()); !status.ok()) {
      return Fail(status);
    }
    if (!Print(&sequence, sizeof(sequence))) return 1;
  }
}

}  // namespace
}  // namespace tiercel::testing

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  return tiercel::testing::Run(argv[1], argv[2], argv[3]);
}
