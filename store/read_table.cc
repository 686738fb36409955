#include "store/read_table.h"

#include <bit>
#include <utility>

#include "base/check.h"
#include "base/prng.h"

namespace tiercel {
namespace {

/// Half full at most.
std::size_t ReadBucketCount(std::uint32_t read_capacity) noexcept {
  return std::bit_ceil(std::size_t{read_capacity} * 2);
}

ReadRequest RequestOf(const RowRead& place, std::uint32_t tag) noexcept {
  return {.file_index = place.file_index,
          .size_bytes = place.size_bytes,
          .offset_bytes = place.offset_bytes,
          .tag = tag};
}

bool Holds(const BlockSpan& blocks, const RowRead& place) noexcept {
  return place.offset_bytes >= blocks.offset_bytes &&
         place.offset_bytes + place.size_bytes <= blocks.offset_bytes + blocks.size_bytes;
}

}  // namespace

ReadTable::ReadTable(const Device& device, std::uint32_t read_capacity,
                     std::uint32_t piece_capacity)
    : device_(device),
      reads_(read_capacity),
      pieces_(piece_capacity),
      buckets_(ReadBucketCount(read_capacity), kNone) {
  for (std::uint32_t i = read_capacity; i-- > 0;) {
    reads_[i].chain = std::exchange(free_read_, i);
  }
  for (std::uint32_t i = piece_capacity; i-- > 0;) FreePiece(i);
}

std::uint64_t ReadTable::MemoryBytes(std::uint32_t read_capacity,
                                     std::uint32_t piece_capacity) noexcept {
  return read_capacity * sizeof(Read) + piece_capacity * sizeof(Piece) +
         ReadBucketCount(read_capacity) * sizeof(std::uint32_t);
}

std::uint32_t& ReadTable::BucketOf(const ReadRequest& request, const BlockSpan& blocks) noexcept {
  const std::uint64_t hash =
      SplitMix64(blocks.offset_bytes ^ (std::uint64_t{request.file_index} << 48));
  return buckets_[hash & (buckets_.size() - 1)];
}

std::uint32_t ReadTable::Add(const RowPiece& piece) noexcept {
  TIERCEL_CHECK(has_room());
  const ReadRequest request = RequestOf(piece.place, 0);
  const BlockSpan blocks = device_.Blocks(request);
  const std::uint32_t piece_index = free_piece_;
  free_piece_ = pieces_[piece_index].next;
  pieces_[piece_index].piece = piece;
  for (std::uint32_t i = BucketOf(request, blocks); i != kNone; i = reads_[i].chain) {
    Read& read = reads_[i];
    if (read.request.file_index != request.file_index) continue;
    if (read.blocks.offset_bytes != blocks.offset_bytes || !Holds(read.blocks, piece.place)) {
      continue;
    }
    // Behind the first, which is the one that the request is made for.
    Piece& first = pieces_[read.first_piece];
    pieces_[piece_index].next = std::exchange(first.next, piece_index);
    return kNone;
  }
  const std::uint32_t index = free_read_;
  free_read_ = reads_[index].chain;
  reads_[index].first_piece = piece_index;
  pieces_[piece_index].next = kNone;
  Link(index, piece.place);
  return index;
}

/// Makes a read that is in no chain one for `place`.
void ReadTable::Link(std::uint32_t index, const RowRead& place) noexcept {
  Read& read = reads_[index];
  read.request = RequestOf(place, index);
  read.blocks = device_.Blocks(read.request);
  read.attempts = 0;
  read.chain = std::exchange(BucketOf(read.request, read.blocks), index);
}

void ReadTable::Unlink(std::uint32_t index) noexcept {
  std::uint32_t* link = &BucketOf(reads_[index].request, reads_[index].blocks);
  while (*link != index) link = &reads_[*link].chain;
  *link = reads_[index].chain;
}

void ReadTable::FreePiece(std::uint32_t piece_index) noexcept {
  pieces_[piece_index].next = std::exchange(free_piece_, piece_index);
}

/// Turns a read into one for the first piece that is left, or frees it. Returns
/// whether one was left.
bool ReadTable::Renew(std::uint32_t index) noexcept {
  Unlink(index);
  Read& read = reads_[index];
  if (read.first_piece == kNone) {
    read.chain = std::exchange(free_read_, index);
    return false;
  }
  Link(index, pieces_[read.first_piece].piece.place);
  return true;
}

RowPiece ReadTable::Fail(std::uint32_t index, bool& over) noexcept {
  Read& read = reads_[index];
  const std::uint32_t piece_index = read.first_piece;
  const RowPiece piece = pieces_[piece_index].piece;
  read.first_piece = pieces_[piece_index].next;
  FreePiece(piece_index);
  over = !Renew(index);
  return piece;
}

}  // namespace tiercel
