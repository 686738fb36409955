#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "engram/fusion_shape.h"
#include "tiercel/layer.h"

namespace tiercel {

template <typename T>
Status AddRowGradients(std::span<const RowId> rows, std::span<const T> d_embeddings,
                       std::span<const std::uint8_t> dead, RowGradients<T>& gradients) {
  const std::size_t head_dim = gradients.head_dim;
  if (head_dim == 0) {
    return Status(StatusCode::kInvalidArgument, "row gradients: head_dim is 0; set it first");
  }
  if (Status status = CheckSizes(
          "row gradients",
          {{"d_embeddings", d_embeddings.size(), rows.size() * head_dim},
           {"gradients.values", gradients.values.size(), gradients.rows.size() * head_dim}});
      !status.ok()) {
    return status;
  }
  if (!dead.empty() && rows.size() % dead.size() != 0) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("row gradients: {} rows are not those of {} tokens", rows.size(), dead.size()));
  }
  const std::size_t columns = dead.empty() ? 1 : rows.size() / dead.size();
  // By row; of one row, what is there already first, then by token and column.
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (dead.empty() || dead[i / columns] == 0) order.push_back(i);
  }
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return Index(rows[i]); });

  RowGradients<T> merged{.head_dim = gradients.head_dim};
  std::size_t old = 0;
  const auto append = [&](RowId row, const T* values) {
    if (merged.rows.empty() || merged.rows.back() != row) {
      merged.rows.push_back(row);
      merged.values.insert(merged.values.end(), values, values + head_dim);
      return;
    }
    T* const sum = merged.values.data() + merged.values.size() - head_dim;
    for (std::size_t d = 0; d < head_dim; ++d) sum[d] += values[d];
  };
  const auto append_old_through = [&](std::uint64_t row) {
    for (; old < gradients.rows.size() && Index(gradients.rows[old]) <= row; ++old) {
      append(gradients.rows[old], gradients.values.data() + old * head_dim);
    }
  };
  for (const std::size_t i : order) {
    append_old_through(Index(rows[i]));
    append(rows[i], d_embeddings.data() + i * head_dim);
  }
  append_old_through(~std::uint64_t{0});
  gradients = std::move(merged);
  return {};
}

template Status AddRowGradients<float>(std::span<const RowId>, std::span<const float>,
                                       std::span<const std::uint8_t>, RowGradients<float>&);
template Status AddRowGradients<double>(std::span<const RowId>, std::span<const double>,
                                        std::span<const std::uint8_t>, RowGradients<double>&);

}  // namespace tiercel
