// A small model that generates tokens, its Engram rows behind a store: the whole path.
//
// The model is seeded, not trained: what it says means nothing. How it gets its rows is how
// an engine would: when the tokens of a step are known, a ticket asks for the rows of all
// Engram layers; each of these waits for its own (see ReferenceModel::Forward()).
//
//   generate CHECKPOINT [TOKENS [DRAM_MIB [SEED]]] [--json]
//
// Tokens are compressed ids. They are written as they come; with --json each has a line of
// its own, and a last one tells what the store did.

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tiercel/reference_model.h"
#include "tiercel/store.h"

namespace tiercel::examples {
namespace {

using Millis = std::chrono::duration<double, std::milli>;

struct Arguments {
  std::vector<std::string> words;  ///< Without --json.
  bool json = false;

  [[nodiscard]] std::uint64_t Number(std::size_t index, std::uint64_t otherwise) const {
    return index < words.size() ? std::strtoull(words[index].c_str(), nullptr, 10) : otherwise;
  }
};

/// Draws a token by its probability, exp(logit) over their sum.
std::int32_t Sample(const std::vector<float>& logits, std::mt19937_64& random) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weights;
  for (const float logit : logits) weights.push_back(std::exp(double{logit} - largest));
  return std::discrete_distribution<std::int32_t>(weights.begin(), weights.end())(random);
}

void PrintToken(bool json, std::int32_t token, const ForwardReport& report) {
  if (json) {
    std::printf("{\"token\":%d,\"ms\":%.3f,\"waited_ms\":%.3f}\n", token,
                Millis(report.total).count(), Millis(report.waited).count());
  } else {
    std::printf("%d ", token);
  }
  std::fflush(stdout);
}

void PrintMetrics(bool json, std::uint64_t count, double total_ms, double waited_ms,
                  const StoreStats& stats) {
  std::uint64_t groups = 0;
  std::uint64_t hits = 0;
  for (const OrderStats& order : stats.orders) {
    groups += order.groups;
    hits += order.dram_hits;
  }
  const double rate = total_ms > 0.0 ? 1e3 * static_cast<double>(count) / total_ms : 0.0;
  std::printf(json ? "{\"tokens\":%llu,\"tokens_per_second\":%.2f,\"waited_ms\":%.3f,"
                     "\"groups\":%llu,\"dram_hits\":%llu,\"device_reads\":%llu,\"engine\":\"%s\"}\n"
                   : "\n%llu tokens, %.2f a second, %.3f ms of waiting for rows; of %llu n-grams "
                     "%llu were in DRAM, %llu reads; %s\n",
              static_cast<unsigned long long>(count), rate, waited_ms,
              static_cast<unsigned long long>(groups), static_cast<unsigned long long>(hits),
              static_cast<unsigned long long>(stats.device_reads), stats.engine.c_str());
}

Status Generate(const Arguments& arguments) {
  StoreOptions options;
  options.dram_budget_bytes = arguments.Number(2, 64) << 20;
  Result<std::unique_ptr<Store>> store = Store::Open(arguments.words[0], options);
  if (!store.ok()) return std::move(store).TakeStatus();
  const Recipe& recipe = store.value()->checkpoint().recipe;
  const ModelPreset preset = recipe.parameters.kind == RecipeKind::kDeepSeekV41
                                 ? ModelPreset::kDeepSeekV41
                                 : ModelPreset::kEngramDemo;
  const std::uint64_t seed = arguments.Number(3, 1);
  Result<ReferenceModel<float>> model =
      ReferenceModel<float>::Seeded(PresetConfig(preset, recipe), seed);
  if (!model.ok()) return std::move(model).TakeStatus();

  ReferenceModel<float>::Sequence sequence;
  std::vector<float> logits(model.value().config().vocab_size);
  std::vector<std::int32_t> tokens = {17, 4, 290, 4, 31};  // The prompt, in one call.
  std::mt19937_64 random(seed);
  double total_ms = 0.0;
  double waited_ms = 0.0;
  const std::uint64_t count = arguments.Number(1, 32);
  for (std::uint64_t i = 0; i < count; ++i) {
    ForwardReport report;
    Status status = model.value().Forward(*store.value(), sequence, tokens, logits, &report);
    if (!status.ok()) return status;
    total_ms += Millis(report.total).count();
    waited_ms += Millis(report.waited).count();
    tokens = {Sample(logits, random)};
    PrintToken(arguments.json, tokens[0], report);
  }
  PrintMetrics(arguments.json, count, total_ms, waited_ms, store.value()->Stats());
  return {};
}

}  // namespace
}  // namespace tiercel::examples

int main(int argc, char** argv) {
  tiercel::examples::Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--json") {
      arguments.json = true;
    } else {
      arguments.words.push_back(word);
    }
  }
  if (arguments.words.empty()) {
    std::fputs("usage: generate CHECKPOINT [TOKENS [DRAM_MIB [SEED]]] [--json]\n", stderr);
    return 2;
  }
  const tiercel::Status status = tiercel::examples::Generate(arguments);
  if (!status.ok()) std::fprintf(stderr, "generate: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
