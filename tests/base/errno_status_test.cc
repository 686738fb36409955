// Goal: every errno becomes a code that a caller can act on, and the number and
// its name survive.
//
// Method: a table of the errnos that storage code meets; then all errnos there
// are, known or not.

#include "base/errno_status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

TEST(ErrnoStatus, CodesOfTheErrnosThatStorageMeets) {
  const std::vector<std::pair<int, StatusCode>> expected = {
      {ENOENT, StatusCode::kNotFound},
      {ENOTDIR, StatusCode::kNotFound},
      {EEXIST, StatusCode::kAlreadyExists},
      {EACCES, StatusCode::kPermissionDenied},
      {EPERM, StatusCode::kPermissionDenied},
      {EROFS, StatusCode::kPermissionDenied},
      {ENOSPC, StatusCode::kResourceExhausted},
      {EDQUOT, StatusCode::kResourceExhausted},
      {EMFILE, StatusCode::kResourceExhausted},
      {ENOMEM, StatusCode::kResourceExhausted},
      {EAGAIN, StatusCode::kResourceExhausted},
      {ENOSYS, StatusCode::kUnavailable},
      {EOPNOTSUPP, StatusCode::kUnavailable},
      {EINVAL, StatusCode::kInvalidArgument},
      {EISDIR, StatusCode::kInvalidArgument},
      {EIO, StatusCode::kIoError},
      {ENXIO, StatusCode::kIoError},
  };
  for (const auto& [os_error, code] : expected) {
    const Status status = ErrnoStatus(os_error, "open /data/table");
    EXPECT_EQ(Name(status.code()), Name(code)) << ErrnoName(os_error);
    EXPECT_EQ(status.os_error(), os_error);
  }
}

TEST(ErrnoStatus, MessageSaysWhatWhereAndWhy) {
  const std::string message(ErrnoStatus(ENOSPC, "write of 10 B at 0 of /data/x").message());
  EXPECT_TRUE(message.starts_with("write of 10 B at 0 of /data/x: ")) << message;
  EXPECT_NE(message.find("(ENOSPC)"), std::string::npos) << message;
  EXPECT_NE(message.find("free some space"), std::string::npos) << message;
}

TEST(ErrnoStatus, EveryErrnoIsAnErrorAndKeepsItsNumber) {
  for (int os_error = 1; os_error < 200; ++os_error) {
    const Status status = ErrnoStatus(os_error, "x");
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(status.os_error(), os_error);
    EXPECT_NE(status.message().find(ErrnoName(os_error)), std::string_view::npos);
  }
}

TEST(ErrnoStatus, Names) {
  EXPECT_EQ(ErrnoName(EIO), "EIO");
  EXPECT_EQ(ErrnoName(EACCES), "EACCES");
  EXPECT_EQ(ErrnoName(4095), "errno 4095");
}

}  // namespace
}  // namespace tiercel
