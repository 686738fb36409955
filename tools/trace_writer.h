#ifndef TIERCEL_TOOLS_TRACE_WRITER_H_
#define TIERCEL_TOOLS_TRACE_WRITER_H_

#include <zstd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tiercel/status.h"
#include "tools/token_trace.h"

namespace tiercel::tools {

/// A file that appears whole or not at all: it is written beside its place, synced and
/// renamed. What was not published is removed.
///
/// Threading: one thread at a time.
class PublishedFile {
 public:
  PublishedFile() = default;
  PublishedFile(const PublishedFile&) = delete;
  PublishedFile& operator=(const PublishedFile&) = delete;
  ~PublishedFile();

  /// Errors: kNotFound (no such directory), kPermissionDenied, kResourceExhausted, kIoError.
  [[nodiscard]] Status Open(const std::string& path);
  [[nodiscard]] Status Write(std::span<const std::byte> bytes);
  /// All is on disk, under another name. Errors: kResourceExhausted, kIoError.
  [[nodiscard]] Status Sync();
  /// Puts it in its place. REQUIRES: Sync() was OK.
  [[nodiscard]] Status Rename();

 private:
  std::string path_;
  std::string temporary_;  ///< Empty: there is none (any more).
  std::FILE* file_ = nullptr;
};

/// Writes a trace of any length in a few hundred KiB of memory.
///
/// Threading: one thread at a time.
class TraceWriter {
 public:
  /// Errors: kAlreadyExists (a file is there and `replace` is false), as PublishedFile.
  [[nodiscard]] static Result<std::unique_ptr<TraceWriter>> Create(const TracePaths& paths,
                                                                   bool replace);

  /// Adds one token to the document at hand.
  [[nodiscard]] Status AddToken(std::int32_t token);
  [[nodiscard]] Status EndDocument();
  /// Puts both files in their places. Errors: kInvalidArgument (no document: such a trace
  /// could not be read), as PublishedFile.
  [[nodiscard]] Status Publish();

  [[nodiscard]] std::uint64_t token_count() const noexcept { return token_count_; }
  [[nodiscard]] std::uint64_t document_count() const noexcept { return document_count_; }
  /// Of the document at hand.
  [[nodiscard]] std::uint64_t open_token_count() const noexcept {
    return token_count_ - document_begin_;
  }

 private:
  TraceWriter() = default;
  [[nodiscard]] Status Pack(ZSTD_EndDirective directive);
  [[nodiscard]] Status AddOffset(std::uint64_t offset);

  struct EncoderFreer {
    void operator()(ZSTD_CCtx* encoder) const noexcept { ZSTD_freeCCtx(encoder); }
  };

  TracePaths paths_;
  PublishedFile tokens_file_;
  PublishedFile offsets_file_;
  std::unique_ptr<ZSTD_CCtx, EncoderFreer> encoder_;
  std::vector<std::byte> plain_;   ///< Tokens that wait to be packed.
  std::vector<std::byte> packed_;  ///< Room for what packing gives.
  std::uint64_t token_count_ = 0;
  std::uint64_t document_count_ = 0;
  std::uint64_t document_begin_ = 0;
};

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_TRACE_WRITER_H_
