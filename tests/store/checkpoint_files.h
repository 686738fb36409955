#ifndef TIERCEL_TESTS_STORE_CHECKPOINT_FILES_H_
#define TIERCEL_TESTS_STORE_CHECKPOINT_FILES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/recipe.h"

namespace tiercel::testing {

/// A tensor of a hand-made shard.
struct FakeTensor {
  std::string name;
  std::string type;
  std::vector<std::uint64_t> shape;
  std::string bytes;  ///< Its first bytes; the rest are zero.
};

/// Writes a shard at `path`. The data is a hole in the file but for FakeTensor::bytes,
/// so it may be larger than the disk.
void WriteShard(const std::string& path, const std::vector<FakeTensor>& tensors);

/// The tensor `name` of that type and shape.
[[nodiscard]] inline FakeTensor Tensor(std::string name, std::string type,
                                       std::vector<std::uint64_t> shape) {
  return {std::move(name), std::move(type), std::move(shape), {}};
}

/// Small models' configs, and the rows of each of their tables.
struct FakeModel {
  std::string config;
  std::vector<std::uint64_t> row_counts;
};

/// DeepSeek-V4.1's config with layers 1 and 14 and head sizes from `base` on.
[[nodiscard]] FakeModel FakeV41(std::uint64_t base);
/// Qwen3.8's, layer 1.
[[nodiscard]] FakeModel FakeQwen(std::uint64_t base);
/// The demo's, layers 1 and 15.
[[nodiscard]] FakeModel FakeDemo(std::uint64_t base);

/// {"weight_map": {...}} of (tensor, shard) pairs.
[[nodiscard]] std::string IndexText(const std::vector<std::pair<std::string, std::string>>& places);

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_STORE_CHECKPOINT_FILES_H_
