#ifndef TIERCEL_TIERCEL_TYPES_H_
#define TIERCEL_TIERCEL_TYPES_H_

// Constants and structs of the C API; tiercel/tiercel.h has its functions. C11, and C++.
//
// Structs that may grow begin with `struct_size`, the size that the caller was compiled
// with; TYPE_init(&value, sizeof value) sets it and all else to the defaults. A shorter
// struct than the library's has the defaults in what it lacks. A longer one is accepted as
// long as all that the library does not know is zero. Such structs have no hidden padding,
// and `reserved` members must be zero. Structs without `struct_size` never change.
//
// Members that hold a TIERCEL_... constant are uint32_t, so that their size is the same in
// every language.

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// What a function returns: TIERCEL_OK or a kind of failure. The numbers never change.
typedef int32_t tiercel_code;
enum {
  TIERCEL_OK = 0,
  TIERCEL_INVALID_ARGUMENT = 1,    ///< A documented precondition was broken; a malformed file.
  TIERCEL_NOT_FOUND = 2,           ///< No file, tensor, layer or device of that name.
  TIERCEL_ALREADY_EXISTS = 3,      ///< The output is there already; nothing was overwritten.
  TIERCEL_PERMISSION_DENIED = 4,   ///< The operating system refused access.
  TIERCEL_RESOURCE_EXHAUSTED = 5,  ///< Out of memory, tickets, file descriptors or disk.
  TIERCEL_IO_ERROR = 6,            ///< The kernel or device reported a failure.
  TIERCEL_CORRUPTION = 7,          ///< A checksum or an on-disk invariant did not hold.
  TIERCEL_UNAVAILABLE = 8,         ///< No io_uring, a load under way: a fallback may exist.
  TIERCEL_CANCELLED = 9,           ///< The caller asked to stop.
  TIERCEL_PARTIAL = 10             ///< A batch finished; some rows did not: see row_status.
};

/// What became of one row: a byte of a `row_status` array. What is not TIERCEL_ROW_OK has
/// zero bytes in the output.
enum {
  TIERCEL_ROW_OK = 0,            ///< The row's bytes are in the output.
  TIERCEL_ROW_DEAD = 1,          ///< The position is a dead token: no row is wanted.
  TIERCEL_ROW_OUT_OF_RANGE = 2,  ///< The id is not a row of the table.
  TIERCEL_ROW_IO_ERROR = 3,      ///< The device failed every attempt.
  TIERCEL_ROW_CORRUPTION = 4     ///< A checksum did not hold, or the file is too short.
};

/// A token that takes part in no n-gram (an image patch, padding).
#define TIERCEL_DEAD_TOKEN (-1)

/// What is written for each row.
enum {
  TIERCEL_OUTPUT_STORED = 0,  ///< The stored bytes, scales included.
  TIERCEL_OUTPUT_BF16 = 1     ///< value_count bfloat16, dequantised.
};

/// How the values of a row are stored.
enum {
  TIERCEL_FORMAT_E4M3_BLOCK32 = 0,  ///< n E4M3 bytes, then n / 32 UE8M0 scale bytes.
  TIERCEL_FORMAT_E4M3_TENSOR = 1,   ///< n E4M3 bytes; one scale for the whole table.
  TIERCEL_FORMAT_BF16 = 2,          ///< n bfloat16, little-endian.
  TIERCEL_FORMAT_FP16 = 3,          ///< n IEEE half, little-endian.
  TIERCEL_FORMAT_FP32 = 4,          ///< n IEEE single, little-endian.
  TIERCEL_FORMAT_Q8_0 = 5,          ///< Blocks of ggml: 34 B for 32 values.
  TIERCEL_FORMAT_Q4_K = 6,          ///< 144 B for 256 values.
  TIERCEL_FORMAT_Q3_K = 7,          ///< 110 B for 256 values.
  TIERCEL_FORMAT_Q2_K = 8           ///< 84 B for 256 values.
};

