#ifndef TIERCEL_TOOLS_TRACE_INPUT_H_
#define TIERCEL_TOOLS_TRACE_INPUT_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "tiercel/status.h"
#include "tools/byte_source.h"
#include "tools/trace_writer.h"

namespace tiercel::tools {

/// How token ids are written down.
enum class TraceFormat : std::uint8_t {
  /// A document a line: ids apart by blanks, tabs or commas, or a JSON array of them. Lines
  /// of blanks alone are passed over; an empty document is [].
  kText,
  kU32,  ///< Little-endian 32-bit ids, one after another.
};

/// "text", "u32". Errors: kInvalidArgument.
[[nodiscard]] Result<TraceFormat> ParseTraceFormat(const std::string& name);

struct TraceInputOptions {
  TraceFormat format = TraceFormat::kText;
  /// Ids must lie below this; kDeadToken is always allowed.
  std::uint64_t id_limit = std::uint64_t{1} << 31;
  /// kU32: the id after which a document ends, and which belongs to it. None: all tokens are
  /// one document.
  std::optional<std::int32_t> document_end;
  /// Called now and then with the tokens so far. False stops.
  std::function<bool(std::uint64_t token_count)> progress;
};

/// Copies all documents of `source` to `writer`, a buffer at a time.
///
/// Errors: kInvalidArgument (what is no id, or an id out of range: line and position, or the
/// token's number, are named), kCancelled, as ByteSource and TraceWriter.
[[nodiscard]] Status ReadTraceInput(ByteSource& source, const TraceInputOptions& options,
                                    TraceWriter& writer);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_TRACE_INPUT_H_
