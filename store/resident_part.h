#ifndef TIERCEL_STORE_RESIDENT_PART_H_
#define TIERCEL_STORE_RESIDENT_PART_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "store/checksum_sidecar.h"
#include "tiercel/checkpoint.h"
#include "tiercel/recipe.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

/// Rows [first, end) of a table.
struct RowRange {
  std::uint64_t first = 0;
  std::uint64_t end = 0;
};

/// The rows of a layer that `recipe` asks for: all of them, or the columns of a shard's.
///   layer_index  into Recipe::layers.
[[nodiscard]] std::vector<RowRange> RowsInReach(const Recipe& recipe, std::uint32_t layer_index);

/// One part of the rows of a layer (V4.1's 8 scale bytes), held in DRAM: of all rows, or
/// of ranges of them (a head shard's columns), rounded out to chunks of 1 MiB. A thread
/// of its own loads it from disk in file order while the store already serves: until a
/// chunk is there, and for rows outside, Copy() says no and the row is read from disk.
///
/// Invariant: a chunk's bytes are written by the loader alone, before it sets the
/// chunk's flag (release); a reader looks at the flag (acquire) before the bytes.
///
/// Reads through the page cache, which it asks to forget each chunk at once.
///
/// Threading: Copy() may run concurrently. The destructor stops the loader.
class ResidentPart {
 public:
  /// Takes the memory and starts to load. `files` and `part` must outlive it. `log` gets a line if
  /// a chunk cannot be read (its rows then go on being read from disk); called on the loader's
  /// thread. Errors: kResourceExhausted.
  ///   sums    what is loaded is checked against; must outlive it. Null: it is not.
  ///   wanted  rising, apart, within the table, not empty; may touch.
  [[nodiscard]] static Result<std::unique_ptr<ResidentPart>> Load(
      const std::vector<TableFile>& files, const RowPart& part, std::span<const RowRange> wanted,
      const ChecksumSidecar* sums, std::function<void(std::string_view)> log);
  ResidentPart(const ResidentPart&) = delete;
  ResidentPart& operator=(const ResidentPart&) = delete;
  ~ResidentPart();

  /// Memory that holding the `wanted` rows of `part` takes.
  [[nodiscard]] static std::uint64_t MemoryBytes(const RowPart& part,
                                                 std::span<const RowRange> wanted);

  /// Copies the row's part to `target` if it has been loaded.
  ///   target  shape [part.size_bytes].
  /// REQUIRES: row < the table's row count.
  [[nodiscard]] bool Copy(RowId row, std::span<std::byte> target) const noexcept;

  [[nodiscard]] std::uint64_t memory_bytes() const noexcept { return memory_bytes_; }

 private:
  /// Which chunks are held, and where.
  struct Chunks {
    std::vector<std::uint64_t> held;  ///< Rising: chunk held[s] lies in slot s.
    /// Shape [chunks of the table]: a chunk's slot, or kNowhere.
    std::vector<std::uint32_t> slots;
    std::uint64_t row_count = 0;  ///< In them.
  };
  static constexpr std::uint32_t kNowhere = ~std::uint32_t{0};

  ResidentPart(const std::vector<TableFile>& files, const RowPart& part, Chunks chunks,
               const ChecksumSidecar* sums, std::function<void(std::string_view)> log,
               std::byte* memory);
  [[nodiscard]] static Chunks ChunksOf(const RowPart& part, std::span<const RowRange> wanted);
  [[nodiscard]] static std::uint64_t MemoryBytes(const RowPart& part,
                                                 const Chunks& chunks) noexcept;
  void Run();
  [[nodiscard]] Status LoadSlot(std::uint32_t slot);
  [[nodiscard]] Status LoadSpan(std::uint32_t file_index, FileSpan span, std::byte* target) const;

  const std::vector<TableFile>& files_;
  const RowPart& part_;
  const Chunks chunks_;
  const ChecksumSidecar* const sums_;
  std::function<void(std::string_view)> log_;
  std::uint64_t chunk_rows_ = 0;
  std::uint64_t memory_bytes_ = 0;
  std::byte* memory_ = nullptr;  ///< Slot by slot, each as large as a whole chunk.
  std::vector<std::atomic<std::uint8_t>> loaded_;  ///< Shape [slots].
  std::atomic<bool> stop_ = false;
  std::thread loader_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_RESIDENT_PART_H_
