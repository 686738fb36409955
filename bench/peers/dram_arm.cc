// The whole table in DRAM on huge pages, gathered row by row: what engines do that pin
// it. No disk, no cache: the floor of what a row can cost.

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "base/errno_status.h"
#include "bench/peers/machine.h"
#include "bench/peers/row_list.h"

namespace tiercel::peers {
namespace {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

class DramArm final : public Arm {
 public:
  explicit DramArm(const PeerTable& table) : table_(table) {}
  DramArm(const DramArm&) = delete;
  DramArm& operator=(const DramArm&) = delete;
  ~DramArm() override {
    for (const Layer& layer : layers_) munmap(layer.rows, layer.size_bytes);
  }

  Status Load() {
    for (std::uint32_t i = 0; i < table_.info().layers.size(); ++i) {
      const std::uint64_t bytes = table_.info().layers[i].row_count * table_.row_size_bytes(i);
      const std::size_t size_bytes = (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
      void* const memory = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE,
                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) return ErrnoStatus(errno, "map memory for the table");
      layers_.push_back({static_cast<std::byte*>(memory), size_bytes});
      huge_ = madvise(memory, size_bytes, MADV_HUGEPAGE) == 0 && huge_;
      if (Status status = LoadLayer(i); !status.ok()) return status;
    }
    return {};
  }

  Status Run(const Batch& batch) override {
    for (const LayerBatch& layer : batch.layers) {
      const std::size_t row_bytes = table_.row_size_bytes(layer.layer_index);
      const std::byte* const rows = layers_[layer.layer_index].rows;
      std::byte* out = layer.out.data();
      for (const RowId row : layer.rows) {
        std::memcpy(out, rows + Index(row) * row_bytes, row_bytes);
        out += row_bytes;
      }
    }
    return {};
  }

  [[nodiscard]] std::string description() const override {
    return fmt::format(
        "whole table in DRAM, {}; one thread; memory limit raised to hold it",
        huge_ ? "2 MiB pages (MADV_HUGEPAGE)" : "4 KiB pages: no huge ones to be had");
  }

 private:
  struct Layer {
    std::byte* rows = nullptr;  ///< Shape [row_count, row size].
    std::size_t size_bytes = 0;
  };

  /// Puts the parts of each row side by side.
  Status LoadLayer(std::uint32_t layer_index) {
    constexpr std::uint64_t kRowsAtOnce = 32768;
    const std::size_t row_bytes = table_.row_size_bytes(layer_index);
    const std::uint64_t row_count = table_.info().layers[layer_index].row_count;
    std::size_t offset_bytes = 0;
    for (std::uint32_t p = 0; p < table_.parts(layer_index).size(); ++p) {
      const std::size_t part_bytes = table_.parts(layer_index)[p].size_bytes;
      PartReader reader(table_, layer_index, p);
      std::vector<std::byte> piece(kRowsAtOnce * part_bytes);
      for (std::uint64_t row = 0; row < row_count; row += kRowsAtOnce) {
        const std::uint64_t rows = std::min(kRowsAtOnce, row_count - row);
        if (Status status = reader.Next(std::span(piece).first(rows * part_bytes)); !status.ok()) {
          return status;
        }
        std::byte* out = layers_[layer_index].rows + row * row_bytes + offset_bytes;
        for (std::uint64_t i = 0; i < rows; ++i, out += row_bytes) {
          std::memcpy(out, piece.data() + i * part_bytes, part_bytes);
        }
      }
      offset_bytes += part_bytes;
    }
    return {};
  }

  const PeerTable& table_;
  std::vector<Layer> layers_;
  bool huge_ = true;
};

}  // namespace

Result<std::unique_ptr<Arm>> OpenDramArm(const PeerTable& table, const ArmOptions& /*options*/) {
  const std::uint64_t available_bytes = AvailableMemoryBytes();
  // A sixteenth is for everybody else.
  if (table.info().table_bytes > available_bytes / 16 * 15) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("the table of {} B does not fit into the {} B of free memory",
                              table.info().table_bytes, available_bytes));
  }
  auto arm = std::make_unique<DramArm>(table);
  if (Status status = arm->Load(); !status.ok()) return status;
  return std::unique_ptr<Arm>(std::move(arm));
}

}  // namespace tiercel::peers
