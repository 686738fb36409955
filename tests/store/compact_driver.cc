// compact_driver TABLE STATE SYNC_BYTES: compacts in pieces of that size, to be killed in
// between. Exit code 0 once it is done, 1 on an error.

#include <cstdio>
#include <cstdlib>

#include "store/compact.h"

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const tiercel::Result<tiercel::CompactReport> report = tiercel::CompactInPieces(
      {.table = argv[1], .state_path = argv[2]}, std::strtoull(argv[3], nullptr, 10));
  if (report.ok()) return 0;
  std::fprintf(stderr, "compact_driver: %s\n", report.status().ToString().c_str());
  return 1;
}
