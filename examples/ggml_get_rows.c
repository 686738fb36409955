/* A GET_ROWS whose table is not in memory: how an engine built on ggml (llama.cpp) takes
 * embedding rows from Tiercel, by the C API alone.
 *
 * The tensor here is shaped as ggml's. In an engine, GetRowsStart() is called where the
 * graph is built, as soon as the token ids are known, and GetRows() is the body of a custom
 * op (ggml_custom_4d), called by each thread with its share.
 *
 * Rows travel into the store's staging and are copied out by the op: ggml's allocator gives
 * the memory of `dst` to other tensors until the op runs, so nothing may be written there
 * before. An engine whose destination is its own alone (pinned, an input) gives that
 * as tiercel_prefetch_layer::rows, with the stride of its rows, and copies nothing.
 *
 *   ggml_get_rows CHECKPOINT_DIR */

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiercel/tiercel.h"

/* ---- the tensor: ne, nb, type and data of struct ggml_tensor --------------------- */

enum { kF32 = 0, kI32 = 26, kBf16 = 30 }; /* The numbers of ggml_type. */

struct Tensor {
  int type;
  int64_t ne[4]; /* Elements in each dimension, innermost first. */
  size_t nb[4];  /* Bytes from one to the next. */
  void* data;
};

static char* At(const struct Tensor* tensor, int64_t i1, int64_t i2) {
  return (char*)tensor->data + (size_t)i1 * tensor->nb[1] + (size_t)i2 * tensor->nb[2];
}

/* ---- the op ---------------------------------------------------------------------- */

/* The table of one layer: what takes the place of src0. */
struct Table {
  tiercel_store* store;
  uint32_t layer_id;
  uint32_t value_count;   /* ne[0] of the rows. */
  tiercel_ticket* ticket; /* Of the graph at hand; NULL before GetRowsStart(). */
};

/* Begins to fetch the rows that `ids` names: I32, [ids, sets]. Ids of one n-gram's heads
 * that follow one another are read and cached together. Returns without waiting. */
static tiercel_code GetRowsStart(struct Table* table, const struct Tensor* ids) {
  const size_t count = (size_t)(ids->ne[0] * ids->ne[1]);
  uint64_t* rows = malloc(count * sizeof *rows);
  if (rows == NULL) return TIERCEL_RESOURCE_EXHAUSTED;
  size_t n = 0;
  for (int64_t i1 = 0; i1 < ids->ne[1]; ++i1) {
    for (int64_t i0 = 0; i0 < ids->ne[0]; ++i0) {
      int32_t id;
      memcpy(&id, At(ids, i1, 0) + (size_t)i0 * ids->nb[0], sizeof id);
      rows[n++] = (uint64_t)(int64_t)id; /* A negative id is beyond every table: marked. */
    }
  }
  tiercel_prefetch_layer layer;
  tiercel_start_options options;
  tiercel_prefetch_layer_init(&layer, sizeof layer);
  tiercel_start_options_init(&options, sizeof options);
  layer.layer_id = table->layer_id;
  options.output = TIERCEL_OUTPUT_BF16;
  tiercel_ticket_drop(table->ticket); /* Of the graph before; its rows were copied. */
  const tiercel_code code =
      tiercel_store_start_rows(table->store, rows, count, &layer, &options, &table->ticket);
  free(rows); /* They were copied. */
  return code;
}

/* One row into dst: as it is, or widened to float, which is exact. */
static void CopyRow(const struct Tensor* dst, const void* row, char* to) {
  if (dst->type == kBf16) {
    memcpy(to, row, (size_t)dst->ne[0] * sizeof(uint16_t));
    return;
  }
  for (int64_t i0 = 0; i0 < dst->ne[0]; ++i0) {
    uint16_t half;
    memcpy(&half, (const char*)row + (size_t)i0 * sizeof half, sizeof half);
    const uint32_t bits = (uint32_t)half << 16;
    memcpy(to + (size_t)i0 * sizeof bits, &bits, sizeof bits);
  }
}

/* dst[:, i, j] = table[ids[i, j]]: F32 or BF16, [values, ids, sets], rows dense, any nb[1]
 * and nb[2]. Thread `ith` of `nth` waits for the rows and copies its share. `ids` are those
 * of GetRowsStart(), which this calls where the graph did not (one thread alone then).
 *
 * Returns PARTIAL where rows could not be read: they are zero, all others are good; the
 * engine must stop there rather than answer from zeros. */
static tiercel_code GetRows(struct Tensor* dst, struct Table* table, const struct Tensor* ids,
                            int ith, int nth) {
  if ((dst->type != kF32 && dst->type != kBf16) || ids->type != kI32 ||
      dst->ne[0] != (int64_t)table->value_count || dst->ne[1] != ids->ne[0] ||
      dst->ne[2] != ids->ne[1] || (table->ticket == NULL && nth != 1)) {
    return TIERCEL_INVALID_ARGUMENT;
  }
  tiercel_code code = TIERCEL_OK;
  if (table->ticket == NULL) code = GetRowsStart(table, ids);
  if (code != TIERCEL_OK) return code;
  const tiercel_code outcome = tiercel_ticket_wait(table->ticket, table->layer_id);
  if (outcome != TIERCEL_OK && outcome != TIERCEL_PARTIAL) return outcome;
  tiercel_ticket_rows rows;
  tiercel_ticket_rows_init(&rows, sizeof rows);
  code = tiercel_ticket_get_rows(table->ticket, table->layer_id, &rows);
  if (code != TIERCEL_OK) return code;
  const int64_t count = ids->ne[0] * ids->ne[1];
  for (int64_t i = count * ith / nth; i < count * (ith + 1) / nth; ++i) {
    CopyRow(dst, (const char*)rows.rows + (size_t)i * rows.row_stride_bytes,
            At(dst, i % ids->ne[0], i / ids->ne[0]));
  }
  return outcome;
}

