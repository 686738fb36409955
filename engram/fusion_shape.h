#ifndef TIERCEL_ENGRAM_FUSION_SHAPE_H_
#define TIERCEL_ENGRAM_FUSION_SHAPE_H_

#include <cstddef>
#include <initializer_list>
#include <string_view>

#include "tiercel/layer.h"

namespace tiercel {

/// Sizes of the weights, in values.
struct FusionSizes {
  std::size_t kv_weight = 0;
  std::size_t kv_bias = 0;
  std::size_t norm = 0;  ///< Of key_norm and of query_norm.
  std::size_t conv_norm = 0;
  std::size_t conv_weight = 0;
};
[[nodiscard]] FusionSizes SizesOf(const FusionShape& shape);

/// Errors: kInvalidArgument.
[[nodiscard]] Status CheckFusionShape(const FusionShape& shape);
/// That a span or vector has the size that it should.
struct SizeClaim {
  std::string_view name;
  std::size_t size = 0;
  std::size_t wanted = 0;
};
/// Errors: kInvalidArgument; the message tells the first that does not hold.
[[nodiscard]] Status CheckSizes(std::string_view where, std::initializer_list<SizeClaim> claims);

/// Checks that `weights` have the sizes of the shape. Errors: kInvalidArgument.
template <typename T>
[[nodiscard]] Status CheckFusionWeights(const FusionShape& shape, const FusionWeights<T>& weights) {
  const FusionSizes sizes = SizesOf(shape);
  return CheckSizes("Engram layer",
                    {{"kv_weight", weights.kv_weight.size(), sizes.kv_weight},
                     {"kv_bias", weights.kv_bias.size(), sizes.kv_bias},
                     {"key_norm", weights.key_norm.size(), sizes.norm},
                     {"query_norm", weights.query_norm.size(), sizes.norm},
                     {"conv_norm", weights.conv_norm.size(), sizes.conv_norm},
                     {"conv_weight", weights.conv_weight.size(), sizes.conv_weight}});
}

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_FUSION_SHAPE_H_