/// The published ways to turn token n-grams into row ids.
enum { TIERCEL_RECIPE_DEEPSEEK_V41 = 0, TIERCEL_RECIPE_ENGRAM_DEMO = 1, TIERCEL_RECIPE_QWEN38 = 2 };

/// How the disk is read.
enum {
  TIERCEL_ENGINE_AUTO = 0,   ///< io_uring; pread threads where it cannot be had, said aloud.
  TIERCEL_ENGINE_URING = 1,  ///< io_uring, or an error with the reason.
  TIERCEL_ENGINE_PREAD = 2   ///< A pool of pread threads.
};

/// Where a part of each row that is stored apart (V4.1's 8 scale bytes) is kept.
enum {
  TIERCEL_SCALES_AUTO = 0,      ///< In DRAM if that takes at most half of the budget.
  TIERCEL_SCALES_RESIDENT = 1,  ///< In DRAM, within the budget: one read a row.
  TIERCEL_SCALES_DISK = 2       ///< On disk: two reads a row.
};

/// What a store makes of a state directory with updated rows.
enum {
  TIERCEL_UPDATES_AUTO = 0,       ///< READ_ONLY where there is a state, else OFF.
  TIERCEL_UPDATES_OFF = 1,        ///< The rows of the table's own files.
  TIERCEL_UPDATES_READ_ONLY = 2,  ///< Updated rows as of the opening.
  TIERCEL_UPDATES_READ_WRITE = 3  ///< tiercel_store_update() works; one store at a time.
};

/// Pages of the DRAM cache.
enum {
  TIERCEL_PAGES_TRANSPARENT_HUGE = 0,  ///< Huge where the kernel grants them.
  TIERCEL_PAGES_HUGETLB = 1,           ///< 2 MiB pages set aside beforehand, or an error.
  TIERCEL_PAGES_PLAIN = 2              ///< As small as they come.
};

/// Which NUMA nodes memory and threads are on.
enum {
  TIERCEL_NUMA_INTERLEAVE = 0,  ///< The cache's pages in turn on all nodes.
  TIERCEL_NUMA_NONE = 1,        ///< As the kernel has it.
  TIERCEL_NUMA_NODE = 2         ///< All on tiercel_store_options::numa_node.
};

/// When the reads of a ticket are made.
enum {
  TIERCEL_URGENCY_DEADLINE = 0,   ///< By earliest deadline, before the background.
  TIERCEL_URGENCY_BACKGROUND = 1  ///< With what the others leave of the disk.
};

/// Who looks for the rows of a ticket in DRAM and copies those that are there.
enum {
  TIERCEL_HITS_IN_START = 0,  ///< tiercel_store_start() itself, up to start_groups_max.
  TIERCEL_HITS_DEFERRED = 1   ///< The store's prefetch thread.
};

/// What tiercel_store_start() does when a limit of all tickets is reached.
enum {
  TIERCEL_FULL_REFUSE = 0,  ///< Returns TIERCEL_RESOURCE_EXHAUSTED.
  TIERCEL_FULL_BLOCK = 1    ///< Waits until other tickets have ended.
};

/// What the DRAM cache gets of the groups that a ticket has read from disk.
enum {
  TIERCEL_CACHE_INSERT = 0,   ///< They are offered to it.
  TIERCEL_CACHE_KEEP_OUT = 1  ///< They are not, unless somebody else waits for them too.
};

/// State of the last load of a hot set.
enum {
  TIERCEL_HOT_SET_NONE = 0,      ///< No load was begun.
  TIERCEL_HOT_SET_LOADING = 1,   ///< A thread is at it.
  TIERCEL_HOT_SET_LOADED = 2,    ///< All of it was gone through.
  TIERCEL_HOT_SET_FAILED = 3,    ///< Some of it could not be used.
  TIERCEL_HOT_SET_CANCELLED = 4  ///< It was stopped.
};

