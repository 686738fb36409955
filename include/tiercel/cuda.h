#ifndef TIERCEL_CUDA_H_
#define TIERCEL_CUDA_H_

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "tiercel/hbm.h"
#include "tiercel/row_format.h"
#include "tiercel/status.h"
#include "tiercel/store.h"
#include "tiercel/types.h"

namespace tiercel {

/// Turns stored rows in device memory into bfloat16, bit for bit as
/// DequantizeToBf16 does on the host (any NaN may stand for a NaN). Runs on
/// `stream`, on the current device; does not synchronize it.
///
///   rows    device memory, shape [row_count, shape.row_size_bytes()]. Aligned to the
///           stored value: 2 bytes for bf16 and fp16, 4 for fp32. Fastest where a
///           row's size and `rows` are multiples of 8, as V4.1's 264 bytes are.
///   values  device memory, shape [row_count, shape.value_count], aligned to 2 bytes;
///           fastest at 16.
///
/// `rows` and `values` must stay valid until the work has run. May be captured in a
/// CUDA graph. Allocates nothing.
///
/// Errors: kInvalidArgument (a shape that is none, a null or misaligned pointer;
/// nothing is launched), kUnavailable (no GPU, or its driver is too old; ggml's block
/// formats, kQ8_0 to kQ2_K, which the host alone dequantises), others as the launch
/// reports them. An error of the work itself appears when the stream is synchronized, as
/// with all CUDA work.
///
/// REQUIRES: `rows` and `values` do not overlap.
[[nodiscard]] Status DequantizeToBf16Async(const RowShape& shape, const std::byte* rows,
                                           std::uint64_t row_count, std::uint16_t* values,
                                           cudaStream_t stream);

/// Gathers on `stream`, on the current device; does not synchronize, allocates nothing, may
/// be captured. All that it names must stay until it has run. Numbers are not checked.
/// Errors: kInvalidArgument (a shape that is none, a null pointer, kRowsAndScales for rows
/// that are not kE4M3Block32), others as the launch reports them.
[[nodiscard]] Status GatherFromSlabAsync(const SlabGather& gather, cudaStream_t stream);

/// Host memory of the caller's that the GPU may read while this lives: page-locked and mapped.
/// Move-only.
class HostRegistration {
 public:
  /// Locks `memory` into RAM. `read_only`: it is mapped so, as a reader's SharedSlab is.
  /// Synchronizes. Errors: kUnavailable, kResourceExhausted, others as CUDA reports them;
  /// among them that this device cannot take read-only memory.
  [[nodiscard]] static Result<HostRegistration> Register(std::span<const std::byte> memory,
                                                         bool read_only);
  HostRegistration(HostRegistration&& other) noexcept;
  HostRegistration& operator=(HostRegistration&& other) noexcept;
  ~HostRegistration();

  /// Where kernels find the first byte.
  [[nodiscard]] const std::byte* device() const noexcept { return device_; }

 private:
  HostRegistration(void* host, const std::byte* device) noexcept : host_(host), device_(device) {}
  void* host_ = nullptr;
  const std::byte* device_ = nullptr;
};

/// Turns token ids that are on the device into row ids and group keys, bit for bit as Hasher
/// does: for engines whose sampled tokens do not come to the host.
///
/// Threading: immutable once made. Must outlive the work that it has enqueued.
class DeviceHasher {
 public:
  /// Copies the recipe's constants and the token map to the current device. Synchronizes.
  /// Errors: kUnavailable, kResourceExhausted, others as CUDA reports them.
  ///
  ///   token_map  as for Hasher::Create().
  [[nodiscard]] static Result<std::unique_ptr<DeviceHasher>> Create(const Recipe& recipe,
                                                                    const TokenMap* token_map);
  ~DeviceHasher();

  /// Hashes `tokens` for one layer on `stream`. Does not synchronize; may be captured.
  /// Errors: kInvalidArgument (no such layer, a null array), others as CUDA reports them.
  [[nodiscard]] Status HashOnStream(std::uint32_t layer_index, const DeviceTokens& tokens,
                                    const DeviceHashOutput& output, cudaStream_t stream) const;

