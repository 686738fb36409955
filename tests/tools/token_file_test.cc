// Goal: token and offset files are read exactly, or refused with a message that
// says what is wrong with them; nothing that is damaged passes.
// Method: small files, plain and packed, whole, cut and altered, and one large
// enough to cross every buffer.

#include "tools/token_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>
#include <vector>

#include "tests/support/scratch_dir.h"
#include "tests/tools/run_tiercel.h"

namespace tiercel::tools {
namespace {

using tiercel::testing::Bytes32;
using tiercel::testing::Bytes64;
using tiercel::testing::Compress;
using tiercel::testing::ScratchDir;

std::vector<std::int32_t> ManyTokens(std::size_t count) {
  std::vector<std::int32_t> tokens(count);
  std::uint32_t state = 1;
  for (std::int32_t& token : tokens) {
    state = state * 1664525U + 1013904223U;
    token = static_cast<std::int32_t>(state >> 15);
  }
  return tokens;
}

void ExpectRefused(const Status& status, StatusCode code, std::string_view words) {
  EXPECT_EQ(status.code(), code) << status.ToString();
  EXPECT_NE(status.message().find(words), std::string::npos)
      << status.ToString() << " lacks: " << words;
}

class TokenFileTest : public ::testing::Test {
 protected:
  Status TokensError(const std::string& bytes, const ReadTokensOptions& options = {}) {
    Result<TokenFile> file = ReadTokens(scratch_.Write("tokens", bytes), options);
    return file.ok() ? Status() : std::move(file).TakeStatus();
  }
  Status OffsetsError(const std::string& bytes) {
    Result<std::vector<std::uint64_t>> offsets = ReadOffsets(scratch_.Write("offsets", bytes));
    return offsets.ok() ? Status() : std::move(offsets).TakeStatus();
  }