typedef struct tiercel_token_map tiercel_token_map;        ///< Raw ids to compressed ids.
typedef struct tiercel_checkpoint tiercel_checkpoint;      ///< Facts of a checkpoint's tables.
typedef struct tiercel_hasher tiercel_hasher;              ///< Token runs to mixes and row ids.
typedef struct tiercel_store tiercel_store;                ///< The open tables.
typedef struct tiercel_ticket tiercel_ticket;              ///< Rows on their way.
typedef struct tiercel_shared_cache tiercel_shared_cache;  ///< Another process's DRAM cache.

/// A slot that is none: of a group that is not in a shared cache.
#define TIERCEL_NO_SLOT UINT32_MAX

/// Facts of a hash recipe. Output: see tiercel_checkpoint_get_recipe().
typedef struct tiercel_recipe_info {
  size_t struct_size;
  uint32_t kind;                   ///< TIERCEL_RECIPE_...
  uint32_t layer_count;            ///< Layers with a table.
  uint32_t order_max;              ///< Longest n-gram, N: runs want N - 1 tokens of history.
  uint32_t order_count;            ///< N - 1: orders 2..N.
  uint32_t head_count;             ///< Heads of one order, H.
  uint32_t head_dim;               ///< Values of one row.
  uint32_t column_count;           ///< order_count * H: rows of one token in one layer.
  uint32_t vocab_size;             ///< Raw vocabulary.
  uint32_t compressed_vocab_size;  ///< Classes of the token map; 0: raw ids are hashed.
  uint32_t reserved;
} tiercel_recipe_info;

/// Facts of a checkpoint's tables together.
typedef struct tiercel_checkpoint_info {
  size_t struct_size;
  uint64_t table_bytes;  ///< All table rows, scales included.
  uint32_t layer_count;
  uint32_t file_count;  ///< Files that hold table bytes.
} tiercel_checkpoint_info;

/// Facts of one layer's table.
typedef struct tiercel_layer_info {
  size_t struct_size;
  uint64_t row_count;
  uint32_t layer_id;        ///< 0-based block index: what all other functions take.
  uint32_t column_count;    ///< Rows of one token.
  uint32_t row_format;      ///< TIERCEL_FORMAT_...
  uint32_t value_count;     ///< Values in a row.
  uint32_t row_size_bytes;  ///< Stored bytes of a row, scales included.
  float tensor_scale;       ///< The table's one scale; 1 where there is none.
} tiercel_layer_info;

/// Receives a line (no newline at its end) that a person should see. Comes from
/// tiercel_store_open() and from I/O threads, one call at a time.
typedef void (*tiercel_log_fn)(const char* line, size_t length, void* user_data);

