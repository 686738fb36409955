#ifndef TIERCEL_BENCH_PEERS_WORKLOAD_H_
#define TIERCEL_BENCH_PEERS_WORKLOAD_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/prng.h"
#include "bench/peers/arm.h"
#include "bench/peers/peer_table.h"
#include "tiercel/hasher.h"
#include "tiercel/status.h"

namespace tiercel::peers {

enum class WorkloadKind : std::uint8_t { kCold, kRandom, kReplay };

/// A kind of work that arms are compared at.
struct Workload {
  std::string name;
  WorkloadKind kind = WorkloadKind::kCold;
  std::uint32_t token_count = 0;  ///< Of a batch. kRandom: rows of a batch.
  bool all_layers = true;         ///< Else one layer a batch, in turn.
  std::uint32_t depth = 0;        ///< Reads in flight; 0: as each arm likes.
  std::string summary;            ///< For the report.
};

/// How large the workloads are.
struct WorkloadSizes {
  std::uint32_t prefill_tokens = 2048;
  std::uint32_t random_rows = 16384;
  std::uint64_t replay_tokens = 8192;
};

/// All workloads for tables of `recipe`.
[[nodiscard]] std::vector<Workload> MakeWorkloads(const Recipe& recipe, const WorkloadSizes& sizes);

/// A token trace in the ids that the checkpoint hashes.
struct PeerTrace {
  std::vector<std::int32_t> tokens;
  std::vector<std::uint64_t> offsets;  ///< Documents' boundaries, first 0.
};

struct TracePaths {
  std::string tokens;
  std::string offsets;
  std::string token_map;  ///< Empty: the trace holds compressed ids, or needs no map.
};
/// Errors: as ReadTokens, ReadOffsets, TokenMap::Load; kInvalidArgument (a trace that
/// does not fit the checkpoint).
[[nodiscard]] Result<PeerTrace> LoadPeerTrace(const TracePaths& paths, const Recipe& recipe);

/// A bijection of token ids: t -> (a t + b) mod V. A text whose ids are renamed repeats
/// itself exactly where the text does, but asks for other rows: so that no batch finds
/// what an earlier one left in the cache of a disk or of a virtual machine's host.
class Renaming {
 public:
  /// `kept`: an id that means something by itself and keeps its name.
  Renaming(std::uint64_t seed, std::uint32_t vocabulary, std::optional<std::int32_t> kept);
  [[nodiscard]] std::int32_t operator()(std::int32_t token) const noexcept;

 private:
  [[nodiscard]] std::int32_t Map(std::int32_t token) const noexcept;

  std::uint64_t factor_ = 1;
  std::uint64_t shift_ = 0;
  std::uint32_t vocabulary_;
  std::optional<std::int32_t> kept_;
  std::int32_t kept_image_ = 0;
};

/// Makes the batches of one slice. Owns what they point to.
///
/// Threading: one thread at a time.
class BatchSource {
 public:
  /// All but `seed` must outlive it.
  BatchSource(const PeerTable& table, const Hasher& hasher, const PeerTrace& trace,
              const Workload& workload, const WorkloadSizes& sizes, std::uint64_t seed);

  /// The next batch, whose memory is good until the next call; null when a replay has
  /// come to its end. Errors: as Hasher::RowIds.
  [[nodiscard]] Result<const Batch*> Next();
  /// True while a replay's batches only warm the caches.
  [[nodiscard]] bool warming() const noexcept { return warming_; }

 private:
  struct LayerMemory {
    std::vector<RowId> rows;
    std::vector<std::byte> out;
    std::vector<RowStatus> row_status;
  };

  void NextRandom();
  [[nodiscard]] Status NextWindow();
  [[nodiscard]] bool TakeReplayChunk(std::uint64_t& begin, std::uint64_t& end,
                                     std::uint64_t& document_begin);
  [[nodiscard]] Status UseWindow(std::uint64_t history_begin, std::uint64_t begin,
                                 std::uint64_t end, const Renaming& renaming);
  void AddLayer(std::uint32_t layer_index, std::size_t row_count);
  [[nodiscard]] Renaming NewRenaming();

  const PeerTable& table_;
  const Hasher& hasher_;
  const PeerTrace& trace_;
  const Workload& workload_;
  Prng prng_;
  Batch batch_;
  std::uint64_t batch_count_ = 0;
  std::vector<std::int32_t> tokens_;
  std::vector<LayerMemory> layers_;
  // Replay: the trace from a document on, in chunks.
  std::optional<Renaming> replay_renaming_;
  std::uint64_t replay_tokens_ = 0;
  std::uint64_t replayed_tokens_ = 0;
  std::size_t replay_document_ = 0;
  std::uint64_t replay_at_ = 0;
  bool warming_ = false;
};

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_WORKLOAD_H_
