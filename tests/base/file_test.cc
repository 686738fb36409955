// Goal: the file helpers do the whole job or say what went wrong with which file,
// and an atomic write leaves the old content or the new, never a mixture.
//
// Method: real files in a scratch folder. Failures are provoked for real: missing,
// too short, no permission, a directory in the way, a file size limit.

#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/support/scratch_dir.h"

namespace tiercel {
namespace {

using testing::ScratchDir;

std::size_t EntryCount(const std::string& directory) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory)) ++count;
  return count;
}

std::string WholeFile(const std::string& path) {
  Result<std::string> text = ReadWholeFile(path, 1U << 20);
  return text.ok() ? std::move(text).value() : std::move(text).TakeStatus().ToString();
}

bool IsOpen(int fd) {
  return fcntl(fd, F_GETFD) >= 0;
}

TEST(OpenFile, MissingFileIsNotFoundAndNamed) {
  const ScratchDir scratch;
  const Result<FileDescriptor> file = OpenFile(scratch.File("missing"), O_RDONLY);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), StatusCode::kNotFound);
  EXPECT_EQ(file.status().os_error(), ENOENT);
  EXPECT_NE(file.status().message().find(scratch.File("missing")), std::string_view::npos);
}

TEST(OpenFile, NoPermission) {
  if (geteuid() == 0) GTEST_SKIP() << "root may read every file";
  const ScratchDir scratch;
  const std::string path = scratch.Write("secret", "x");
  ASSERT_EQ(chmod(path.c_str(), 0), 0);
  const Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), StatusCode::kPermissionDenied);
}

