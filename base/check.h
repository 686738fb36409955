#ifndef TIERCEL_BASE_CHECK_H_
#define TIERCEL_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

namespace tiercel::internal {

[[noreturn]] inline void CheckFailed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "%s:%d: TIERCEL_CHECK failed: %s\n", file, line, condition);
  std::abort();
}

}  // namespace tiercel::internal

/// Aborts when `condition` is false, in release builds too: for programmer errors
/// at seams, where going on would give wrong bytes. Hot inner loops use assert().
#define TIERCEL_CHECK(condition) \
  (static_cast<bool>(condition)  \
       ? static_cast<void>(0)    \
       : ::tiercel::internal::CheckFailed(#condition, __FILE__, __LINE__))

#endif  // TIERCEL_BASE_CHECK_H_