/* ---- a graph with one such node, checked ----------------------------------------- */

enum { kTokens = 5 };

static int Failed(tiercel_code code) {
  if (code == TIERCEL_OK) return 0;
  fprintf(stderr, "ggml_get_rows: %s: %s\n", tiercel_code_name(code), tiercel_last_error());
  return 1;
}

/* A dense tensor, but for `gap_bytes` after each row. */
static struct Tensor NewTensor(int type, int64_t ne0, int64_t ne1, int64_t ne2, size_t gap_bytes) {
  struct Tensor tensor = {type, {ne0, ne1, ne2, 1}, {0}, NULL};
  tensor.nb[0] = type == kBf16 ? 2 : 4;
  tensor.nb[1] = (size_t)ne0 * tensor.nb[0] + gap_bytes;
  tensor.nb[2] = (size_t)ne1 * tensor.nb[1];
  tensor.nb[3] = (size_t)ne2 * tensor.nb[2];
  tensor.data = calloc(1, tensor.nb[3]);
  return tensor;
}

/* Row ids of a few tokens, [columns, tokens], as the model's hash gives them. */
static int FillIds(const struct Table* table, struct Tensor* ids) {
  static const int32_t tokens[kTokens] = {11, 12, 13, 11, 12};
  const tiercel_token_run run = {NULL, 0, tokens, kTokens};
  const size_t count = (size_t)(ids->ne[0] * ids->ne[1]);
  uint64_t* rows = malloc(count * sizeof *rows);
  if (rows == NULL) return 1;
  const int failed = Failed(tiercel_hasher_row_ids(tiercel_store_hasher(table->store),
                                                   table->layer_id, &run, rows, count, NULL));
  for (size_t i = 0; !failed && i < count; ++i) ((int32_t*)ids->data)[i] = (int32_t)rows[i];
  free(rows);
  return failed;
}

/* Rows of dst that differ from a blocking lookup of the same ids. */
static int64_t CountDifferent(const struct Tensor* dst, const struct Table* table,
                              const struct Tensor* ids) {
  const size_t row_bytes = (size_t)table->value_count * sizeof(uint16_t);
  char* row = malloc(row_bytes);
  char* want = malloc((size_t)table->value_count * sizeof(float));
  int64_t different = 0;
  for (int64_t i = 0; row != NULL && want != NULL && i < ids->ne[0] * ids->ne[1]; ++i) {
    const uint64_t id = (uint64_t)((const int32_t*)ids->data)[i];
    uint8_t row_status = TIERCEL_ROW_DEAD;
    const tiercel_layer_output layer = {table->layer_id, 0, row, row_bytes, &row_status, 1};
    if (Failed(tiercel_store_lookup_rows(table->store, &id, 1, &layer, TIERCEL_OUTPUT_BF16))) {
      return -1;
    }
    CopyRow(dst, row, want);
    const char* got = At(dst, i % ids->ne[0], i / ids->ne[0]);
    different += memcmp(got, want, (size_t)dst->ne[0] * dst->nb[0]) != 0;
  }
  free(row);
  free(want);
  return different;
}

/* Builds, computes and checks a graph whose node has the given type. */
static int RunGraph(struct Table* table, const struct Tensor* ids, int type) {
  struct Tensor dst = NewTensor(type, table->value_count, ids->ne[0], ids->ne[1], 32);
  if (dst.data == NULL) return 1;
  int failed = Failed(GetRowsStart(table, ids)); /* The graph is built. */
  const int nth = 3;                             /* The graph is computed. */
  for (int ith = 0; !failed && ith < nth; ++ith) {
    failed = Failed(GetRows(&dst, table, ids, ith, nth));
  }
  const int64_t different = failed ? -1 : CountDifferent(&dst, table, ids);
  printf("%s: %" PRId64 " rows, %" PRId64 " differ\n", type == kF32 ? "f32" : "bf16",
         ids->ne[0] * ids->ne[1], different);
  free(dst.data);
  return different != 0;
}

/* The first layer's table, and the columns that a token has in it. */
static int OpenTable(const char* path, struct Table* table, int64_t* columns) {
  tiercel_store_options options;
  tiercel_layer_info layer;
  tiercel_store_options_init(&options, sizeof options);
  tiercel_layer_info_init(&layer, sizeof layer);
  options.dram_budget_bytes = (uint64_t)64 << 20;
  options.prefetch_staging_bytes = (uint64_t)4 << 20;
  if (Failed(tiercel_store_open(path, &options, &table->store))) return 1;
  if (Failed(tiercel_checkpoint_get_layer(tiercel_store_checkpoint(table->store), 0, &layer))) {
    return 1;
  }
  table->layer_id = layer.layer_id;
  table->value_count = layer.value_count;
  *columns = layer.column_count;
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: ggml_get_rows CHECKPOINT_DIR\n");
    return 2;
  }
  struct Table table = {NULL, 0, 0, NULL};
  int64_t columns = 0;
  int failed = OpenTable(argv[1], &table, &columns);
  struct Tensor ids = NewTensor(kI32, columns, kTokens, 1, 0);
  failed = failed || ids.data == NULL || FillIds(&table, &ids) || RunGraph(&table, &ids, kF32) ||
           RunGraph(&table, &ids, kBf16);
  free(ids.data);
  tiercel_ticket_drop(table.ticket);
  tiercel_store_close(table.store);
  return failed ? 3 : 0;
}
