#ifndef TIERCEL_TOOLS_REPLAY_SCHEDULE_H_
#define TIERCEL_TOOLS_REPLAY_SCHEDULE_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace tiercel::tools {

/// Which streams take part in a step.
enum class ReplayMode : std::uint8_t {
  kPrefill,  ///< One: a step is a chunk of one stream, and the next step is the next stream's.
  kDecode,   ///< All: a step is a chunk of every stream, in one lookup.
};

/// "prefill", "decode".
[[nodiscard]] std::string_view Name(ReplayMode mode) noexcept;

struct ReplayScheduleOptions {
  ReplayMode mode = ReplayMode::kPrefill;
  std::uint32_t stream_count = 32;  ///< > 0
  std::uint32_t chunk_tokens = 64;  ///< > 0
  /// Stops after this many tokens.
  std::uint64_t token_limit = std::numeric_limits<std::uint64_t>::max();
};

/// Consecutive tokens of one document. Positions count from the trace's start.
struct ReplayChunk {
  std::uint64_t document_begin = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

/// The order in which the documents of a trace are served. Streams work side by
/// side; each takes the next document of the trace when its own has ended.
///
/// A copy goes on from where the original stands.
/// Threading: one thread at a time.
class ReplaySchedule {
 public:
  /// `offsets` are the documents' boundaries, ascending, first 0; they must outlive
  /// the schedule.
  ReplaySchedule(std::span<const std::uint64_t> offsets, const ReplayScheduleOptions& options);

  /// Fills `chunks` with the next step; false, and no chunks, when all is served.
  /// Allocates nothing once `chunks` has room for stream_count of them.
  bool Next(std::vector<ReplayChunk>& chunks);

  /// Tokens of all steps so far.
  [[nodiscard]] std::uint64_t token_count() const noexcept { return token_count_; }

 private:
  struct Stream {
    std::uint64_t document_begin = 0;
    std::uint64_t next = 0;
    std::uint64_t document_end = 0;
  };

  bool TakeChunk(Stream& stream, std::vector<ReplayChunk>& chunks);

  std::span<const std::uint64_t> offsets_;
  ReplayScheduleOptions options_;
  std::vector<Stream> streams_;
  std::size_t turn_ = 0;           ///< Whose step is next, in prefill.
  std::size_t next_document_ = 0;  ///< The first that no stream has taken.
  std::uint64_t token_count_ = 0;
};

/// What a schedule comes to.
struct ReplayExtent {
  std::uint64_t token_count = 0;  ///< Tokens that are served.
  std::uint64_t step_count = 0;
  std::uint64_t position_end = 0;  ///< No token at or behind this position is served.
};

/// Runs through the schedule without serving anything.
[[nodiscard]] ReplayExtent MeasureSchedule(std::span<const std::uint64_t> offsets,
                                           const ReplayScheduleOptions& options);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_REPLAY_SCHEDULE_H_