TEST(OpenFile, IsClosedOnExec) {
  const ScratchDir scratch;
  const Result<FileDescriptor> file = OpenFile(scratch.Write("a", "x"), O_RDONLY);
  ASSERT_TRUE(file.ok());
  EXPECT_NE(fcntl(file.value().get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(FileDescriptor, ClosesOnceAndMoves) {
  const ScratchDir scratch;
  const std::string path = scratch.Write("a", "x");
  int fd = -1;
  {
    Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
    ASSERT_TRUE(file.ok());
    fd = file.value().get();
    FileDescriptor moved = std::move(file).value();
    EXPECT_EQ(moved.get(), fd);
    EXPECT_TRUE(IsOpen(fd));
  }
  EXPECT_FALSE(IsOpen(fd));
}

TEST(FileDescriptor, AssignmentClosesWhatItHeld) {
  const ScratchDir scratch;
  const std::string path = scratch.Write("a", "x");
  Result<FileDescriptor> first = OpenFile(path, O_RDONLY);
  Result<FileDescriptor> second = OpenFile(path, O_RDONLY);
  ASSERT_TRUE(first.ok() && second.ok());
  FileDescriptor target = std::move(first).value();
  const int old_fd = target.get();
  target = std::move(second).value();
  EXPECT_NE(target.get(), old_fd);
  EXPECT_TRUE(IsOpen(target.get()));
  EXPECT_FALSE(IsOpen(old_fd));
}

TEST(FileSizeBytes, OfAFileAndOfADirectory) {
  const ScratchDir scratch;
  const std::string path = scratch.Write("a", "12345");
  Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
  ASSERT_TRUE(file.ok());
  const Result<std::uint64_t> size_bytes = FileSizeBytes(file.value(), path);
  ASSERT_TRUE(size_bytes.ok());
  EXPECT_EQ(size_bytes.value(), 5U);

  Result<FileDescriptor> directory = OpenFile(scratch.path(), O_RDONLY);
  ASSERT_TRUE(directory.ok());
  const Result<std::uint64_t> none = FileSizeBytes(directory.value(), scratch.path());
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.status().code(), StatusCode::kInvalidArgument);
}

TEST(ReadAt, ReadsTheMiddle) {
  const ScratchDir scratch;
  const std::string path = scratch.Write("a", "0123456789");
  Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
  ASSERT_TRUE(file.ok());
  std::string text(4, '\0');
  ASSERT_TRUE(ReadAt(file.value(), path, 3, std::as_writable_bytes(std::span(text))).ok());
  EXPECT_EQ(text, "3456");
}

TEST(ReadAt, ShortFileIsCorruptionAndSaysWhereItEnds) {
  const ScratchDir scratch;
  const std::string path = scratch.Write("a", "0123456789");
  Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
  ASSERT_TRUE(file.ok());
  std::string text(8, '\0');
  const Status status = ReadAt(file.value(), path, 5, std::as_writable_bytes(std::span(text)));
  EXPECT_EQ(status.code(), StatusCode::kCorruption);
  EXPECT_NE(status.message().find(path + " ends at 10"), std::string_view::npos)
      << status.message();
}

TEST(WriteAt, ToAReadOnlyDescriptorFails) {
  const ScratchDir scratch;
  const std::string path = scratch.Write("a", "0123");
  Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
  ASSERT_TRUE(file.ok());
  const std::string text = "x";
  const Status status = WriteAt(file.value(), path, 0, std::as_bytes(std::span(text)));
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.os_error(), EBADF);
  EXPECT_EQ(WholeFile(path), "0123");
}

TEST(ReadWholeFile, ReadsAllOrRefusesWhatIsTooLarge) {
  const ScratchDir scratch;
  const std::string path = scratch.Write("a", "0123456789");
  EXPECT_EQ(WholeFile(path), "0123456789");
  EXPECT_EQ(WholeFile(scratch.Write("empty", "")), "");
  EXPECT_TRUE(ReadWholeFile(path, 10).ok());
  const Result<std::string> too_large = ReadWholeFile(path, 9);
  ASSERT_FALSE(too_large.ok());
  EXPECT_EQ(too_large.status().code(), StatusCode::kInvalidArgument);
}

TEST(ReadWholeFile, OfADirectoryAndOfNothing) {
  const ScratchDir scratch;
  EXPECT_EQ(ReadWholeFile(scratch.path(), 100).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadWholeFile(scratch.File("no"), 100).status().code(), StatusCode::kNotFound);
}

TEST(WriteFileAtomically, WritesReplacesAndLeavesNothingElse) {
  const ScratchDir scratch;
  const std::string path = scratch.File("a");
  ASSERT_TRUE(WriteFileAtomically(path, "first").ok());
  EXPECT_EQ(WholeFile(path), "first");
  ASSERT_TRUE(WriteFileAtomically(path, "second, longer").ok());
  EXPECT_EQ(WholeFile(path), "second, longer");
  ASSERT_TRUE(WriteFileAtomically(path, "").ok());
  EXPECT_EQ(WholeFile(path), "");
  EXPECT_EQ(EntryCount(scratch.path()), 1U);
}

TEST(WriteFileAtomically, TwoThreadsLeaveOneOfTheTwoTexts) {
  const ScratchDir scratch;
  const std::string path = scratch.File("a");
  std::vector<std::thread> threads;
  std::atomic<int> failed = 0;
  for (const char letter : {'x', 'y'}) {
    threads.emplace_back([&path, &failed, letter] {
      for (int i = 0; i < 50; ++i) {
        if (!WriteFileAtomically(path, std::string(5000, letter)).ok()) ++failed;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 0);
  const std::string text = WholeFile(path);
  EXPECT_TRUE(text == std::string(5000, 'x') || text == std::string(5000, 'y'));
  EXPECT_EQ(EntryCount(scratch.path()), 1U);
}

TEST(WriteFileAtomically, FailedRenameKeepsWhatWasThere) {
  const ScratchDir scratch;
  const std::string path = scratch.File("a");
  ASSERT_TRUE(std::filesystem::create_directory(path));
  const Status status = WriteFileAtomically(path, "text");
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status.ToString();
  EXPECT_TRUE(std::filesystem::is_directory(path));
  EXPECT_EQ(EntryCount(scratch.path()), 1U) << "the temporary file was left behind";
}

TEST(WriteFileAtomically, FailedWriteKeepsTheOldContent) {
  const ScratchDir scratch;
  const std::string path = scratch.Write("a", "old");
  // A file size limit makes the kernel refuse the write itself, even to root.
  struct rlimit before {};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto old_handler = signal(SIGXFSZ, SIG_IGN);
  const struct rlimit small = {4096, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = WriteFileAtomically(path, std::string(10000, 'x'));
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  signal(SIGXFSZ, old_handler);

  EXPECT_EQ(status.os_error(), EFBIG) << status.ToString();
  EXPECT_EQ(WholeFile(path), "old");
  EXPECT_EQ(EntryCount(scratch.path()), 1U) << "the temporary file was left behind";
}

TEST(WriteFileAtomically, IntoAMissingDirectory) {
  const ScratchDir scratch;
  EXPECT_EQ(WriteFileAtomically(scratch.File("no/a"), "x").code(), StatusCode::kNotFound);
  EXPECT_EQ(EntryCount(scratch.path()), 0U);
}

TEST(WriteFileAtomically, RelativePathWithoutADirectory) {
  const ScratchDir scratch;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(scratch.path());
  const Status status = WriteFileAtomically("a", "x");
  std::filesystem::current_path(before);
  EXPECT_TRUE(status.ok()) << status.ToString();
  EXPECT_EQ(WholeFile(scratch.File("a")), "x");
}

TEST(SyncDirectory, OfADirectoryAndOfAFile) {
  const ScratchDir scratch;
  EXPECT_TRUE(SyncDirectory(scratch.path()).ok());
  EXPECT_FALSE(SyncDirectory(scratch.Write("a", "x")).ok());
  EXPECT_EQ(SyncDirectory(scratch.File("no")).code(), StatusCode::kNotFound);
}

}  // namespace
}  // namespace tiercel