/// Sizes and choices of a store, all fixed when it is opened.
typedef struct tiercel_store_options {
  size_t struct_size;
  uint64_t dram_budget_bytes;          ///< Host memory for all; at least 16 MiB. 1 GiB.
  uint32_t engine;                     ///< TIERCEL_ENGINE_AUTO.
  uint32_t io_thread_count;            ///< Up to 64. 0: one for each disk.
  uint32_t queue_depth;                ///< Reads in flight a thread, up to 4096. 0: by the profile.
  uint32_t read_block_bytes;           ///< A power of two up to 65536. 0: by the profile.
  const char* disk_profile_path;       ///< NULL: the default profile of each disk, if any.
  uint32_t read_attempts_max;          ///< Tries per read, in [1, 100]. 3.
  uint32_t io_poll;                    ///< 1: IORING_SETUP_IOPOLL. 0.
  uint32_t submission_poll;            ///< 1: IORING_SETUP_SQPOLL. 0.
  uint32_t scales;                     ///< TIERCEL_SCALES_AUTO.
  uint32_t pages;                      ///< TIERCEL_PAGES_TRANSPARENT_HUGE.
  uint32_t numa;                       ///< TIERCEL_NUMA_INTERLEAVE.
  uint32_t numa_node;                  ///< Of TIERCEL_NUMA_NODE.
  uint32_t prefetch_tickets_max;       ///< Tickets not dropped yet, in [1, 4096]. 256.
  uint64_t prefetch_tokens_max;        ///< Tokens of all tickets, in [16, 2^28]. 2^18.
  uint64_t prefetch_staging_bytes;     ///< Store-owned rows of all tickets. 0.
  uint32_t prefetch_start_groups_max;  ///< See TIERCEL_HITS_IN_START; in [1, 4096]. 512.
  uint32_t prefetch_background_depth;  ///< Background reads a thread. 0: a quarter.
  const uint32_t* layer_ids;           ///< Shape [layer_id_count]; read by open alone.
  size_t layer_id_count;               ///< 0: all layers are served.
  /// What runs of raw ids need. NULL: that of the checkpoint (GGUF); where it has none, runs
  /// hold compressed ids. The store keeps what it needs of it: the handle may be closed at once.
  const tiercel_token_map* token_map;
  tiercel_log_fn log;    ///< NULL: stderr.
  void* log_user_data;   ///< Must live as long as the store.
  uint32_t shard_rank;   ///< The store serves head h of every order where h mod shard_count
  uint32_t shard_count;  ///< is shard_rank; columns and groups are those alone. 0, 1: all.
  /// Groups that queued tickets are known to read, 13 B each out of the cache's memory.
  /// UINT64_MAX: a 128th of that. 0: the queue is not looked at.
  uint64_t prefetch_expected_groups_max;
  const char* state_path;     ///< NULL: the state directory of the table itself.
  uint64_t overlay_rows_max;  ///< Updated rows at most. 0: what a 64th of the budget holds.
  uint32_t updates;           ///< TIERCEL_UPDATES_AUTO.
  uint32_t shared_cache;      ///< 1: other processes may read the cache, see share_cache(). 0.
} tiercel_store_options;

/// One row to be replaced.
typedef struct tiercel_row_update {
  uint32_t layer_id;
  uint32_t reserved;  ///< 0
  uint64_t row;
  const void* bytes;  ///< The stored row, all parts of it.
  size_t byte_count;  ///< Exactly as many as a stored row has.
} tiercel_row_update;

/// Consecutive tokens of one sequence, and what came right before them.
typedef struct tiercel_token_run {
  /// Shape [history_count]: the ids right before `tokens`, oldest first. Fewer than
  /// order_max - 1 mean that the sequence starts there. NULL where the count is 0.
  const int32_t* history;
  size_t history_count;
  const int32_t* tokens;  ///< Shape [token_count]: the ids whose rows are wanted.
  size_t token_count;
} tiercel_token_run;

/// Where one layer's rows of a blocking lookup go. Caller's memory.
typedef struct tiercel_layer_output {
  uint32_t layer_id;
  uint32_t reserved;        ///< 0
  void* rows;               ///< Shape [rows, output row size], densely.
  size_t rows_bytes;        ///< Exactly as many.
  uint8_t* row_status;      ///< Shape [rows]: TIERCEL_ROW_...
  size_t row_status_count;  ///< Exactly as many.
} tiercel_layer_output;

/// Where the rows of one layer of a ticket go, and when the model asks for them. In arrays
/// of these each element is `struct_size` bytes after the one before, all the same.
typedef struct tiercel_prefetch_layer {
  size_t struct_size;
  uint32_t layer_id;
  uint32_t reserved;        ///< 0
  int64_t needed_after_ns;  ///< How long after the start the rows are needed. 0.
  /// Rows `row_stride_bytes` from one to the next; the last one needs no more than its own
  /// bytes. Must stay until the layer is in place or the ticket is cancelled or dropped.
  /// NULL with rows_bytes 0: the store's staging, for as long as the ticket lives.
  void* rows;
  size_t rows_bytes;
  size_t row_stride_bytes;  ///< 0: rows touch.
  uint8_t* row_status;      ///< NULL: staged where the rows are, else not wanted.
  size_t row_status_count;
} tiercel_prefetch_layer;