  ScratchDir scratch_;
};

TEST_F(TokenFileTest, ReadsPlainAndPackedTokens) {
  // 250,000 tokens are 1 MB: more than any buffer of the reader.
  const std::vector<std::int32_t> tokens = ManyTokens(250'000);
  const std::string bytes = Bytes32(tokens);
  const std::string packed = Compress(bytes);
  // Two frames one after another are one stream, as `cat a.zst b.zst` makes them.
  const std::string frames = Compress(bytes.substr(0, 400'001)) + Compress(bytes.substr(400'001));
  for (const std::string& path :
       {scratch_.Write("a.u32", bytes), scratch_.Write("b.u32.zst", packed),
        scratch_.Write("packed_without_suffix", packed), scratch_.Write("frames.zst", frames)}) {
    const Result<TokenFile> file = ReadTokens(path);
    ASSERT_TRUE(file.ok()) << path << ": " << file.status().ToString();
    EXPECT_EQ(file.value().token_count, tokens.size());
    EXPECT_TRUE(file.value().tokens == tokens) << path;
  }
}

TEST_F(TokenFileTest, KeepsNoMoreThanAskedButCountsAll) {
  const std::vector<std::int32_t> tokens = ManyTokens(100'000);
  const Result<TokenFile> file =
      ReadTokens(scratch_.Write("t", Bytes32(tokens)), {.keep_count_max = 1234});
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  EXPECT_EQ(file.value().token_count, 100'000U);
  EXPECT_EQ(file.value().tokens, std::vector<std::int32_t>(tokens.begin(), tokens.begin() + 1234));
}

TEST_F(TokenFileTest, AllowsDeadTokensAndEmptyFiles) {
  const Result<TokenFile> file =
      ReadTokens(scratch_.Write("t", Bytes32({3, -1, 0})), {.id_limit = 4});
  ASSERT_TRUE(file.ok()) << file.status().ToString();
  EXPECT_EQ(file.value().tokens, (std::vector<std::int32_t>{3, -1, 0}));
  const Result<TokenFile> empty = ReadTokens(scratch_.Write("e", ""));
  ASSERT_TRUE(empty.ok()) << empty.status().ToString();
  EXPECT_EQ(empty.value().token_count, 0U);
}

TEST_F(TokenFileTest, NamesThePositionOfABadToken) {
  std::vector<std::int32_t> tokens(50'000, 7);
  tokens[40'001] = 1000;
  ExpectRefused(TokensError(Bytes32(tokens), {.id_limit = 1000}), StatusCode::kInvalidArgument,
                "token 1000 at position 40001");
  // Behind what is kept, too: the file is of another tokenizer.
  ExpectRefused(TokensError(Bytes32(tokens), {.keep_count_max = 10, .id_limit = 1000}),
                StatusCode::kInvalidArgument, "position 40001");
  ExpectRefused(TokensError(Bytes32({5, -2})), StatusCode::kInvalidArgument,
                "token -2 at position 1");
}

TEST_F(TokenFileTest, RefusesSizesThatAreNoTokens) {
  ExpectRefused(TokensError("abcdefg"), StatusCode::kInvalidArgument, "3 bytes are left over");
  ExpectRefused(TokensError(Compress("abcdefg")), StatusCode::kInvalidArgument,
                "3 bytes are left over");
  ExpectRefused(TokensError(Bytes32(ManyTokens(1000)), {.kept_count_limit = 999}),
                StatusCode::kInvalidArgument, "more than 999 tokens");
  ExpectRefused(TokensError(Compress(std::string(4'000'000, '\0')),
                            {.keep_count_max = 1, .token_count_limit = 500'000}),
                StatusCode::kInvalidArgument, "more than 500,000 tokens");
}

TEST_F(TokenFileTest, RefusesEveryTruncationOfPackedData) {
  const std::string packed = Compress(Bytes32(ManyTokens(300)));
  for (std::size_t size = 4; size < packed.size(); ++size) {
    ExpectRefused(TokensError(packed.substr(0, size)), StatusCode::kCorruption, "cut off");
  }
  // Not even the magic number is left: the name still says what it was.
  Result<TokenFile> stub = ReadTokens(scratch_.Write("empty.zst", ""));
  ASSERT_FALSE(stub.ok());
  ExpectRefused(std::move(stub).TakeStatus(), StatusCode::kCorruption, "cut off");
}

TEST_F(TokenFileTest, RefusesDamagedPackedData) {
  std::string packed = Compress(Bytes32(ManyTokens(300)));
  packed[4] = '\xFF';  // The frame header's descriptor.
  ExpectRefused(TokensError(packed), StatusCode::kCorruption, "damaged");
  packed = Compress(Bytes32(ManyTokens(300))) + "trailing bytes";
  ExpectRefused(TokensError(packed), StatusCode::kCorruption, "damaged");
}

TEST_F(TokenFileTest, SaysWhyAFileCannotBeRead) {
  Result<TokenFile> missing = ReadTokens(scratch_.File("no_such_file"));
  ASSERT_FALSE(missing.ok());
  ExpectRefused(std::move(missing).TakeStatus(), StatusCode::kNotFound, "no_such_file");
  Result<TokenFile> folder = ReadTokens(scratch_.path());
  ASSERT_FALSE(folder.ok());
  ExpectRefused(std::move(folder).TakeStatus(), StatusCode::kIoError, "directory");
}

TEST_F(TokenFileTest, ReadsOffsets) {
  const std::vector<std::uint64_t> offsets = {0, 5, 5, std::uint64_t{1} << 40};
  for (const std::string& path : {scratch_.Write("o", Bytes64(offsets)),
                                  scratch_.Write("o.zst", Compress(Bytes64(offsets)))}) {
    const Result<std::vector<std::uint64_t>> read = ReadOffsets(path);
    ASSERT_TRUE(read.ok()) << read.status().ToString();
    EXPECT_EQ(read.value(), offsets) << "an empty document is a document";
  }
}

TEST_F(TokenFileTest, RefusesBadOffsets) {
  const StatusCode bad = StatusCode::kInvalidArgument;
  ExpectRefused(OffsetsError(""), bad, "0 offsets");
  ExpectRefused(OffsetsError(Bytes64({0})), bad, "1 offsets");
  ExpectRefused(OffsetsError(Bytes64({1, 5})), bad, "first offset is 1");
  ExpectRefused(OffsetsError(Bytes64({0, 5, 4})), bad, "offset 2 is 4");
  ExpectRefused(OffsetsError(Bytes64({0, 5}) + "x"), bad, "17 bytes");
}

TEST_F(TokenFileTest, BoundsTextFiles) {
  const std::string path = scratch_.Write("text.zst", Compress(std::string(1'000'000, 'x')));
  EXPECT_TRUE(ReadText(path, 1'000'000).ok());
  Result<std::string> longer = ReadText(path, 999'999);
  ASSERT_FALSE(longer.ok());
  ExpectRefused(std::move(longer).TakeStatus(), StatusCode::kInvalidArgument, "more than");
}

TEST_F(TokenFileTest, WritesWholeFilesOrLeavesWhatWasThere) {
  const std::string path = scratch_.Write("out", "old");
  const std::string text = "new bytes";
  ASSERT_TRUE(WriteOutput(path, std::as_bytes(std::span(text))).ok());
  EXPECT_EQ(ReadText(path, 100).value(), text);
  ASSERT_TRUE(WriteOutput("/dev/null", std::as_bytes(std::span(text))).ok());
  struct stat info = {};
  ASSERT_EQ(stat("/dev/null", &info), 0);
  EXPECT_TRUE(S_ISCHR(info.st_mode)) << "a device is not replaced by a file";
  Status status = WriteOutput(scratch_.File("no_such_folder/out"), {});
  ExpectRefused(status, StatusCode::kNotFound, "no_such_folder");
}

}  // namespace
}  // namespace tiercel::tools
