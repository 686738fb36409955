#include "tools/trace_input.h"

#include <fmt/format.h>

#include <cstddef>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "tiercel/types.h"

namespace tiercel::tools {
namespace {

constexpr std::size_t kTextReadBytes = std::size_t{64} << 10;

Status InvalidText(std::string message) {
  return Status(StatusCode::kInvalidArgument, std::move(message));
}

/// Reads documents of one line each, character by character, so that a line may be of any
/// length.
///
/// Threading: one thread at a time.
class TextReader {
 public:
  TextReader(const std::string& name, const TraceInputOptions& options, TraceWriter& writer)
      : name_(name), options_(options), writer_(writer) {}

  [[nodiscard]] Status Take(char c) {
    ++column_;
    if (c >= '0' && c <= '9') return TakeDigit(static_cast<std::uint64_t>(c - '0'));
    if (c == '-') {
      if (in_number_ || negative_ || !MayBeginNumber()) return Unexpected(c);
      negative_ = true;
      return {};
    }
    if (Status status = EndNumber(); !status.ok()) return status;
    switch (c) {
      case ' ':
      case '\t':
      case '\r':
        return {};
      case '\n':
        return EndLine();
      case ',':
        if (state_ != State::kAfterNumber) return Unexpected(c);
        state_ = State::kAfterComma;
        return {};
      case '[':
        if (state_ != State::kLineBegin) return Unexpected(c);
        state_ = State::kArrayBegin;
        in_array_ = true;
        return {};
      case ']':
        if (!in_array_ || (state_ != State::kAfterNumber && state_ != State::kArrayBegin)) {
          return Unexpected(c);
        }
        state_ = State::kArrayEnd;
        return {};
      default:
        return Unexpected(c);
    }
  }

  /// The end of the input ends a line, too.
  [[nodiscard]] Status Finish() {
    ++column_;
    if (Status status = EndNumber(); !status.ok()) return status;
    return EndLine();
  }

 private:
  enum class State : std::uint8_t {
    kLineBegin,
    kArrayBegin,
    kAfterNumber,
    kAfterComma,
    kArrayEnd,
  };

  /// In an array numbers stand apart by commas; on a plain line blanks will do.
  [[nodiscard]] bool MayBeginNumber() const noexcept {
    return state_ != State::kArrayEnd && !(in_array_ && state_ == State::kAfterNumber);
  }

  [[nodiscard]] Status TakeDigit(std::uint64_t digit) {
    if (!in_number_ && !MayBeginNumber()) return Unexpected(static_cast<char>('0' + digit));
    in_number_ = true;
    number_ = number_ * 10 + digit;
    // Far above any id, and far below what would overflow.
    return number_ > std::uint64_t{1} << 40 ? BadId() : Status();
  }

  [[nodiscard]] Status EndNumber() {
    if (!in_number_) return negative_ ? Unexpected('-') : Status();
    const bool dead = negative_ && number_ == 1;
    if (!dead && (negative_ || number_ >= options_.id_limit)) return BadId();
    const std::int32_t token = dead ? kDeadToken : static_cast<std::int32_t>(number_);
    in_number_ = false;
    negative_ = false;
    number_ = 0;
    state_ = State::kAfterNumber;
    return writer_.AddToken(token);
  }

  [[nodiscard]] Status EndLine() {
    if (in_array_ && state_ != State::kArrayEnd) {
      return InvalidText(fmt::format("{}: line {}: an array without its end ]", name_, line_));
    }
    if (state_ == State::kAfterComma) {
      return InvalidText(fmt::format("{}: line {}: no id after the last comma", name_, line_));
    }
    const bool blank = state_ == State::kLineBegin;
    state_ = State::kLineBegin;
    in_array_ = false;
    column_ = 0;
    ++line_;
    return blank ? Status() : writer_.EndDocument();
  }

