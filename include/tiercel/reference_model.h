#ifndef TIERCEL_REFERENCE_MODEL_H_
#define TIERCEL_REFERENCE_MODEL_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/layer.h"
#include "tiercel/recipe.h"
#include "tiercel/status.h"
#include "tiercel/store.h"

namespace tiercel {

/// Models whose shape a small one may have.
enum class ModelPreset : std::uint8_t {
  kEngramDemo = 0,  ///< engram_demo_v1.py, with the parts that it leaves out.
  kEngram27B,       ///< The paper's Table 5.
  kDeepSeekV41,
};

/// "engram-demo", "engram-27b", "deepseek-v4.1".
[[nodiscard]] std::string_view Name(ModelPreset preset) noexcept;

/// Sizes of a transformer with Engram layers. A block is: the Engram layer where there is
/// one, attention, then a feed-forward part; both in hyper-connections.
struct ModelConfig {
  RecipeKind kind = RecipeKind::kEngramDemo;    ///< Form of the Engram layers.
  std::vector<std::uint32_t> engram_layer_ids;  ///< Blocks that have one, < layer_count.
  std::uint32_t engram_embedding_dim = 0;       ///< Values of a token's rows.
  FusionRounding rounding = FusionRounding::kNone;
  std::uint32_t vocab_size = 0;
  std::uint32_t layer_count = 0;  ///< Blocks.
  std::uint32_t dim = 0;
  std::uint32_t stream_count = 4;  ///< Residual streams.
  std::uint32_t head_count = 0;    ///< Query heads; a multiple of kv_head_count.
  std::uint32_t kv_head_count = 0;
  std::uint32_t head_dim = 0;  ///< Even.
  double rope_theta = 10000.0;
  std::uint32_t dense_layer_count = 0;  ///< Leading blocks without experts.
  std::uint32_t dense_dim = 0;          ///< Inner width of those.
  std::uint32_t expert_count = 0;       ///< Routed experts.
  std::uint32_t active_expert_count = 0;
  std::uint32_t shared_expert_count = 0;
  std::uint32_t expert_dim = 0;  ///< Inner width of one expert.
  double norm_epsilon = 1e-6;    ///< Of all norms outside of the Engram layers.
};

/// A preset scaled down to run on a CPU in milliseconds, with the Engram layers that
/// `recipe` has tables for. V4.1's rounds as V4.1 does.
[[nodiscard]] ModelConfig PresetConfig(ModelPreset preset, const Recipe& recipe);

/// What a call of ReferenceModel::Forward() took, and where its tokens went.
struct ForwardReport {
  std::chrono::nanoseconds total{0};
  std::chrono::nanoseconds waited{0};  ///< Of that, for rows, in front of Engram layers.
  /// Shape [layer_count, expert_count]: tokens that each expert got. Zeros in dense blocks.
  std::vector<std::uint64_t> expert_tokens;
};

/// A whole transformer with mixture-of-experts blocks and Engram layers whose rows come from
/// a store, on the CPU: a reference to check an engine against. docs/layer.md has the
/// formulas. For T = float and double.
///
/// Threading: Forward() may run concurrently on sequences of their own; the other methods
/// that are not const may not run beside it.
template <typename T>
class ReferenceModel {
 public:
  /// What a sequence leaves for its next tokens: keys and values of attention, inputs of
  /// convolutions, the last tokens. Movable and copyable: a copy goes on by itself.
  class Sequence {
   public:
    Sequence();
    Sequence(const Sequence& other);
    Sequence& operator=(const Sequence& other);
    Sequence(Sequence&& other) noexcept;
    Sequence& operator=(Sequence&& other) noexcept;
    ~Sequence();
    /// Tokens so far.
    [[nodiscard]] std::size_t token_count() const noexcept;

   private:
    friend class ReferenceModel;
    struct State;
    std::unique_ptr<State> state_;
  };

  /// A model with random weights that follow from `seed` alone.
  /// Errors: kInvalidArgument (sizes that do not fit together; the message says which).
  [[nodiscard]] static Result<ReferenceModel> Seeded(const ModelConfig& config, std::uint64_t seed);
  /// A model with the weights of a safetensors file as Save() writes it, converted from
  /// float32. Blocks. Errors: kInvalidArgument (also: a tensor of another shape or type than
  /// the config's), kNotFound (no file, no such tensor), kCorruption, kIoError.
  [[nodiscard]] static Result<ReferenceModel> Load(const ModelConfig& config,
                                                   const std::string& path);
  /// Writes the weights as float32 to a safetensors file, docs/layer.md has the names. The
  /// file appears when all of it is on disk. Errors: as WriteOutput: kResourceExhausted,
  /// kPermissionDenied, kNotFound, kIoError.
  [[nodiscard]] Status Save(const std::string& path) const;

  ReferenceModel(ReferenceModel&&) noexcept;
  ReferenceModel& operator=(ReferenceModel&&) noexcept;
  ~ReferenceModel();

  [[nodiscard]] const ModelConfig& config() const noexcept;

  /// Runs the next tokens of `sequence`. The rows of all Engram layers are asked for at once
  /// by a ticket, and waited for in front of the layer that needs them.
  ///
  ///   store   of a checkpoint with tables of the config's layers and width.
  ///   tokens  shape [t]: ids below vocab_size, or kDeadToken. The store hashes them, so they
  ///           are compressed ids unless it has a token map.
  ///   logits  shape [t, vocab_size]; or [vocab_size]: of the last token alone.
  ///   report  null, or what is written in full.
  ///
  /// A token's logits do not depend, to the bit, on how a sequence is cut into calls. Blocks
  /// for rows. Allocates.
  ///
  /// Errors: kInvalidArgument (tokens, logits or a store that do not fit; the sequence stays
  /// as it was), kPartial (rows that could not be read: no logits, the sequence is spoilt),
  /// as Store::Start().
  [[nodiscard]] Status Forward(Store& store, Sequence& sequence,
                               std::span<const std::int32_t> tokens, std::span<T> logits,
                               ForwardReport* report = nullptr) const;

  /// Balances experts without an auxiliary loss (arXiv 2408.15664): the bias by which an
  /// expert is chosen goes up by `rate` where it got fewer tokens than the mean of its
  /// block, down where it got more. The weight of its output does not change.
  ///
  ///   expert_tokens  shape [layer_count, expert_count]: as ForwardReport has it, or sums.
  ///
  /// Errors: kInvalidArgument (of another size).
  [[nodiscard]] Status BalanceExperts(std::span<const std::uint64_t> expert_tokens, T rate);

 private:
  struct Impl;
  explicit ReferenceModel(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tiercel

#endif  // TIERCEL_REFERENCE_MODEL_H_
