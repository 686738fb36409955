#ifndef TIERCEL_TESTS_SUPPORT_SECCOMP_FILTER_H_
#define TIERCEL_TESTS_SUPPORT_SECCOMP_FILTER_H_

#include <cstdint>
#include <cstdio>
#include <functional>

namespace tiercel::testing {

/// Exit statuses of a child that tests something.
inline constexpr int kChildPassed = 0;
inline constexpr int kChildFailed = 1;
inline constexpr int kChildSkipped = 77;

/// Makes system call `number` fail with `os_error` in this process and its children, for
/// good: call it in a child, or in a program that is made for it. False where the system
/// allows no such filter.
[[nodiscard]] bool Forbid(std::uint32_t number, std::uint32_t os_error);

/// Forbids io_uring as a container's profile does: its setup, enter and register all fail
/// with `os_error`. EPERM is what Docker's profile gives, ENOSYS what podman's does.
[[nodiscard]] bool ForbidIoUring(std::uint32_t os_error);

/// Runs `body` in a forked child and returns its exit status; 128 where it died.
/// REQUIRES: no other thread holds a lock that `body` needs.
[[nodiscard]] int InChild(const std::function<int()>& body);

}  // namespace tiercel::testing

/// In the body of InChild(): prints what is not so and fails the child.
#define CHILD_EXPECT(condition)                                                    \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      return ::tiercel::testing::kChildFailed;                                     \
    }                                                                              \
  } while (false)

#endif  // TIERCEL_TESTS_SUPPORT_SECCOMP_FILTER_H_
