#include "tools/token_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "tiercel/types.h"
#include "tools/byte_source.h"
#include "tools/command_line.h"

namespace tiercel::tools {
namespace {

constexpr std::size_t kReadBytes = std::size_t{64} << 10;
constexpr std::uint64_t kOffsetCountMax = std::uint64_t{1} << 27;

Status Invalid(std::string message) {
  return Status(StatusCode::kInvalidArgument, std::move(message));
}

template <typename Word>
Word LoadLittleEndian(const std::byte* bytes) noexcept {
  Word word = 0;
  for (std::size_t i = 0; i < sizeof(Word); ++i) {
    word |= static_cast<Word>(std::to_integer<Word>(bytes[i]) << (8 * i));
  }
  return word;
}

Status BadId(const ByteSource& source, std::uint64_t position, std::uint32_t id,
             std::uint64_t id_limit) {
  return Invalid(
      fmt::format("{}: token {} at position {} is not below {}: the file belongs to "
                  "another tokenizer or is not of 32-bit ids",
                  source.name(), static_cast<std::int32_t>(id), position, id_limit));
}

}  // namespace

Result<TokenFile> ReadTokens(const std::string& path, const ReadTokensOptions& options) {
  Result<ByteSource> source = ByteSource::Open(path);
  if (!source.ok()) return std::move(source).TakeStatus();
  TokenFile file;
  std::vector<std::byte> bytes(kReadBytes);
  while (true) {
    const Result<std::size_t> size = source.value().Read(bytes);
    if (!size.ok()) return Status(size.status().code(), std::string(size.status().message()));
    const std::size_t count = size.value() / sizeof(std::uint32_t);
    for (std::size_t i = 0; i < count; ++i) {
      const auto id = LoadLittleEndian<std::uint32_t>(&bytes[i * sizeof(std::uint32_t)]);
      const bool dead = static_cast<std::int32_t>(id) == kDeadToken;
      if (!dead && id >= options.id_limit) {
        return BadId(source.value(), file.token_count + i, id, options.id_limit);
      }
      if (file.tokens.size() < options.keep_count_max) {
        file.tokens.push_back(static_cast<std::int32_t>(id));
      }
    }
    file.token_count += count;
    if (file.tokens.size() > options.kept_count_limit ||
        file.token_count > options.token_count_limit) {
      return Invalid(fmt::format(
          "{}: more than {} tokens, the most this program takes at a time; split the file",
          source.value().name(),
          FormatCount(std::min(options.kept_count_limit, options.token_count_limit))));
    }
    if (size.value() % sizeof(std::uint32_t) != 0) {
      return Invalid(fmt::format("{}: {} bytes are left over after {} tokens of 4 bytes",
                                 source.value().name(), size.value() % sizeof(std::uint32_t),
                                 file.token_count));
    }
    if (size.value() < bytes.size()) return file;
  }
}

Result<std::vector<std::uint64_t>> ReadOffsets(const std::string& path) {
  const std::uint64_t limit_bytes = kOffsetCountMax * sizeof(std::uint64_t);
  Result<std::string> text = ReadText(path, limit_bytes);
  if (!text.ok()) return std::move(text).TakeStatus();
  const std::string& bytes = text.value();
  if (bytes.size() % sizeof(std::uint64_t) != 0) {
    return Invalid(
        fmt::format("{}: {} bytes are no whole number of 64-bit offsets", path, bytes.size()));
  }
  std::vector<std::uint64_t> offsets(bytes.size() / sizeof(std::uint64_t));
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    offsets[i] = LoadLittleEndian<std::uint64_t>(reinterpret_cast<const std::byte*>(bytes.data()) +
                                                 i * sizeof(std::uint64_t));
    if (i > 0 && offsets[i] < offsets[i - 1]) {
      return Invalid(fmt::format("{}: offset {} is {}, which lies before its predecessor {}", path,
                                 i, offsets[i], offsets[i - 1]));
    }
  }
  if (offsets.size() < 2) {
    return Invalid(
        fmt::format("{}: {} offsets; a trace has a document's start and its end at least", path,
                    offsets.size()));
  }
  if (offsets.front() != 0) {
    return Invalid(fmt::format("{}: the first offset is {}, not 0", path, offsets.front()));
  }
  return offsets;
}

Result<std::string> ReadText(const std::string& path, std::uint64_t limit_bytes) {
  Result<ByteSource> source = ByteSource::Open(path);
  if (!source.ok()) return std::move(source).TakeStatus();
  std::string text;
  std::vector<std::byte> bytes(kReadBytes);
  while (true) {
    const Result<std::size_t> size = source.value().Read(bytes);
    if (!size.ok()) return Status(size.status().code(), std::string(size.status().message()));
    text.append(reinterpret_cast<const char*>(bytes.data()), size.value());
    if (text.size() > limit_bytes) {
      return Invalid(fmt::format("{}: more than {}, the most this program takes",
                                 source.value().name(), FormatBinaryBytes(limit_bytes)));
    }
    if (size.value() < bytes.size()) return text;
  }
}

namespace {

Status WriteAll(std::FILE* file, std::span<const std::byte> bytes, const std::string& name) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file) != bytes.size() || std::fflush(file) != 0) {
    return FileError(errno, "write", name);
  }
  return Status();
}

}  // namespace

Status WriteOutput(const std::string& path, std::span<const std::byte> bytes) {
  if (path == "-") return WriteAll(stdout, bytes, "stdout");
  struct stat info = {};
  // A device or a pipe, such as /dev/null, is written to and never replaced.
  const bool replace = stat(path.c_str(), &info) != 0 || S_ISREG(info.st_mode);
  const std::string target = replace ? fmt::format("{}.tmp-{}", path, getpid()) : path;
  std::FILE* const file = std::fopen(target.c_str(), replace ? "wbxe" : "wbe");
  if (file == nullptr) return FileError(errno, "create", target);
  Status status = WriteAll(file, bytes, target);
  if (std::fclose(file) != 0 && status.ok()) status = FileError(errno, "close", target);
  if (!replace) return status;
  if (status.ok() && std::rename(target.c_str(), path.c_str()) != 0) {
    status = FileError(errno, "rename to", path);
  }
  if (!status.ok()) std::remove(target.c_str());
  return status;
}

}  // namespace tiercel::tools
