#ifndef TIERCEL_STORE_READ_TABLE_H_
#define TIERCEL_STORE_READ_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "io/device.h"
#include "store/row_locator.h"

namespace tiercel {

/// One part of one row that waits for its bytes.
struct RowPiece {
  RowRead place;
  std::uint32_t group = 0;  ///< The caller's.
  std::uint32_t row = 0;    ///< Of the group.
  std::uint32_t part = 0;   ///< Of the row.
};

/// The reads of one queue, each with the pieces that it brings: a piece whose blocks
/// are on their way already rides along instead of being read again. So a row is
/// read once however many groups hold it at a time, and so is a 4 KiB page however
/// many of its rows are wanted.
///
/// A read is made for its first piece, the request; others join while it is under
/// way. One that turns out not to be in the bytes that came (the file ends in the
/// middle of the block), or whose read failed, gets a read of its own: nobody
/// suffers for the piece that he happened to ride with.
///
/// Invariant: a read is in exactly one bucket chain, by the file and the first byte
/// of its blocks, from Add() until its last piece is gone; each piece is in the list
/// of one read.
///
/// Threading: one thread. Allocates nothing after it was made.
class ReadTable {
 public:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  /// A read that was begun.
  struct Read {
    ReadRequest request;  ///< Its tag is the read's index.
    BlockSpan blocks;
    std::uint32_t attempts = 0;  ///< Of this request. The caller's to count.
    std::uint64_t begun_ns = 0;  ///< The caller's.
    bool background = false;     ///< The caller's.
    std::uint32_t first_piece = kNone;
    std::uint32_t chain = kNone;
  };

  /// `device` must outlive the table.
  ReadTable(const Device& device, std::uint32_t read_capacity, std::uint32_t piece_capacity);

  [[nodiscard]] static std::uint64_t MemoryBytes(std::uint32_t read_capacity,
                                                 std::uint32_t piece_capacity) noexcept;

  /// Whether Add() may be called: there is room for a read and a piece.
  [[nodiscard]] bool has_room() const noexcept {
    return free_read_ != kNone && free_piece_ != kNone;
  }

  /// Takes on a piece. Returns the index of the read that was begun for it, to be
  /// submitted, or kNone: it rides along with another. REQUIRES: has_room().
  std::uint32_t Add(const RowPiece& piece) noexcept;

  [[nodiscard]] Read& operator[](std::uint32_t index) noexcept { return reads_[index]; }

  /// Calls `serve(piece, bytes)` for each piece of a read that succeeded. Returns
  /// true if the read is over; false if it was turned into one for a piece that it
  /// did not bring, and is to be submitted again.
  ///   blocks  what came: see ReadCompletion.
  template <typename ServePiece>
  [[nodiscard]] bool Serve(std::uint32_t index, std::span<const std::byte> blocks,
                           ServePiece&& serve) noexcept {
    Read& read = reads_[index];
    std::uint32_t piece_index = read.first_piece;
    read.first_piece = kNone;
    while (piece_index != kNone) {
      const Piece piece = pieces_[piece_index];
      const RowRead& place = piece.piece.place;
      const std::uint64_t skip_bytes = place.offset_bytes - read.blocks.offset_bytes;
      if (skip_bytes + place.size_bytes <= blocks.size()) {
        serve(piece.piece, blocks.subspan(skip_bytes, place.size_bytes));
        FreePiece(piece_index);
      } else {
        pieces_[piece_index].next = read.first_piece;
        read.first_piece = piece_index;
      }
      piece_index = piece.next;
    }
    return !Renew(index);
  }

  /// Takes the piece that a failed read was made for off it. Returns the piece;
  /// `over` is as what Serve() returns.
  [[nodiscard]] RowPiece Fail(std::uint32_t index, bool& over) noexcept;

 private:
  struct Piece {
    RowPiece piece;
    std::uint32_t next = kNone;  ///< In the list of its read, or of free ones.
  };

  [[nodiscard]] std::uint32_t& BucketOf(const ReadRequest& request,
                                        const BlockSpan& blocks) noexcept;
  void Link(std::uint32_t index, const RowRead& place) noexcept;
  void Unlink(std::uint32_t index) noexcept;
  void FreePiece(std::uint32_t piece_index) noexcept;
  bool Renew(std::uint32_t index) noexcept;

  const Device& device_;
  std::vector<Read> reads_;
  std::vector<Piece> pieces_;
  std::vector<std::uint32_t> buckets_;
  std::uint32_t free_read_ = kNone;   ///< Chained by Read::chain.
  std::uint32_t free_piece_ = kNone;  ///< Chained by Piece::next.
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_READ_TABLE_H_
