#ifndef TIERCEL_TESTS_CUDA_HBM_TEST_SUPPORT_H_
#define TIERCEL_TESTS_CUDA_HBM_TEST_SUPPORT_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cuda/hbm_cache.h"
#include "tests/support/fake_hbm_device.h"
#include "tests/support/made_checkpoint.h"
#include "tiercel/store.h"

namespace tiercel::testing {

/// A store, a fake GPU and the HBM tier on both.
struct HbmRig {
  std::unique_ptr<Store> store;
  FakeHbmDevice* device = nullptr;  ///< The cache's.
  std::shared_ptr<HbmCache> cache;
  HbmStream stream;
};

struct HbmRigOptions {
  std::uint64_t seed = 1;
  std::uint32_t thread_count = 0;  ///< Of the fake GPU.
  HbmOptions hbm;
};

/// HBM of so many groups of `made`, and small limits for the rest.
[[nodiscard]] HbmOptions SmallHbm(const MadeCheckpoint& made, std::uint64_t slot_count);
[[nodiscard]] StoreOptions SmallStore();

/// `store`: null to open one.
[[nodiscard]] HbmRig OpenRig(const MadeCheckpoint& made, const HbmRigOptions& options,
                             std::unique_ptr<Store> store = nullptr);

/// Device memory for one batch, all of it poisoned, and what must be in it.
class HbmBatch {
 public:
  HbmBatch(const HbmRig& rig, HbmFormat format, std::uint32_t token_capacity);

  /// A batch of several runs, with dead tokens, out of few tokens so that groups repeat.
  void Draw(const MadeCheckpoint& made, std::uint64_t seed, std::size_t token_count);
  void Poison();

  [[nodiscard]] std::span<const TokenRun> runs() const noexcept { return runs_; }
  [[nodiscard]] std::span<const HbmOutput> outputs() const noexcept { return outputs_; }
  [[nodiscard]] std::size_t token_count() const noexcept { return token_count_; }

  struct Tally {
    std::uint64_t right = 0;
    std::uint64_t dead = 0;
    std::uint64_t failed = 0;  ///< Marked, and zero.
    std::uint64_t wrong = 0;
  };
  /// Compares every row with the generator, and what lies behind the batch with the poison.
  [[nodiscard]] Tally Check(const MadeCheckpoint& made, const HbmTicket& ticket) const;

  /// The ids of a layer's rows, in the order of the output; `layer` into outputs().
  [[nodiscard]] std::vector<RowId> Ids(std::size_t layer) const;
  /// The stored bytes of one of them in the output. REQUIRES: HbmFormat::kStored.
  [[nodiscard]] std::span<const std::byte> StoredRow(std::size_t layer, std::size_t row) const;

 private:
  [[nodiscard]] bool RowIs(std::size_t layer, std::size_t row,
                           std::span<const std::byte> stored) const;

  const Store& store_;
  HbmFormat format_;
  std::size_t token_count_ = 0;
  std::vector<std::vector<std::int32_t>> tokens_;
  std::vector<TokenRun> runs_;
  std::vector<std::vector<std::byte>> rows_;
  std::vector<std::vector<std::byte>> scales_;
  std::vector<HbmOutput> outputs_;
};

/// What a probe of one layer of a batch writes, worked out on the host from the fake GPU's
/// mirror as it is now: as if the kernel ran now.
struct FakeProbe {
  std::vector<GroupSource> places;  ///< Shape [t, orders].
  std::vector<DeviceMiss> misses;
  [[nodiscard]] ProbedTokens Probed() const;
  std::uint32_t token_count = 0;
};
[[nodiscard]] FakeProbe ProbeNow(const HbmRig& rig, const HbmBatch& batch, std::size_t layer);

/// Once all tickets are gone and the device has run: no slot is pinned, no staging taken.
void ExpectNothingHeld(const HbmRig& rig);

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_CUDA_HBM_TEST_SUPPORT_H_
