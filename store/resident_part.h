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

#include "tiercel/checkpoint.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

/// One part of every row of a layer (V4.1's 8 scale bytes), held in DRAM. A thread
/// of its own loads it from disk in file order while the store already serves:
/// until a chunk is there, Copy() says no and the row is read from disk.
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
  [[nodiscard]] static Result<std::unique_ptr<ResidentPart>> Load(
      const std::vector<TableFile>& files, const RowPart& part,
      std::function<void(std::string_view)> log);
  ResidentPart(const ResidentPart&) = delete;
  ResidentPart& operator=(const ResidentPart&) = delete;
  ~ResidentPart();

  /// Memory that holding `part` takes.
  [[nodiscard]] static std::uint64_t MemoryBytes(const RowPart& part) noexcept;

  /// Copies the row's part to `target` if it has been loaded.
  ///   target  shape [part.size_bytes].
  [[nodiscard]] bool Copy(RowId row, std::span<std::byte> target) const noexcept;

  [[nodiscard]] std::uint64_t memory_bytes() const noexcept { return memory_bytes_; }

 private:
  ResidentPart(const std::vector<TableFile>& files, const RowPart& part,
               std::function<void(std::string_view)> log, std::byte* memory);
  void Run();
  [[nodiscard]] Status LoadChunk(std::uint64_t chunk);

  const std::vector<TableFile>& files_;
  const RowPart& part_;
  std::function<void(std::string_view)> log_;
  std::uint64_t chunk_rows_ = 0;
  std::uint64_t memory_bytes_ = 0;
  std::byte* memory_ = nullptr;
  std::vector<std::atomic<std::uint8_t>> loaded_;
  std::atomic<bool> stop_ = false;
  std::thread loader_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_RESIDENT_PART_H_
