// Prints what the Engram tables of a checkpoint are, and where the rows of a few
// tokens lie in them. No row is read.
//
//   consumer CHECKPOINT_DIR

#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <span>
#include <utility>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/hasher.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

namespace {

tiercel::Status Describe(const char* path) {
  tiercel::Result<tiercel::CheckpointInfo> checkpoint = tiercel::InspectCheckpoint(path);
  if (!checkpoint.ok()) return std::move(checkpoint).TakeStatus();
  const tiercel::CheckpointInfo& info = checkpoint.value();
  std::printf("%s: %s, %zu files, %" PRIu64 " table bytes\n", path, info.layout.c_str(),
              info.files.size(), info.table_bytes);
  for (const tiercel::LayerTable& layer : info.layers) {
    std::printf("layer %u: %" PRIu64 " rows of %u bytes (%s)\n", layer.layer_id, layer.row_count,
                layer.shape.row_size_bytes(), tiercel::Name(layer.shape.format).data());
  }

  // Without a token map, runs hold compressed ids.
  tiercel::Result<tiercel::Hasher> hasher = tiercel::Hasher::Create(info.recipe);
  if (!hasher.ok()) return std::move(hasher).TakeStatus();
  const std::vector<std::int32_t> tokens = {10, 20, 30, 40};
  const std::size_t columns = info.recipe.column_count();
  std::vector<tiercel::RowId> rows(tokens.size() * columns);
  tiercel::Status status =
      hasher.value().RowIds(0, {.history = {}, .tokens = tokens}, rows, /*dead=*/{});
  if (!status.ok()) return status;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    std::printf("token %d: rows", tokens[t]);
    for (const tiercel::RowId row : std::span(rows).subspan(t * columns, columns)) {
      std::printf(" %" PRIu64, tiercel::Index(row));
    }
    std::printf("\n");
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: consumer CHECKPOINT_DIR\n");
    return 2;
  }
  const tiercel::Status status = Describe(argv[1]);
  if (!status.ok()) {
    std::fprintf(stderr, "consumer: %s\n", status.ToString().c_str());
    return 3;
  }
  return 0;
}