/// Called once for each layer of a ticket that is in place (TIERCEL_OK) or has rows that
/// failed (TIERCEL_PARTIAL); never after the ticket was cancelled or dropped. Comes from
/// the starting call, the prefetch thread or an I/O thread: it must be short, must not
/// block, must not call any function of the store or the ticket, and no exception and no
/// longjmp may leave it.
typedef void (*tiercel_layer_fn)(uint32_t layer_id, tiercel_code code, void* user_data);

/// How a ticket is served.
typedef struct tiercel_start_options {
  size_t struct_size;
  uint32_t output;            ///< TIERCEL_OUTPUT_STORED.
  uint32_t urgency;           ///< TIERCEL_URGENCY_DEADLINE.
  uint32_t hits;              ///< TIERCEL_HITS_IN_START.
  uint32_t when_full;         ///< TIERCEL_FULL_REFUSE.
  tiercel_layer_fn on_layer;  ///< NULL: none.
  void* on_layer_user_data;   ///< Must live until the ticket is dropped or cancelled.
  /// An eventfd(2) of the caller's, to which 1 is added for each layer as for on_layer.
  /// -1: none.
  int32_t event_fd;
  uint32_t cache;  ///< TIERCEL_CACHE_INSERT.
} tiercel_start_options;

/// The rows of one layer of a ticket, where they are.
typedef struct tiercel_ticket_rows {
  size_t struct_size;
  const void* rows;
  size_t rows_bytes;
  size_t row_stride_bytes;    ///< Never 0.
  const uint8_t* row_status;  ///< NULL where it is not wanted.
  size_t row_status_count;
} tiercel_ticket_rows;

/// What a layer of a ticket took. Final when the layer is in place.
typedef struct tiercel_ticket_stats {
  size_t struct_size;
  uint64_t groups;            ///< Groups asked for, dead positions left out.
  uint64_t dram_hits;         ///< Served from DRAM.
  uint64_t joined;            ///< Waited for a read that was under way for another.
  uint64_t fetches;           ///< Read from disk.
  int64_t in_place_after_ns;  ///< From the start until it was in place. 0 before.
} tiercel_ticket_stats;

/// Counters of one (layer, order). In arrays as tiercel_prefetch_layer.
typedef struct tiercel_order_stats {
  size_t struct_size;
  uint32_t layer_id;
  uint32_t order;          ///< n of the n-gram.
  uint64_t groups;         ///< Groups asked for, dead positions left out.
  uint64_t dram_hits;      ///< Served from DRAM at once.
  uint64_t joined;         ///< Waited for a read that was under way for another.
  uint64_t fetches;        ///< Read from disk.
  uint64_t failed_groups;  ///< Fetches with a row that could not be read.
  uint64_t cache_insertions;
  uint64_t cache_evictions;
  uint64_t cache_rejections;  ///< Offered and not taken in.
  uint64_t cache_ghost_hits;  ///< Taken in again soon after they were evicted.
  uint64_t cache_resident_groups;
  uint64_t cache_pinned_groups;  ///< Of those: never evicted.
  uint64_t dram_hit_bytes;       ///< Of the groups served from DRAM.
  uint64_t fetched_bytes;        ///< Of the groups fetched, their own bytes alone.
  uint32_t group_size_bytes;
  uint32_t reserved;
} tiercel_order_stats;

