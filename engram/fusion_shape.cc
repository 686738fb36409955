// What does not depend on the type of numbers: shapes and their checks.

#include "engram/fusion_shape.h"

#include <fmt/format.h>

#include "engram/quantize_activation.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kStreamsMax = 64;
constexpr std::uint32_t kConvKernelMax = 64;
constexpr std::uint32_t kConvDilationMax = 1024;

Status BadShape(std::string what) {
  return Status(StatusCode::kInvalidArgument, "Engram layer: " + std::move(what));
}

}  // namespace

FusionShape PublishedFusionShape(RecipeKind kind, std::uint32_t dim, std::uint32_t embedding_dim) {
  FusionShape shape{.kind = kind, .dim = dim, .embedding_dim = embedding_dim};
  switch (kind) {
    case RecipeKind::kDeepSeekV41:
      shape.norm_epsilon = 1e-20;
      break;
    case RecipeKind::kEngramDemo:
      shape.conv_kernel = 4;
      shape.conv_dilation = 3;
      shape.norm_epsilon = 0x1p-23;
      shape.conv_norm_epsilon = 1e-5;
      break;
    case RecipeKind::kQwen38:
      shape.conv_kernel = 4;
      shape.conv_dilation = 3;
      break;
  }
  return shape;
}

FusionSizes SizesOf(const FusionShape& shape) {
  const std::size_t outputs = shape.plane() + shape.dim;
  return {.kv_weight = outputs * shape.embedding_dim,
          .kv_bias = shape.kind == RecipeKind::kEngramDemo ? outputs : 0,
          .norm = shape.plane(),
          .conv_norm = shape.has_conv() ? shape.plane() : 0,
          .conv_weight = shape.plane() * shape.conv_kernel};
}

Status CheckFusionShape(const FusionShape& shape) {
  if (shape.stream_count == 0 || shape.stream_count > kStreamsMax) {
    return BadShape(
        fmt::format("{} streams; from 1 to {} will do", shape.stream_count, kStreamsMax));
  }
  if (shape.dim == 0 || shape.embedding_dim == 0) {
    return BadShape(fmt::format("dim is {} and embedding_dim {}; both must be above 0", shape.dim,
                                shape.embedding_dim));
  }
  if (shape.conv_kernel > kConvKernelMax || shape.conv_dilation == 0 ||
      shape.conv_dilation > kConvDilationMax) {
    return BadShape(
        fmt::format("conv_kernel is {} and conv_dilation {}; at most {}, and from 1 to "
                    "{}, will do",
                    shape.conv_kernel, shape.conv_dilation, kConvKernelMax, kConvDilationMax));
  }
  if (shape.kind == RecipeKind::kDeepSeekV41 && shape.has_conv()) {
    return BadShape("DeepSeek-V4.1 has no convolution; conv_kernel must be 0");
  }
  if (shape.rounding == FusionRounding::kDeepSeekV41 &&
      shape.embedding_dim % kActivationBlock != 0) {
    return BadShape(fmt::format("embedding_dim is {}; quantised, it must be a multiple of {}",
                                shape.embedding_dim, kActivationBlock));
  }
  return {};
}

Status CheckSizes(std::string_view where, std::initializer_list<SizeClaim> claims) {
  for (const SizeClaim& claim : claims) {
    if (claim.size == claim.wanted) continue;
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: {} has {} values instead of {}", where, claim.name, claim.size,
                              claim.wanted));
  }
  return {};
}

}  // namespace tiercel
