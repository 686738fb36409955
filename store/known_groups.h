#ifndef TIERCEL_STORE_KNOWN_GROUPS_H_
#define TIERCEL_STORE_KNOWN_GROUPS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "store/probe.h"
#include "tiercel/store.h"
#include "tiercel/types.h"

namespace tiercel {

/// What the cache was told of the groups that a queued ticket is going to read: those of
/// the tokens from where its windows have come to up to noted(). See GroupCache::Expect().
///
/// Threading: none.
class KnownGroups {
 public:
  /// Begins anew. `runs` must outlive the use of it.
  ///   layer_indices  of the ticket, into Layout::layers.
  void Begin(const Layout& layout, std::span<const TokenRun> runs, std::uint64_t token_count,
             std::span<const std::uint32_t> layer_indices);
  /// Nothing is noted, and nothing will be. REQUIRES: all that was noted is released.
  void Clear() noexcept;

  /// Whether NoteSome() has something to do.
  [[nodiscard]] bool more() const noexcept { return noted_.token_count < token_count_; }
  [[nodiscard]] const RunCursor& noted() const noexcept { return noted_; }

  /// Tells the cache of the groups of the next few tokens. Ends for good where the cache
  /// takes no more, or a token is none.
  void NoteSome(Store::Impl& store) noexcept;
  /// Undoes it for the tokens before `until`, which have been read; what was not noted of
  /// them is passed over. REQUIRES: a window of the ticket ends at `until`, or it is noted().
  void ReleaseUntil(Store::Impl& store, const RunCursor& until) noexcept;

 private:
  [[nodiscard]] TokenRun NextSlice(RunCursor& cursor, std::uint64_t end) const noexcept;
  template <typename Visit>
  bool ForEachSpace(const Store::Impl& store, const TokenRun& slice, Visit&& visit) noexcept;
  void ReleaseSpaces(Store::Impl& store, const TokenRun& slice, std::size_t count) noexcept;

  std::span<const TokenRun> runs_;
  std::uint64_t token_count_ = 0;
  std::vector<std::uint32_t> layer_indices_;
  RunCursor released_;
  RunCursor noted_;
  // Of a slice.
  std::vector<std::uint64_t> mixes_;
  std::vector<std::uint8_t> dead_;
  std::vector<std::uint64_t> keys_;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_KNOWN_GROUPS_H_
