// What a lookup of a batch takes in C++, for python/bench_lookup.py, which does the same
// calls and takes turns with this program.
//
//   lookup_bench CHECKPOINT TOKENS BATCH_TOKENS [stored|bf16]
//
// TOKENS is a file of int32 token ids, cut into batches. For each number on stdin that
// batch is looked up in all layers, into memory that is used again; the answer is a line
// with the nanoseconds that it took.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tiercel/store.h"

namespace tiercel {
namespace {

std::vector<std::int32_t> ReadTokens(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(file.tellg()) / 4);
  file.seekg(0);
  file.read(reinterpret_cast<char*>(tokens.data()),
            static_cast<std::streamsize>(tokens.size() * 4));
  return tokens;
}

/// Destinations of one batch in every layer, used again for each.
struct Outputs {
  std::vector<std::vector<std::byte>> rows;
  std::vector<std::vector<RowStatus>> status;
  std::vector<LayerOutput> layers;
};

Outputs MakeOutputs(const Store& store, std::size_t batch_tokens, RowOutput format) {
  const CheckpointInfo& info = store.checkpoint();
  Outputs outputs;
  const std::size_t row_count = batch_tokens * info.recipe.column_count();
  for (const LayerTable& layer : info.layers) {
    outputs.rows.emplace_back(row_count * store.OutputRowSizeBytes(layer.layer_id, format).value());
    outputs.status.emplace_back(row_count);
    outputs.layers.push_back(
        {layer.layer_id, std::span(outputs.rows.back()), std::span(outputs.status.back())});
  }
  return outputs;
}

Status Serve(const std::string& path, std::span<const std::int32_t> tokens,
             std::size_t batch_tokens, RowOutput format) {
  StoreOptions options;
  options.scales = ScalePlacement::kDisk;  // Nothing is loaded beside the lookups.
  Result<std::unique_ptr<Store>> opened = Store::Open(path, options);
  if (!opened.ok()) return std::move(opened).TakeStatus();
  Store& store = *opened.value();
  const Outputs outputs = MakeOutputs(store, batch_tokens, format);
  for (std::size_t batch = 0; std::cin >> batch;) {
    if (batch >= tokens.size() / batch_tokens) {
      return Status(StatusCode::kInvalidArgument, "there is no batch " + std::to_string(batch));
    }
    const TokenRun run{.history = {}, .tokens = tokens.subspan(batch * batch_tokens, batch_tokens)};
    const auto start = std::chrono::steady_clock::now();
    Status status = store.Lookup({&run, 1}, outputs.layers, format);
    const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - start;
    if (!status.ok()) return status;
    std::cout << took.count() << std::endl;
  }
  return {};
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) {
  const std::string_view format = argc == 5 ? argv[4] : "stored";
  if (argc < 4 || argc > 5 || (format != "stored" && format != "bf16")) {
    std::fprintf(stderr, "usage: lookup_bench CHECKPOINT TOKENS BATCH_TOKENS [stored|bf16]\n");
    return 2;
  }
  const std::vector<std::int32_t> tokens = tiercel::ReadTokens(argv[2]);
  const std::size_t batch_tokens = std::strtoul(argv[3], nullptr, 10);
  if (batch_tokens == 0 || tokens.size() < batch_tokens) {
    std::fprintf(stderr, "lookup_bench: %s holds no batch of %zu tokens\n", argv[2], batch_tokens);
    return 1;
  }
  const tiercel::Status status =
      tiercel::Serve(argv[1], tokens, batch_tokens,
                     format == "bf16" ? tiercel::RowOutput::kBf16 : tiercel::RowOutput::kStored);
  if (!status.ok()) std::fprintf(stderr, "lookup_bench: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
