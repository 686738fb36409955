#ifndef TIERCEL_BENCH_PEERS_ROW_LIST_H_
#define TIERCEL_BENCH_PEERS_ROW_LIST_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bench/peers/arm.h"
#include "bench/peers/peer_table.h"

namespace tiercel::peers {

/// A row of a batch, wherever it belongs.
struct WantedRow {
  std::uint32_t layer_index = 0;
  RowId row{};
  std::byte* out = nullptr;  ///< Shape [row size].

  /// Layer and row in one number; in the order of layers, then ids.
  [[nodiscard]] std::uint64_t key() const noexcept {
    return std::uint64_t{layer_index} << 48 | Index(row);
  }
};

/// Writes the rows of all layers of `batch` one after another to `rows`.
inline void ListRows(const PeerTable& table, const Batch& batch, std::vector<WantedRow>& rows) {
  rows.clear();
  for (const LayerBatch& layer : batch.layers) {
    const std::size_t row_bytes = table.row_size_bytes(layer.layer_index);
    for (std::size_t i = 0; i < layer.rows.size(); ++i) {
      rows.push_back({layer.layer_index, layer.rows[i], layer.out.data() + i * row_bytes});
    }
  }
}

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_ROW_LIST_H_
