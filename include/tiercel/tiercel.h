#ifndef TIERCEL_TIERCEL_H_
#define TIERCEL_TIERCEL_H_

// The C API of Tiercel: what libtiercel.so exports. docs/c-api.md tells how to link it and
// how it grows.
//
// Errors: a function that can fail returns a tiercel_code. tiercel_last_error() then says
// what was wrong, where, and what to do. Beside the codes that are named below, a null
// pointer that is not allowed, a constant out of its range and a bad struct_size are
// TIERCEL_INVALID_ARGUMENT; memory that cannot be had is TIERCEL_RESOURCE_EXHAUSTED. No C++
// exception leaves the library. Outputs hold nothing of use after a failure, unless a
// function says otherwise; a handle that could not be made is NULL.
//
// Strings are UTF-8 and end with a zero byte. Arrays are given as a pointer and a count of
// elements; where the count is 0 the pointer may be NULL.
//
// Threading: any function may run on any thread, several at a time on one handle, but for
// those that close, drop or cancel it: these must not run beside another call with it.

#include <stddef.h>
#include <stdint.h>

#include "tiercel/tiercel_types.h"

#define TIERCEL_VERSION_MAJOR 0
#define TIERCEL_VERSION_MINOR 1
#define TIERCEL_VERSION_PATCH 0

#if defined(__GNUC__)
#define TIERCEL_API __attribute__((visibility("default")))
#else
#define TIERCEL_API
#endif