/// Counters and memory of a store.
typedef struct tiercel_store_stats {
  size_t struct_size;
  uint64_t single_rows;           ///< Rows asked for outside of a group.
  uint64_t device_reads;          ///< Reads that were sent to the device.
  uint64_t device_reads_shared;   ///< Rows served by a read that was under way.
  uint64_t device_read_bytes;     ///< Bytes of them, whole blocks.
  uint64_t device_read_retries;   ///< Reads that were tried again.
  uint64_t device_read_failures;  ///< Reads that failed for good.
  uint64_t device_read_p50_ns;    ///< Latency of the reads that succeeded.
  uint64_t device_read_p99_ns;
  uint64_t device_read_max_ns;
  uint64_t dram_budget_bytes;
  uint64_t cache_bytes;           ///< Memory of the cache, metadata included.
  uint64_t resident_scale_bytes;  ///< 0 where scales are read from disk.
  uint64_t read_buffer_bytes;     ///< Rings, read buffers, groups in flight.
  uint64_t ticket_bytes;          ///< Tickets, tokens, staging, at most.
  uint32_t tickets;               ///< Started and not dropped yet.
  uint32_t io_thread_count;
  uint32_t queue_depth;       ///< Reads in flight a thread.
  uint32_t read_block_bytes;  ///< Reads are widened to it; 1: they are not.
  uint32_t engine;            ///< TIERCEL_ENGINE_URING or TIERCEL_ENGINE_PREAD.
  uint32_t reserved;
} tiercel_store_stats;

/// How a hot set is saved.
typedef struct tiercel_hot_set_save_options {
  size_t struct_size;
  uint64_t group_count_max;  ///< At most so many groups, the most used. UINT64_MAX.
  uint32_t bytes;            ///< 1: with the groups' bytes; 0: 16 B a group. 1.
  uint32_t block_bytes;      ///< A power of two from 4 KiB to 1 MiB. 1 MiB.
} tiercel_hot_set_save_options;

/// What was saved.
typedef struct tiercel_hot_set_saved {
  size_t struct_size;
  uint64_t group_count;
  uint64_t file_bytes;
  uint64_t elapsed_ns;
} tiercel_hot_set_saved;

/// How a hot set is loaded.
typedef struct tiercel_hot_set_load_options {
  size_t struct_size;
  double pin_share;   ///< This share of the groups is never evicted. In [0, 1]. 0.
  uint32_t bytes;     ///< 1: take bytes from the file, if it has them; 0: from the tables. 1.
  uint32_t reserved;  ///< 0
} tiercel_hot_set_load_options;

/// How far the last load of a hot set has come.
typedef struct tiercel_hot_set_progress {
  size_t struct_size;
  uint32_t state;  ///< TIERCEL_HOT_SET_...
  uint32_t reserved;
  uint64_t group_count;      ///< Groups that the file names.
  uint64_t groups_loaded;    ///< Made resident.
  uint64_t groups_present;   ///< Resident already.
  uint64_t groups_left_out;  ///< No room, a layer that is not served, a bad row.
  uint64_t groups_damaged;   ///< At least: in blocks that were refused.
  uint64_t blocks_damaged;
  uint64_t groups_pinned;
  uint64_t read_bytes;   ///< Read so far.
  uint64_t total_bytes;  ///< To read in all, at most.
  uint64_t elapsed_ns;   ///< Since the load began, until it ended.
} tiercel_hot_set_progress;

typedef struct tiercel_shared_cache_info {
  size_t struct_size;
  uint64_t size_bytes;   ///< Of the memory, which is there once for all processes.
  uint32_t layer_count;  ///< Layers that the writer serves.
  uint32_t shard_rank;   ///< Whose heads its groups have: head h of every order where
  uint32_t shard_count;  ///< h mod shard_count is shard_rank.
  uint32_t has_updates;  ///< 1: the writer has a state open: its updated rows are in the groups.
} tiercel_shared_cache_info;

/// One layer in a shared cache. A group is the rows of one n-gram, one a head.
typedef struct tiercel_shared_cache_layer {
  size_t struct_size;
  uint32_t layer_id;
  uint32_t order_count;
  uint32_t group_size_bytes;
  uint32_t slot_count;
  /// Where slot s begins in tiercel_shared_cache_get_bytes(): slots_offset_bytes +
  /// s * slot_stride_bytes, both multiples of 16. Layers of one group size have slots in common.
  uint64_t slots_offset_bytes;
  uint64_t slot_stride_bytes;
} tiercel_shared_cache_layer;

#ifdef __cplusplus
}  // extern "C"
#endif

#endif  // TIERCEL_TIERCEL_TYPES_H_
