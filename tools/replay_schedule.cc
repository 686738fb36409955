#include "tools/replay_schedule.h"

#include <algorithm>

namespace tiercel::tools {

std::string_view Name(ReplayMode mode) noexcept {
  switch (mode) {
    case ReplayMode::kPrefill:
      return "prefill";
    case ReplayMode::kDecode:
      return "decode";
  }
  return "unknown";
}

ReplaySchedule::ReplaySchedule(std::span<const std::uint64_t> offsets,
                               const ReplayScheduleOptions& options)
    : offsets_(offsets), options_(options), streams_(options.stream_count) {}

bool ReplaySchedule::TakeChunk(Stream& stream, std::vector<ReplayChunk>& chunks) {
  const std::uint64_t left = options_.token_limit - token_count_;
  if (left == 0) return false;
  while (stream.next == stream.document_end) {  // A loop: documents may be empty.
    if (next_document_ + 1 >= offsets_.size()) return false;
    stream.document_begin = offsets_[next_document_];
    stream.next = stream.document_begin;
    stream.document_end = offsets_[++next_document_];
  }
  const std::uint64_t count =
      std::min({std::uint64_t{options_.chunk_tokens}, stream.document_end - stream.next, left});
  chunks.push_back(
      {.document_begin = stream.document_begin, .begin = stream.next, .end = stream.next + count});
  stream.next += count;
  token_count_ += count;
  return true;
}

bool ReplaySchedule::Next(std::vector<ReplayChunk>& chunks) {
  chunks.clear();
  if (options_.mode == ReplayMode::kDecode) {
    for (Stream& stream : streams_) TakeChunk(stream, chunks);
    return !chunks.empty();
  }
  // A stream with nothing left is passed over; one round finds any other.
  for (std::size_t i = 0; i < streams_.size(); ++i) {
    Stream& stream = streams_[turn_];
    turn_ = (turn_ + 1) % streams_.size();
    if (TakeChunk(stream, chunks)) return true;
  }
  return false;
}

ReplayExtent MeasureSchedule(std::span<const std::uint64_t> offsets,
                             const ReplayScheduleOptions& options) {
  ReplaySchedule schedule(offsets, options);
  std::vector<ReplayChunk> chunks;
  ReplayExtent extent;
  while (schedule.Next(chunks)) {
    ++extent.step_count;
    for (const ReplayChunk& chunk : chunks) {
      extent.position_end = std::max(extent.position_end, chunk.end);
    }
  }
  extent.token_count = schedule.token_count();
  return extent;
}

}  // namespace tiercel::tools