  [[nodiscard]] Status BadId() const {
    return InvalidText(fmt::format(
        "{}: line {}, character {}: token {}{}{} is not below {}: another tokenizer's, or no id",
        name_, line_, column_, negative_ ? "-" : "", number_,
        number_ > std::uint64_t{1} << 40 ? "..." : "", options_.id_limit));
  }

  [[nodiscard]] Status Unexpected(char c) const {
    const auto byte = static_cast<unsigned char>(c);
    return InvalidText(fmt::format(
        "{}: line {}, character {}: {} is out of place; a line holds ids apart by blanks or "
        "commas, or a JSON array of them",
        name_, line_, column_,
        byte > 0x20 && byte < 0x7F ? fmt::format("'{}'", c) : fmt::format("byte {:#04x}", byte)));
  }

  const std::string& name_;
  const TraceInputOptions& options_;
  TraceWriter& writer_;
  State state_ = State::kLineBegin;
  bool in_array_ = false;
  bool in_number_ = false;
  bool negative_ = false;
  std::uint64_t number_ = 0;
  std::uint64_t line_ = 1;
  std::uint64_t column_ = 0;
};

/// Reads binary ids. Threading: one thread at a time.
class U32Reader {
 public:
  U32Reader(const std::string& name, const TraceInputOptions& options, TraceWriter& writer)
      : name_(name), options_(options), writer_(writer) {}

  [[nodiscard]] Status Take(char c) {
    id_ |= std::uint32_t{static_cast<unsigned char>(c)} << (8 * byte_count_);
    if (++byte_count_ < sizeof(id_)) return {};
    const auto token = static_cast<std::int32_t>(id_);
    if (token != kDeadToken && id_ >= options_.id_limit) {
      return InvalidText(
          fmt::format("{}: token {} at position {} is not below {}: the file belongs to another "
                      "tokenizer or is not of 32-bit ids",
                      name_, token, writer_.token_count(), options_.id_limit));
    }
    id_ = 0;
    byte_count_ = 0;
    if (Status status = writer_.AddToken(token); !status.ok()) return status;
    return token == options_.document_end ? writer_.EndDocument() : Status();
  }

  [[nodiscard]] Status Finish() {
    if (byte_count_ != 0) {
      return InvalidText(fmt::format("{}: {} bytes are left over after {} tokens of 4 bytes", name_,
                                     byte_count_, writer_.token_count()));
    }
    return writer_.open_token_count() > 0 ? writer_.EndDocument() : Status();
  }

 private:
  const std::string& name_;
  const TraceInputOptions& options_;
  TraceWriter& writer_;
  std::uint32_t id_ = 0;
  std::size_t byte_count_ = 0;
};

template <typename Reader>
Status ReadAll(ByteSource& source, const TraceInputOptions& options, TraceWriter& writer) {
  Reader reader(source.name(), options, writer);
  std::vector<std::byte> bytes(kTextReadBytes);
  while (true) {
    const Result<std::size_t> size = source.Read(bytes);
    if (!size.ok()) return Status(size.status().code(), std::string(size.status().message()));
    for (const std::byte byte : std::span(bytes).first(size.value())) {
      if (Status status = reader.Take(static_cast<char>(byte)); !status.ok()) return status;
    }
    if (options.progress && !options.progress(writer.token_count())) {
      return Status(StatusCode::kCancelled, "interrupted");
    }
    if (size.value() < bytes.size()) return reader.Finish();
  }
}

}  // namespace

Result<TraceFormat> ParseTraceFormat(const std::string& name) {
  if (name == "text") return TraceFormat::kText;
  if (name == "u32") return TraceFormat::kU32;
  return InvalidText(fmt::format("'{}' is not a format; there are text and u32", name));
}

Status ReadTraceInput(ByteSource& source, const TraceInputOptions& options, TraceWriter& writer) {
  switch (options.format) {
    case TraceFormat::kText:
      return ReadAll<TextReader>(source, options, writer);
    case TraceFormat::kU32:
      return ReadAll<U32Reader>(source, options, writer);
  }
  return {};
}

}  // namespace tiercel::tools
