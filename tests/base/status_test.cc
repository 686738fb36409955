// Goal: Status and Result carry what they were given, and nothing is lost on the
// way: code, message, errno.
//
// Method: make, move and print them; every code and row status has a name of its
// own.

#include "tiercel/status.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <set>
#include <string>
#include <type_traits>
#include <utility>

#include "tiercel/types.h"

namespace tiercel {
namespace {

TEST(Status, DefaultIsOk) {
  const Status status;
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kOk);
  EXPECT_EQ(status.os_error(), 0);
  EXPECT_EQ(status.message(), "");
  EXPECT_EQ(status.ToString(), "OK");
}

TEST(Status, KeepsWhatItWasMadeOf) {
  const Status status(StatusCode::kIoError, "read of 4096 B at 8192: EIO", EIO);
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.code(), StatusCode::kIoError);
  EXPECT_EQ(status.os_error(), EIO);
  EXPECT_EQ(status.message(), "read of 4096 B at 8192: EIO");
  EXPECT_EQ(status.ToString(), "IO_ERROR: read of 4096 B at 8192: EIO");
}

TEST(Status, MovesAndDoesNotCopy) {
  static_assert(!std::is_copy_constructible_v<Status>);
  static_assert(std::is_nothrow_move_constructible_v<Status>);
  Status first(StatusCode::kNotFound, "no such file");
  const Status second = std::move(first);
  EXPECT_EQ(second.code(), StatusCode::kNotFound);
  EXPECT_EQ(second.message(), "no such file");
}

TEST(Status, EveryCodeHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (int code = 0; code < static_cast<int>(StatusCode::kCount); ++code) {
    names.insert(Name(static_cast<StatusCode>(code)));
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(StatusCode::kCount));
  EXPECT_FALSE(names.contains("UNKNOWN"));
  EXPECT_FALSE(names.contains(""));
}

TEST(Status, EveryRowStatusHasANameOfItsOwn) {
  std::set<std::string_view> names;
  for (const RowStatus status : {RowStatus::kOk, RowStatus::kDead, RowStatus::kOutOfRange,
                                 RowStatus::kIoError, RowStatus::kCorruption}) {
    names.insert(Name(status));
  }
  EXPECT_EQ(names.size(), 5U);
  EXPECT_FALSE(names.contains("UNKNOWN"));
}

TEST(StatusDeathTest, OkIsNotAnError) {
  EXPECT_DEATH((void)Status(StatusCode::kOk, "fine"), "TIERCEL_CHECK failed");
  EXPECT_DEATH((void)Status(StatusCode::kCount, "none"), "TIERCEL_CHECK failed");
}

TEST(Result, HoldsAValue) {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(7));
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(*result.value(), 7);
  const std::unique_ptr<int> taken = std::move(result).value();
  EXPECT_EQ(*taken, 7);
}

TEST(Result, HoldsAnError) {
  Result<std::string> result(Status(StatusCode::kUnavailable, "no io_uring", ENOSYS));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), StatusCode::kUnavailable);
  const Status taken = std::move(result).TakeStatus();
  EXPECT_EQ(taken.os_error(), ENOSYS);
  EXPECT_EQ(taken.message(), "no io_uring");
}

}  // namespace
}  // namespace tiercel
