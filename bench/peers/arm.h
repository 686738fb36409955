#ifndef TIERCEL_BENCH_PEERS_ARM_H_
#define TIERCEL_BENCH_PEERS_ARM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel::peers {

class PeerTable;

/// Rows of one layer that a batch wants, and where they go.
struct LayerBatch {
  std::uint32_t layer_index = 0;    ///< Into CheckpointInfo::layers.
  std::span<const RowId> rows;      ///< Shape [n].
  std::span<std::byte> out;         ///< Shape [n, row_size_bytes].
  std::span<RowStatus> row_status;  ///< Shape [n]; filled by Tiercel alone.
};

/// One unit of work: the same rows in every arm, however an arm asks for them.
struct Batch {
  /// The token runs that the rows come from, in compressed ids. Empty: the rows come
  /// from nowhere (random single rows).
  std::vector<TokenRun> runs;
  std::vector<LayerBatch> layers;
};

/// Single reads at random for a while, for arms that read but serve no rows.
struct RandomReads {
  std::uint32_t depth = 0;
  std::uint32_t block_bytes = 0;
  double seconds = 0;
  std::uint64_t seed = 0;
};

/// What a slice came to. A fixed-size struct: it goes through a pipe.
struct SliceFigures {
  double seconds = 0;             ///< Spent in the work alone.
  double cpu_seconds = 0;         ///< User and system time of the process meanwhile.
  std::uint64_t rows = 0;         ///< Or reads, where an arm serves no rows.
  double batches = 0;             ///< A batch that was cut counts for its part.
  std::uint64_t cut_batches = 0;  ///< Batches that were given up for want of time.
  std::uint64_t p50_ns = 0;       ///< Of a batch; of a read in `random`. 0: not known.
  std::uint64_t p99_ns = 0;
};

/// How an arm is opened.
struct ArmOptions {
  std::uint64_t dram_budget_bytes = 0;
  std::uint32_t depth = 0;  ///< Reads in flight where the workload fixes it; else 0.
  bool resident_scales = true;
  std::uint32_t io_thread_count = 0;  ///< Of Tiercel; 0: its own choice.
  std::string scratch_dir;
};

/// One way to get rows, in a process of its own.
///
/// Threading: one thread at a time.
class Arm {
 public:
  virtual ~Arm() = default;

  /// Writes every row of `batch` to its place. Blocks until all are there.
  /// Errors: the arm's own; the outputs are then unspecified.
  [[nodiscard]] virtual Status Run(const Batch& batch) = 0;

  /// Reads at random for a while. Errors: kUnavailable where the arm does not.
  [[nodiscard]] virtual Result<SliceFigures> RunReads(const RandomReads& /*reads*/) {
    return Status(StatusCode::kUnavailable, "this arm does not read without serving rows");
  }

  /// Percentiles of single reads since the last call; false where they are not known.
  virtual bool TakeReadLatency(std::uint64_t& /*p50_ns*/, std::uint64_t& /*p99_ns*/) {
    return false;
  }

  /// What really runs, for the report.
  [[nodiscard]] virtual std::string description() const = 0;
};

// One function an arm, or a family of arms that differ in a number. Errors of all:
// kUnavailable (it cannot run here as named: the message says why), or the arm's own.

/// How the mapping is advised.
enum class MmapAdvice : std::uint8_t { kPlain, kRandom, kWillNeed, kPopulate };
[[nodiscard]] Result<std::unique_ptr<Arm>> OpenMmapArm(const PeerTable& table,
                                                       const ArmOptions& options, MmapAdvice advice,
                                                       std::uint32_t thread_count);
[[nodiscard]] Result<std::unique_ptr<Arm>> OpenPreadArm(const PeerTable& table,
                                                        const ArmOptions& options,
                                                        std::uint32_t thread_count);
[[nodiscard]] Result<std::unique_ptr<Arm>> OpenDramArm(const PeerTable& table,
                                                       const ArmOptions& options);
[[nodiscard]] Result<std::unique_ptr<Arm>> OpenRocksDbArm(const PeerTable& table,
                                                          const ArmOptions& options,
                                                          std::uint32_t thread_count,
                                                          bool verify_checksums);
[[nodiscard]] Result<std::unique_ptr<Arm>> OpenFioArm(const PeerTable& table,
                                                      const ArmOptions& options);
/// Tiercel's io_uring queue by itself: no store, no rows.
[[nodiscard]] Result<std::unique_ptr<Arm>> OpenQueueArm(const PeerTable& table,
                                                        const ArmOptions& options);
/// The whole store, through the public API.
[[nodiscard]] Result<std::unique_ptr<Arm>> OpenTiercelArm(const PeerTable& table,
                                                          const ArmOptions& options, bool uring);

/// Makes the database of the RocksDB arms if it is not there: once, before any slice.
[[nodiscard]] Status PrepareRocksDb(const PeerTable& table, const std::string& scratch_dir);
/// "7.8.3, no io_uring in the library", or why there is none.
[[nodiscard]] std::string RocksDbVersion();
[[nodiscard]] bool HasRocksDb() noexcept;
/// "fio-3.33", or empty.
[[nodiscard]] std::string FioVersion();

}  // namespace tiercel::peers

#endif  // TIERCEL_BENCH_PEERS_ARM_H_
