/* Serves the rows of a few tokens from a checkpoint through the C API: opens it, tells what
 * its tables are, hashes the tokens, starts the reads, waits for each layer, prints.
 *
 *   lookup CHECKPOINT_DIR */

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "tiercel/tiercel.h"

enum { kTokens = 4, kLayersMax = 8 };

/* Compressed ids: without a token map that is what runs hold. */
static const int32_t kTokenIds[kTokens] = {10, 20, 30, 40};
static const tiercel_token_run kRun = {NULL, 0, kTokenIds, kTokens};

/* Prints the failure of the last call, if it was one. */
static int Failed(tiercel_code code) {
  if (code == TIERCEL_OK) return 0;
  fprintf(stderr, "lookup: %s: %s\n", tiercel_code_name(code), tiercel_last_error());
  return 1;
}

/* Prints what the tables are; notes the layers' ids and how many there are. */
static int Inspect(const tiercel_store* store, uint32_t* layer_ids, uint32_t* layer_count) {
  const tiercel_checkpoint* checkpoint = tiercel_store_checkpoint(store);
  tiercel_checkpoint_info info;
  tiercel_checkpoint_info_init(&info, sizeof info);
  if (Failed(tiercel_checkpoint_get_info(checkpoint, &info))) return 1;
  printf("%" PRIu32 " tables, %" PRIu64 " bytes\n", info.layer_count, info.table_bytes);
  *layer_count = info.layer_count < kLayersMax ? info.layer_count : kLayersMax;
  for (uint32_t i = 0; i < *layer_count; ++i) {
    tiercel_layer_info layer;
    tiercel_layer_info_init(&layer, sizeof layer);
    if (Failed(tiercel_checkpoint_get_layer(checkpoint, i, &layer))) return 1;
    printf("layer %" PRIu32 ": %" PRIu64 " rows of %" PRIu32 " bytes, %" PRIu32 " a token\n",
           layer.layer_id, layer.row_count, layer.row_size_bytes, layer.column_count);
    layer_ids[i] = layer.layer_id;
  }
  return 0;
}

/* Prints the row ids of each token in one layer. */
static int PrintRowIds(const tiercel_store* store, uint32_t layer_id) {
  const tiercel_hasher* hasher = tiercel_store_hasher(store);
  tiercel_recipe_info recipe;
  tiercel_recipe_info_init(&recipe, sizeof recipe);
  if (Failed(tiercel_hasher_get_recipe(hasher, &recipe))) return 1;
  const size_t columns = recipe.column_count;
  uint64_t* rows = malloc(kTokens * columns * sizeof *rows);
  if (rows == NULL) return 1;
  const int failed = Failed(
      tiercel_hasher_row_ids(hasher, layer_id, &kRun, rows, kTokens * columns, /*dead=*/NULL));
  for (size_t token = 0; !failed && token < kTokens; ++token) {
    printf("token %" PRId32 ": rows", kTokenIds[token]);
    for (size_t column = 0; column < columns; ++column) {
      printf(" %" PRIu64, rows[token * columns + column]);
    }
    printf("\n");
  }
  free(rows);
  return failed;
}

/* Prints how many rows came and the first bytes of the first one. */
static int PrintRows(const tiercel_ticket* ticket, uint32_t layer_id) {
  tiercel_ticket_rows rows;
  tiercel_ticket_stats stats;
  tiercel_ticket_rows_init(&rows, sizeof rows);
  tiercel_ticket_stats_init(&stats, sizeof stats);
  if (Failed(tiercel_ticket_get_rows(ticket, layer_id, &rows))) return 1;
  if (Failed(tiercel_ticket_get_stats(ticket, layer_id, &stats))) return 1;
  size_t good = 0;
  for (size_t i = 0; i < rows.row_status_count; ++i) good += rows.row_status[i] == TIERCEL_ROW_OK;
  const unsigned char* bytes = rows.rows;
  printf("layer %" PRIu32
         ": %zu of %zu rows, the first is %02x %02x %02x %02x ..., "
         "%" PRIu64 " groups from DRAM, %" PRIu64 " read, in %.3f ms\n",
         layer_id, good, rows.row_status_count, bytes[0], bytes[1], bytes[2], bytes[3],
         stats.dram_hits, stats.fetches, (double)stats.in_place_after_ns / 1e6);
  return good != rows.row_status_count;
}

/* Starts the reads of all layers into the store's staging, then takes each as it is needed. */
static int Serve(tiercel_store* store, const uint32_t* layer_ids, uint32_t layer_count) {
  tiercel_prefetch_layer layers[kLayersMax];
  for (uint32_t i = 0; i < layer_count; ++i) {
    tiercel_prefetch_layer_init(&layers[i], sizeof layers[i]);
    layers[i].layer_id = layer_ids[i];
  }
  tiercel_ticket* ticket = NULL;
  if (Failed(tiercel_store_start(store, &kRun, 1, layers, layer_count, NULL, &ticket))) return 1;
  int failed = 0;
  for (uint32_t i = 0; !failed && i < layer_count; ++i) {
    /* Here a model computes the blocks before the layer. */
    failed = Failed(tiercel_ticket_wait(ticket, layer_ids[i])) || PrintRows(ticket, layer_ids[i]);
  }
  tiercel_ticket_drop(ticket);
  return failed;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: lookup CHECKPOINT_DIR\n");
    return 2;
  }
  tiercel_store_options options;
  tiercel_store_options_init(&options, sizeof options);
  options.dram_budget_bytes = (uint64_t)64 << 20;
  options.prefetch_staging_bytes = (uint64_t)1 << 20;
  tiercel_store* store = NULL;
  if (Failed(tiercel_store_open(argv[1], &options, &store))) return 3;
  uint32_t layer_ids[kLayersMax];
  uint32_t layer_count = 0;
  const int failed = Inspect(store, layer_ids, &layer_count) || PrintRowIds(store, layer_ids[0]) ||
                     Serve(store, layer_ids, layer_count);
  tiercel_store_close(store);
  return failed ? 3 : 0;
}
