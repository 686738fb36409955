// Runs a program where io_uring is forbidden, as in a container with a seccomp profile:
//
//   without_io_uring EPERM|ENOSYS PROGRAM [ARGUMENT...]
//
// TIERCEL_TEST_WITHOUT_IO_URING names the errno in the program's environment, so that a
// test can tell that it must meet no io_uring. Exits with 77 where the system allows no
// such filter, else as the program does.

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "tests/support/seccomp_filter.h"

int main(int argc, char** argv) {
  const std::string_view name = argc > 2 ? argv[1] : "";
  if (name != "EPERM" && name != "ENOSYS") {
    std::fprintf(stderr, "usage: without_io_uring EPERM|ENOSYS PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  if (!tiercel::testing::ForbidIoUring(name == "EPERM" ? EPERM : ENOSYS)) {
    std::fprintf(stderr, "skipped: this system allows no seccomp filter\n");
    return tiercel::testing::kChildSkipped;
  }
  setenv("TIERCEL_TEST_WITHOUT_IO_URING", argv[1], 1);
  execv(argv[2], argv + 2);
  std::perror(argv[2]);
  return 127;
}
