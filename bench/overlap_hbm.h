#ifndef TIERCEL_BENCH_OVERLAP_HBM_H_
#define TIERCEL_BENCH_OVERLAP_HBM_H_

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "bench/overlap_engine.h"
#include "tiercel/hbm.h"
#include "tiercel/recipe.h"

namespace tiercel::bench {

/// Limits of a tier for `place_count` batches at once. Every group may be missed, and a batch
/// that a loop gave up may be on the stream still.
[[nodiscard]] inline HbmOptions OverlapHbmOptions(const Recipe& recipe,
                                                  std::span<const std::uint32_t> layer_ids,
                                                  std::uint32_t row_size_bytes,
                                                  std::uint32_t tokens_max,
                                                  std::uint32_t place_count) {
  HbmOptions options;
  options.layer_ids.assign(layer_ids.begin(), layer_ids.end());
  options.format = HbmFormat::kBf16;  // As the layer takes them.
  options.tokens_max = tokens_max;
  options.tickets_max = 2 * place_count;
  const std::uint64_t step_bytes =
      std::uint64_t{tokens_max} * layer_ids.size() * recipe.column_count() * row_size_bytes;
  options.staging_bytes = std::max(std::uint64_t{16} << 20, 2 * place_count * step_bytes);
  return options;
}

/// Rows through the HBM tier. The tier's work is on a stream of its own, `rows_stream`, on
/// which reads that are late hold nothing else up; the model's stream joins at each layer.
///
///   Tier    HbmTier, or HbmCache in tests.
///   Stream  what its calls take.
template <typename Tier, typename Stream>
class HbmSource final : public OverlapSource {
 public:
  ///   outputs  shape [places][layers]: device memory for a step each.
  HbmSource(Tier& tier, std::vector<std::vector<HbmOutput>> outputs, Stream rows_stream,
            Stream model_stream)
      : tier_(tier),
        outputs_(std::move(outputs)),
        tickets_(outputs_.size()),
        rows_stream_(rows_stream),
        model_stream_(model_stream) {}

  [[nodiscard]] Status Start(std::size_t place, const OverlapStep& step,
                             std::span<const std::chrono::nanoseconds> needed_after) override {
    std::vector<HbmOutput>& outputs = outputs_[place];
    for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i].needed_after = needed_after[i];
    Result<HbmTicket> ticket = tier_.StartOnStream(step.runs, outputs, rows_stream_);
    if (!ticket.ok()) return std::move(ticket).TakeStatus();
    tickets_[place] = std::move(ticket).value();
    return {};
  }
  [[nodiscard]] Status Wait(std::size_t place, std::size_t layer) override {
    return tier_.WaitOnStream(tickets_[place], outputs_[place][layer].layer_id, model_stream_);
  }
  [[nodiscard]] const std::byte* Rows(std::size_t place, std::size_t layer) const override {
    return outputs_[place][layer].rows;
  }
  [[nodiscard]] Status Finish(std::size_t place) override {
    const HbmTicket ticket = std::exchange(tickets_[place], HbmTicket());
    for (const HbmOutput& output : outputs_[place]) {
      std::optional<Status> status = ticket.TryStatus(output.layer_id);
      if (!status.has_value()) {
        return Status(StatusCode::kUnavailable,
                      fmt::format("layer {} went through the model before its rows were gathered",
                                  output.layer_id));
      }
      if (!status->ok()) return *std::move(status);
    }
    return {};
  }
  [[nodiscard]] OverlapHits Hits() const override {
    OverlapHits sum;
    for (const HbmOrderStats& order : tier_.Stats().orders) {
      sum.groups += order.groups;
      sum.hits += order.hits;
    }
    return sum;
  }

 private:
  Tier& tier_;
  std::vector<std::vector<HbmOutput>> outputs_;
  std::vector<HbmTicket> tickets_;  ///< By place.
  Stream rows_stream_;
  Stream model_stream_;
};

}  // namespace tiercel::bench

#endif  // TIERCEL_BENCH_OVERLAP_HBM_H_