 private:
  friend class HbmTier;
  struct Impl;
  explicit DeviceHasher(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

/// The HBM tier of a store: hot groups in device memory, the others staged in pinned host
/// memory on their way from DRAM and NVMe, and gathered into outputs at fixed addresses.
///
/// A batch takes two calls, and no more of the host:
///
///   Result<HbmTicket> ticket = tier->StartOnStream(runs, outputs, prefetch_stream);
///   ... the model's first blocks on model_stream ...
///   tier->WaitOnStream(ticket.value(), 1, model_stream);
///   ... what reads the rows of layer 1, on model_stream ...
///
/// In a CUDA graph the same work is captured once and replayed with new tokens:
///
///   Result<HbmTicket> lane = tier->OpenLane(token_capacity, outputs);
///   cudaStreamBeginCapture(stream, ...);
///   tier->EnqueueOnStream(lane.value(), stream);           // or on a stream forked from it
///   ... the model, with WaitOnStream(lane.value(), ...) where it joins ...
///   cudaStreamEndCapture(stream, &graph);
///   for each step:
///     tier->Restart(lane.value(), runs);                   // host alone
///     cudaGraphLaunch(executable, stream);                 // once for each Restart()
///
/// The host decides what is in HBM when a batch starts: tokens are on the host then. A group
/// that is there is pinned until the batch's gather has run; one that is not is fetched
/// through Store::StartRows() into the staging, and is given a slot if the policy finds one.
/// It counts as in HBM once the host knows that its bytes are in the slot and that no row of
/// it failed.
///
/// A store of Updates::kReadWrite may be updated meanwhile: a batch that starts after
/// Store::Update() returned has the new rows, one that started before has the old row or the
/// new one, whole; and none that starts after anybody was given the new row has the old one.
/// Update() sweeps the tier's directory for that, under its lock for 2,048 slots at a time.
///
/// Synchronizing calls are Open(), OpenLane() where it makes a new lane (they allocate), and
/// the destructor (for all work of the device). No other call waits for the device or for a
/// read; each takes a lock for the time of its own work on the host.
///
/// What a stream waits for is set by the store's I/O threads, or at once if all is in HBM or
/// was copied from DRAM. A read that never ends holds the stream up until Cancel().
///
/// Threading: all methods may run concurrently. The tier must be destroyed before its store.
class HbmTier {
 public:
  /// Takes all memory on the current device, which is the tier's from then on: streams and
  /// outputs must be its own.
  ///
  /// Errors: kInvalidArgument (an option out of its range; kRowsAndScales for rows that are
  /// not kE4M3Block32), kNotFound (a layer that the store does not serve), kResourceExhausted
  /// (device or host memory; observers of the store's updates), kUnavailable (no GPU, or one that
  /// cannot do what `flag_wait` demands), others as CUDA reports them.
  [[nodiscard]] static Result<std::unique_ptr<HbmTier>> Open(Store& store,
                                                             const HbmOptions& options);
  HbmTier(const HbmTier&) = delete;
  HbmTier& operator=(const HbmTier&) = delete;
  /// Cancels what is under way, waits for all work of the device, and frees. Graphs that
  /// have captured work of the tier must not be launched any more. Tickets may outlive it.
  ~HbmTier();

  /// Begins to fetch a batch, and enqueues on `stream`, for each layer in the order of
  /// `outputs`: a wait until its rows are staged, and the gather into the output. Does not
  /// synchronize. Must not be called while `stream` is captured: see OpenLane().
  ///
  ///   runs     as in Store::Lookup(); looked at in this call alone.
  ///   outputs  device memory, written by work on `stream`; it must stay until that has run,
  ///            even if the ticket is dropped.
  ///
  /// Errors: kInvalidArgument (a token out of range, a null or misaligned output, a layer
  /// named twice or none), kNotFound (a layer that is not served), kResourceExhausted (too
  /// many tickets or tokens, no room in the staging, or a limit of the store's tickets:
  /// PrefetchLimits counts each missed row as two tokens), others as CUDA reports them. No
  /// ticket then; outputs of layers before the one that failed may be written.
  [[nodiscard]] Result<HbmTicket> StartOnStream(std::span<const TokenRun> runs,
                                                std::span<const HbmOutput> outputs,
                                                cudaStream_t stream);

  /// What comes after on `stream` runs when the rows of the layer are in the output. Does not
  /// synchronize; where the gather is captured, `stream` must be of the same capture.
  /// Failed rows are zero: HbmTicket::TryStatus() tells once the gather has ended.
  ///
  /// Errors: kNotFound (not a layer of the ticket), kInvalidArgument (no ticket of this tier;
  /// a lane before EnqueueOnStream()), kCancelled (the tier was closed), others as CUDA reports
  /// them.
  [[nodiscard]] Status WaitOnStream(const HbmTicket& ticket, std::uint32_t layer_id,
                                    cudaStream_t stream);

  /// Takes fixed memory for batches of up to `token_capacity` tokens, for a graph that
  /// captures EnqueueOnStream(). `outputs` hold that many tokens; those of a batch come
  /// first, what lies behind them is left alone. Allocates, which may synchronize, unless a
  /// dropped lane of this capacity is taken again.
  /// Errors: as StartOnStream(); kInvalidArgument (a capacity that is 0 or above tokens_max).
  [[nodiscard]] Result<HbmTicket> OpenLane(std::uint32_t token_capacity,
                                           std::span<const HbmOutput> outputs);

  /// Enqueues on `stream` what StartOnStream() does, for whatever batch Restart() has put
  /// into the lane by the time it runs. May be captured; captures as a graph of a wait and a
  /// kernel for each layer. Does not synchronize.
  /// Errors: kInvalidArgument (not of OpenLane()), others as CUDA reports them.
  [[nodiscard]] Status EnqueueOnStream(const HbmTicket& lane, cudaStream_t stream);

  /// Puts a batch into the lane and begins to fetch it. Host alone: does not synchronize.
  /// Then launch the graph, once.
  ///
  /// Errors: kUnavailable (the batch before has not been gathered yet: take turns with two
  /// lanes, or Cancel() it if it was not launched), and as StartOnStream(). The lane has no
  /// batch then, and must not be launched.
  [[nodiscard]] Status Restart(const HbmTicket& lane, std::span<const TokenRun> runs);

  /// Lets the streams go on: rows that are not staged yet will be zeros, and their layers
  /// kCancelled. Does not synchronize; may wait as Ticket::Cancel() does.
  /// REQUIRES, for a lane: its replay was not launched, or has ended.
  [[nodiscard]] Status Cancel(const HbmTicket& ticket);

  // ---- tokens that are on the device alone (HbmOptions::device_directory) ----

  /// Tells the mirror of the directory on `stream` what came and went. All probes, and the
  /// gathers of what they found, must be on this one stream: a slot that was given up is
  /// written again only when its leaving has come through there. Does not synchronize; must
  /// not be captured. Call it now and then: does nothing while two updates of the mirror are
  /// under way. After Store::Update() call it before the next probe: probes that follow one that
  /// returned OK find no group with an old row.
  /// Errors: kInvalidArgument (no device_directory), kUnavailable (rows were updated, and there
  /// is no room to tell all of that: call again when the stream has come further), others as
  /// CUDA reports them: the mirror is lost then, and later calls say so too. Do not probe any
  /// more, and open the tier anew: its batches are right, but slots that it gives up stay unused.
  [[nodiscard]] Status SyncDirectoryOnStream(cudaStream_t stream);

  /// Hashes `tokens` and looks each group up in the mirror, on `stream`. Slots that it finds
  /// are good for work on `stream` until the next SyncDirectoryOnStream() there. Does not
  /// synchronize; may be captured. Such uses are not counted as hits.
  /// Errors: kInvalidArgument (a null array; no device_directory; a hasher of other layers),
  /// kNotFound (a layer that is not served), others as CUDA reports them.
  [[nodiscard]] Status ProbeOnStream(const DeviceHasher& hasher, std::uint32_t layer_id,
                                     const DeviceTokens& tokens, const DeviceHashOutput& hash,
                                     const DeviceProbeOutput& output, cudaStream_t stream);

  /// Begins to fetch what a probe has missed, and enqueues on `stream` the gather of all that
  /// it looked for, found or missed, into the output; what was missed gets slots as in
  /// StartOnStream(), which the mirror hears of with a later SyncDirectoryOnStream(). `stream` is
  /// the probe's, which must not have been synced in between. Does not synchronize; must not
  /// be captured. The host has to know the misses, so that it waits for the probe before.
  ///
  /// The ticket is as StartOnStream()'s, of one layer. A miss that comes several times takes
  /// staging each time, and is read once.
  ///
  /// Errors: kInvalidArgument (no device_directory; places that are null or misaligned; more
  /// misses than groups; a miss that is none of the layer's, which the message names), and as
  /// StartOnStream(). No ticket then; the output may be written.
  [[nodiscard]] Result<HbmTicket> FetchMissesOnStream(const ProbedTokens& probed,
                                                      const HbmOutput& output, cudaStream_t stream);

  /// Counters and memory. Does not synchronize.
  [[nodiscard]] HbmStats Stats() const;

 private:
  explicit HbmTier(std::shared_ptr<HbmCache> cache) noexcept;
  std::shared_ptr<HbmCache> cache_;
};

}  // namespace tiercel

#endif  // TIERCEL_CUDA_H_