#ifdef __cplusplus
#define TIERCEL_NOEXCEPT noexcept
extern "C" {
#else
#define TIERCEL_NOEXCEPT
#endif

// ---- version and errors ---------------------------------------------------------

/// "0.1.0": of the library that runs, which may be newer than the header.
TIERCEL_API const char* tiercel_version(void) TIERCEL_NOEXCEPT;
/// major * 1,000,000 + minor * 1,000 + patch.
TIERCEL_API uint32_t tiercel_version_number(void) TIERCEL_NOEXCEPT;

/// What went wrong in the last call of this thread that returned another code than
/// TIERCEL_OK; "" before the first. Calls that succeed leave it as it is. Valid until this
/// thread's next call that fails, or its end.
TIERCEL_API const char* tiercel_last_error(void) TIERCEL_NOEXCEPT;
/// The errno behind that failure, or 0 where the kernel had no part in it.
TIERCEL_API int32_t tiercel_last_os_error(void) TIERCEL_NOEXCEPT;
/// "OK", "IO_ERROR", ...: stable names; "UNKNOWN" for what is no code. Static strings.
TIERCEL_API const char* tiercel_code_name(tiercel_code code) TIERCEL_NOEXCEPT;
/// "OK", "DEAD", ...: of a byte of row_status.
TIERCEL_API const char* tiercel_row_status_name(uint8_t row_status) TIERCEL_NOEXCEPT;
/// Gives back a string that the library made. NULL: does nothing.
TIERCEL_API void tiercel_string_free(char* text) TIERCEL_NOEXCEPT;

// ---- defaults: give `struct_size` as sizeof of the struct -----------------------
// Each writes the first `struct_size` bytes of *value: the defaults of options, zeros of
// outputs. Errors: TIERCEL_INVALID_ARGUMENT (a size that no version has).

TIERCEL_API tiercel_code tiercel_store_options_init(tiercel_store_options* value,
                                                    size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_prefetch_layer_init(tiercel_prefetch_layer* value,
                                                     size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_start_options_init(tiercel_start_options* value,
                                                    size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_hot_set_save_options_init(tiercel_hot_set_save_options* value,
                                                           size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_hot_set_load_options_init(tiercel_hot_set_load_options* value,
                                                           size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_recipe_info_init(tiercel_recipe_info* value,
                                                  size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_checkpoint_info_init(tiercel_checkpoint_info* value,
                                                      size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_layer_info_init(tiercel_layer_info* value,
                                                 size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_ticket_rows_init(tiercel_ticket_rows* value,
                                                  size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_ticket_stats_init(tiercel_ticket_stats* value,
                                                   size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_order_stats_init(tiercel_order_stats* value,
                                                  size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_store_stats_init(tiercel_store_stats* value,
                                                  size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_hot_set_saved_init(tiercel_hot_set_saved* value,
                                                    size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_hot_set_progress_init(tiercel_hot_set_progress* value,
                                                       size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_shared_cache_info_init(tiercel_shared_cache_info* value,
                                                        size_t struct_size) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_shared_cache_layer_init(tiercel_shared_cache_layer* value,
                                                         size_t struct_size) TIERCEL_NOEXCEPT;

// ---- token map: raw token ids to compressed ones --------------------------------

/// Reads a map as tiercel_token_map_save() or `tiercel token-map` wrote it.
/// Errors: NOT_FOUND, PERMISSION_DENIED, IO_ERROR, INVALID_ARGUMENT (not a map).
TIERCEL_API tiercel_code tiercel_token_map_load(const char* path,
                                                tiercel_token_map** map) TIERCEL_NOEXCEPT;
/// Builds the map from a Hugging Face tokenizer.json (byte-level BPE). Takes about a second.
/// Errors: as tiercel_token_map_load().
TIERCEL_API tiercel_code tiercel_token_map_load_tokenizer(const char* path,
                                                          tiercel_token_map** map) TIERCEL_NOEXCEPT;
/// From class ids in memory: shape [count], numbered in the order of first appearance.
TIERCEL_API tiercel_code tiercel_token_map_from_classes(const uint32_t* classes, size_t count,
                                                        tiercel_token_map** map) TIERCEL_NOEXCEPT;
/// Writes it to `path`, whole or not at all. Errors: IO_ERROR, PERMISSION_DENIED,
/// RESOURCE_EXHAUSTED (the disk is full).
TIERCEL_API tiercel_code tiercel_token_map_save(const tiercel_token_map* map,
                                                const char* path) TIERCEL_NOEXCEPT;
/// Token ids that the map knows, and classes. Either pointer may be NULL.
TIERCEL_API tiercel_code tiercel_token_map_get_counts(const tiercel_token_map* map,
                                                      uint64_t* entry_count,
                                                      uint32_t* class_count) TIERCEL_NOEXCEPT;
/// Stores and hashers that were made with it keep what they need. NULL: does nothing.
TIERCEL_API void tiercel_token_map_close(tiercel_token_map* map) TIERCEL_NOEXCEPT;

// ---- checkpoint: what its tables are --------------------------------------------

/// Reads the headers of a Hugging Face checkpoint directory, never rows.
/// Errors: NOT_FOUND (no config, shard or table), INVALID_ARGUMENT (a header that lies, an
/// unknown model), CORRUPTION (a truncated file), PERMISSION_DENIED, IO_ERROR.
TIERCEL_API tiercel_code tiercel_inspect(const char* path,
                                         tiercel_checkpoint** checkpoint) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_checkpoint_get_info(
    const tiercel_checkpoint* checkpoint, tiercel_checkpoint_info* info) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_checkpoint_get_recipe(
    const tiercel_checkpoint* checkpoint, tiercel_recipe_info* recipe) TIERCEL_NOEXCEPT;
/// The layer at `layer_index` in [0, layer_count). Errors: NOT_FOUND (beyond).
TIERCEL_API tiercel_code tiercel_checkpoint_get_layer(const tiercel_checkpoint* checkpoint,
                                                      uint32_t layer_index,
                                                      tiercel_layer_info* layer) TIERCEL_NOEXCEPT;
/// All facts as JSON: recipe, layers with the places of their rows, files. Free *json with
/// tiercel_string_free(); `length` (without the zero byte) may be NULL.
TIERCEL_API tiercel_code tiercel_checkpoint_get_json(const tiercel_checkpoint* checkpoint,
                                                     char** json, size_t* length) TIERCEL_NOEXCEPT;
TIERCEL_API void tiercel_checkpoint_close(tiercel_checkpoint* checkpoint) TIERCEL_NOEXCEPT;

// ---- hasher: token runs to mixes and row ids ------------------------------------

/// A hasher of the checkpoint's recipe. `map` NULL: that of the checkpoint (GGUF); where it has
/// none, runs hold compressed ids (or the recipe hashes raw ones). Neither handle is needed
/// afterwards. Errors: INVALID_ARGUMENT (the map belongs to another tokenizer).
TIERCEL_API tiercel_code tiercel_hasher_open(const tiercel_checkpoint* checkpoint,
                                             const tiercel_token_map* map,
                                             tiercel_hasher** hasher) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_hasher_get_recipe(const tiercel_hasher* hasher,
                                                   tiercel_recipe_info* recipe) TIERCEL_NOEXCEPT;
/// The mix of every order at every token of `run`: the integer that all row ids of an
/// n-gram come from.
///
///   mixes  shape [token_count, order_count]; `mix_count` is exactly as many.
///   dead   shape [token_count], or NULL. 1: a dead token, whose rows the model drops.
///
/// Never blocks. Errors: NOT_FOUND (no such layer), INVALID_ARGUMENT (a wrong count, a token
/// out of range; the message names its position).
TIERCEL_API tiercel_code tiercel_hasher_mixes(const tiercel_hasher* hasher, uint32_t layer_id,
                                              const tiercel_token_run* run, uint64_t* mixes,
                                              size_t mix_count, uint8_t* dead) TIERCEL_NOEXCEPT;
/// The row id of every column at every token of `run`. `rows` has shape [token_count,
/// column_count], columns order-major. The rest: as tiercel_hasher_mixes().
TIERCEL_API tiercel_code tiercel_hasher_row_ids(const tiercel_hasher* hasher, uint32_t layer_id,
                                                const tiercel_token_run* run, uint64_t* rows,
                                                size_t row_count, uint8_t* dead) TIERCEL_NOEXCEPT;
TIERCEL_API void tiercel_hasher_close(tiercel_hasher* hasher) TIERCEL_NOEXCEPT;

// ---- store: open, look up -------------------------------------------------------

/// Opens the tables of the checkpoint at `path`: takes all memory, starts the I/O threads.
/// `options` NULL: the defaults.
///
/// Errors: as tiercel_inspect(); INVALID_ARGUMENT (an option out of its range),
/// UNAVAILABLE (TIERCEL_ENGINE_URING where there is none), RESOURCE_EXHAUSTED (a budget that
/// is too small, or more than the machine has).
TIERCEL_API tiercel_code tiercel_store_open(const char* path, const tiercel_store_options* options,
                                            tiercel_store** store) TIERCEL_NOEXCEPT;
/// Waits for reads in flight; cancels tickets, which must still be dropped. What was
/// borrowed from the store (checkpoint, hasher) ends with it. NULL: does nothing.
TIERCEL_API void tiercel_store_close(tiercel_store* store) TIERCEL_NOEXCEPT;

/// The store's own, which must not be closed; NULL if `store` is.
TIERCEL_API const tiercel_checkpoint* tiercel_store_checkpoint(const tiercel_store* store)
    TIERCEL_NOEXCEPT;
/// The same; it hashes with the token map that the store was opened with.
TIERCEL_API const tiercel_hasher* tiercel_store_hasher(const tiercel_store* store) TIERCEL_NOEXCEPT;

/// Bytes that one row takes in an output of TIERCEL_OUTPUT_... `output`.
/// Errors: NOT_FOUND (a layer that is not served).
TIERCEL_API tiercel_code tiercel_store_get_row_size(const tiercel_store* store, uint32_t layer_id,
                                                    uint32_t output,
                                                    uint32_t* row_size_bytes) TIERCEL_NOEXCEPT;

/// Writes the rows of every order and head at every token of `runs`, for each layer of
/// `outputs` (rows of shape [t, column_count], t tokens of all runs one after another).
///
/// Blocks until every row is in place. Errors: INVALID_ARGUMENT (a wrong size, a token out
/// of range; outputs are unspecified), NOT_FOUND (a layer that is not served), PARTIAL (some
/// row_status is neither OK nor DEAD: those rows are zero, all others are good).
///
/// REQUIRES: no output overlaps another.
TIERCEL_API tiercel_code tiercel_store_lookup(tiercel_store* store, const tiercel_token_run* runs,
                                              size_t run_count, const tiercel_layer_output* outputs,
                                              size_t output_count,
                                              uint32_t output) TIERCEL_NOEXCEPT;
/// Writes rows by id, in the order of `rows`, shape [row_count]: any ids, repeats allowed.
/// The ids of one n-gram's heads, one after another, are served from the cache.
/// Blocks. Errors: as tiercel_store_lookup(); an id beyond the table is
/// TIERCEL_ROW_OUT_OF_RANGE in row_status, and the whole is PARTIAL.
TIERCEL_API tiercel_code tiercel_store_lookup_rows(tiercel_store* store, const uint64_t* rows,
                                                   size_t row_count,
                                                   const tiercel_layer_output* layer,
                                                   uint32_t output) TIERCEL_NOEXCEPT;

/// Replaces rows, all of them or none, in the state directory; never in the table's files.
/// When it returns they are on disk, and every lookup and ticket that begins from then on
/// delivers them. Of a row that comes twice the last one counts.
///
///   rows  Shape [row_count], of served layers.
///
/// Blocks: for the disk, and for a walk through the cache. Errors: UNAVAILABLE (the store was
/// not opened with TIERCEL_UPDATES_READ_WRITE), INVALID_ARGUMENT (a row beyond the table, a
/// wrong size, more than 2^20 rows), NOT_FOUND (a layer that is not served),
/// RESOURCE_EXHAUSTED (overlay_rows_max; the disk is full), IO_ERROR, PERMISSION_DENIED,
/// CORRUPTION. No row is visible then.
TIERCEL_API tiercel_code tiercel_store_update(tiercel_store* store, const tiercel_row_update* rows,
                                              size_t row_count) TIERCEL_NOEXCEPT;

// ---- tickets: rows on their way -------------------------------------------------

/// Begins to fetch what tiercel_store_lookup() would, and returns: never waits for a read.
/// Tokens are copied. `layers` are in the order in which the model needs them, each id
/// once. `options` NULL: the defaults.
///
/// Errors: INVALID_ARGUMENT (as tiercel_store_lookup(); a stride below the row's size, a
/// layer twice, none), NOT_FOUND (a layer that is not served), RESOURCE_EXHAUSTED (a limit
/// of all tickets is reached). *ticket is NULL then, and nothing writes to the outputs.
///
/// REQUIRES: no output overlaps another, of this or any other ticket under way.
TIERCEL_API tiercel_code tiercel_store_start(tiercel_store* store, const tiercel_token_run* runs,
                                             size_t run_count, const tiercel_prefetch_layer* layers,
                                             size_t layer_count,
                                             const tiercel_start_options* options,
                                             tiercel_ticket** ticket) TIERCEL_NOEXCEPT;
/// The same for row ids, as tiercel_store_lookup_rows() takes them.
TIERCEL_API tiercel_code tiercel_store_start_rows(tiercel_store* store, const uint64_t* rows,
                                                  size_t row_count,
                                                  const tiercel_prefetch_layer* layer,
                                                  const tiercel_start_options* options,
                                                  tiercel_ticket** ticket) TIERCEL_NOEXCEPT;

/// Blocks until the rows of the layer are in place, and has them read at once.
/// Errors: PARTIAL (as tiercel_store_lookup()), CANCELLED (outputs are unspecified),
/// NOT_FOUND (not a layer of the ticket).
TIERCEL_API tiercel_code tiercel_ticket_wait(tiercel_ticket* ticket,
                                             uint32_t layer_id) TIERCEL_NOEXCEPT;
/// All layers, in their order. Errors: as tiercel_ticket_wait(): the first.
TIERCEL_API tiercel_code tiercel_ticket_wait_all(tiercel_ticket* ticket) TIERCEL_NOEXCEPT;
/// As tiercel_ticket_wait(), for at most `timeout_ns`. *done is 0 where the layer is not in
/// place yet (the code is TIERCEL_OK then), else 1.
TIERCEL_API tiercel_code tiercel_ticket_wait_for(tiercel_ticket* ticket, uint32_t layer_id,
                                                 int64_t timeout_ns,
                                                 int32_t* done) TIERCEL_NOEXCEPT;
/// The same, but never blocks, and hurries nothing.
TIERCEL_API tiercel_code tiercel_ticket_try_wait(tiercel_ticket* ticket, uint32_t layer_id,
                                                 int32_t* done) TIERCEL_NOEXCEPT;
/// Turns TIERCEL_URGENCY_BACKGROUND into _DEADLINE, as of now. Does not block.
TIERCEL_API tiercel_code tiercel_ticket_promote(tiercel_ticket* ticket) TIERCEL_NOEXCEPT;
/// Ends the ticket; returns when nothing writes to the outputs any more. Layers that are in
/// place stay so, the others are CANCELLED. Again: does nothing.
TIERCEL_API tiercel_code tiercel_ticket_cancel(tiercel_ticket* ticket) TIERCEL_NOEXCEPT;
/// Cancels what is not in place yet, gives back the staging, frees the handle. May come
/// after the store was closed. NULL: does nothing.
TIERCEL_API void tiercel_ticket_drop(tiercel_ticket* ticket) TIERCEL_NOEXCEPT;
/// Where the rows of a layer are. Their bytes are good once a wait says so.
/// Errors: NOT_FOUND (not a layer of the ticket).
TIERCEL_API tiercel_code tiercel_ticket_get_rows(const tiercel_ticket* ticket, uint32_t layer_id,
                                                 tiercel_ticket_rows* rows) TIERCEL_NOEXCEPT;
/// Errors: NOT_FOUND (not a layer of the ticket).
TIERCEL_API tiercel_code tiercel_ticket_get_stats(const tiercel_ticket* ticket, uint32_t layer_id,
                                                  tiercel_ticket_stats* stats) TIERCEL_NOEXCEPT;

// ---- statistics -----------------------------------------------------------------

/// The counters of the store, and those of each (layer, order).
///
///   orders          shape [order_capacity], by layer, then order. As many as there are and
///                   fit are written.
///   order_count     gets how many there are. May be NULL.
TIERCEL_API tiercel_code tiercel_store_get_stats(const tiercel_store* store,
                                                 tiercel_store_stats* stats,
                                                 tiercel_order_stats* orders, size_t order_capacity,
                                                 size_t* order_count) TIERCEL_NOEXCEPT;
/// Counters, memory and latency as Prometheus text (exposition format 0.0.4). Free *text
/// with tiercel_string_free(); `length` (without the zero byte) may be NULL.
TIERCEL_API tiercel_code tiercel_store_get_metrics(const tiercel_store* store, char** text,
                                                   size_t* length) TIERCEL_NOEXCEPT;
/// How the store reads and caches, for people: a line each for the engine, why it is not
/// io_uring (where it is not), the disk profile and the cache. Free as above.
TIERCEL_API tiercel_code tiercel_store_get_description(const tiercel_store* store, char** text,
                                                       size_t* length) TIERCEL_NOEXCEPT;

// ---- hot set: a warm start ------------------------------------------------------

/// Writes what the DRAM cache holds to a file, the most used groups first, while lookups go
/// on; whole or not at all. Blocks. `options` and `saved` may be NULL.
/// Errors: INVALID_ARGUMENT (a block size out of its range), RESOURCE_EXHAUSTED (the disk is
/// full), PERMISSION_DENIED, NOT_FOUND (no such folder), IO_ERROR.
TIERCEL_API tiercel_code tiercel_store_save_hot_set(const tiercel_store* store, const char* path,
                                                    const tiercel_hot_set_save_options* options,
                                                    tiercel_hot_set_saved* saved) TIERCEL_NOEXCEPT;
/// Checks the file and has a thread load it while lookups go on. `options` may be NULL.
/// Errors: INVALID_ARGUMENT (not a hot set, or of another table), CORRUPTION (a damaged
/// header, a truncated file), UNAVAILABLE (a load is under way), NOT_FOUND,
/// PERMISSION_DENIED, IO_ERROR.
TIERCEL_API tiercel_code tiercel_store_load_hot_set(tiercel_store* store, const char* path,
                                                    const tiercel_hot_set_load_options* options)
    TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_store_get_hot_set(
    const tiercel_store* store, tiercel_hot_set_progress* progress) TIERCEL_NOEXCEPT;
/// Blocks until the last load has ended. Errors: CORRUPTION (a damaged block was left out),
/// IO_ERROR (rows or blocks could not be read), CANCELLED.
TIERCEL_API tiercel_code tiercel_store_wait_hot_set(tiercel_store* store) TIERCEL_NOEXCEPT;
/// Stops a load that is under way and waits until it has ended. What was loaded stays.
TIERCEL_API tiercel_code tiercel_store_cancel_hot_set(tiercel_store* store) TIERCEL_NOEXCEPT;

// ---- shared cache: one DRAM cache for the processes of a machine ------------------
// One process opens the store, the only writer; the others read what is in its cache and get
// the rest elsewhere. They take no lock and write nothing. What a reader may rely on, and why:
// tiercel/shared_cache.h.

/// The descriptor of the memory that the cache lies in, for other processes: to be handed over
/// by fork(2), SCM_RIGHTS, or as /proc/PID/fd/N. It stays the store's: not to be closed.
/// Errors: UNAVAILABLE (the store was not opened with shared_cache).
TIERCEL_API tiercel_code tiercel_store_share_cache(const tiercel_store* store,
                                                   int32_t* descriptor) TIERCEL_NOEXCEPT;
/// Counts a use of each group that is in the cache, as a lookup would: for what other
/// processes found there. Fetches nothing. `mixes` has shape [t, order_count], as
/// tiercel_hasher_mixes() gives them; `present`, how many are there, may be NULL.
/// Errors: NOT_FOUND (a layer that is not served), INVALID_ARGUMENT (not whole tokens).
TIERCEL_API tiercel_code tiercel_store_touch(tiercel_store* store, uint32_t layer_id,
                                             const uint64_t* mixes, size_t mix_count,
                                             uint64_t* present) TIERCEL_NOEXCEPT;
/// Maps the cache behind `descriptor`, which stays the caller's and may be closed after.
///
///   checkpoint   the tables that the writer opened, of tiercel_inspect() or of a store; not
///                needed afterwards.
///   shard_rank, shard_count   the writer's, where `checkpoint` is of tiercel_inspect(); 0, 1:
///                all heads, or those that the checkpoint's store serves.
///
/// Errors: INVALID_ARGUMENT (not a shared cache; one of another version, of other tables, of
/// another shard, of files that were written since), CORRUPTION (it says what cannot be),
/// RESOURCE_EXHAUSTED (no address space), IO_ERROR.
TIERCEL_API tiercel_code tiercel_shared_cache_open(int32_t descriptor,
                                                   const tiercel_checkpoint* checkpoint,
                                                   uint32_t shard_rank, uint32_t shard_count,
                                                   tiercel_shared_cache** cache) TIERCEL_NOEXCEPT;
TIERCEL_API tiercel_code tiercel_shared_cache_get_info(
    const tiercel_shared_cache* cache, tiercel_shared_cache_info* info) TIERCEL_NOEXCEPT;
/// The layer at `layer_index` in [0, layer_count). Errors: NOT_FOUND (beyond).
TIERCEL_API tiercel_code
tiercel_shared_cache_get_layer(const tiercel_shared_cache* cache, uint32_t layer_index,
                               tiercel_shared_cache_layer* layer) TIERCEL_NOEXCEPT;
/// Copies the groups that are in the cache. Never blocks.
///
///   mixes  shape [t, order_count], as tiercel_hasher_mixes() gives them.
///   rows   shape [t, column_count, stored row size], exactly `row_bytes`: the group of
///          mixes[i] goes to the i-th part.
///   hits   shape [t, order_count]: written in full. 1: the group is in `rows`; 0: that part
///          was left alone or zeroed.
///   hit_count  how many are 1. May be NULL.
///
/// Errors: NOT_FOUND (a layer that the writer does not serve), INVALID_ARGUMENT (a wrong
/// length; nothing is written).
TIERCEL_API tiercel_code tiercel_shared_cache_lookup(const tiercel_shared_cache* cache,
                                                     uint32_t layer_id, const uint64_t* mixes,
                                                     size_t mix_count, void* rows, size_t row_bytes,
                                                     uint8_t* hits,
                                                     uint64_t* hit_count) TIERCEL_NOEXCEPT;
/// Says in which slots the groups are now, for a reader that gathers them itself (a GPU).
/// Nothing keeps them there: once it has read, tiercel_shared_cache_recheck() tells which were
/// there until then.
///
///   slots     shape [t, order_count]: written in full. TIERCEL_NO_SLOT: not there.
///   versions  shape [t, order_count]: for the recheck.
///   found     how many are there. May be NULL.
///
/// Errors: as tiercel_shared_cache_lookup().
TIERCEL_API tiercel_code tiercel_shared_cache_find(const tiercel_shared_cache* cache,
                                                   uint32_t layer_id, const uint64_t* mixes,
                                                   size_t mix_count, uint32_t* slots,
                                                   uint64_t* versions,
                                                   uint64_t* found) TIERCEL_NOEXCEPT;
/// `slots` and `versions`: shape [count], of a find, or any part of them. `unchanged`: shape
/// [count], written in full: 1 where what was read of the slot in between is whole and right;
/// the rest must be thrown away. `unchanged_count` may be NULL.
/// Errors: as tiercel_shared_cache_lookup().
TIERCEL_API tiercel_code tiercel_shared_cache_recheck(const tiercel_shared_cache* cache,
                                                      uint32_t layer_id, const uint32_t* slots,
                                                      const uint64_t* versions, size_t count,
                                                      uint8_t* unchanged,
                                                      uint64_t* unchanged_count) TIERCEL_NOEXCEPT;
/// All of the memory, as this process maps it: read-only, until the handle is closed.
TIERCEL_API tiercel_code tiercel_shared_cache_get_bytes(const tiercel_shared_cache* cache,
                                                        const void** bytes,
                                                        size_t* size_bytes) TIERCEL_NOEXCEPT;
/// *closed is 1 once the writer's store was closed in an orderly way: nothing comes in any
/// more, what is there stays good. Of a writer that was killed the memory does not know.
TIERCEL_API tiercel_code tiercel_shared_cache_writer_closed(const tiercel_shared_cache* cache,
                                                            int32_t* closed) TIERCEL_NOEXCEPT;
/// Unmaps it. NULL: does nothing.
TIERCEL_API void tiercel_shared_cache_close(tiercel_shared_cache* cache) TIERCEL_NOEXCEPT;

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // TIERCEL_TIERCEL_H_
