// pack_driver SRC OUT SYNC_BYTES: packs in pieces of that size, to be killed in between.
// Exit code 0 once the table is there, 1 on an error.

#include <cstdio>
#include <cstdlib>

#include "store/pack.h"

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const tiercel::Result<tiercel::PackReport> report =
      tiercel::PackTableWith({.source = argv[1], .out_dir = argv[2]},
                             {.sync_bytes = std::strtoull(argv[3], nullptr, 10), .patch = {}});
  if (report.ok()) return 0;
  std::fprintf(stderr, "pack_driver: %s\n", report.status().ToString().c_str());
  return 1;
}
