#include "store/known_groups.h"

#include <algorithm>

#include "store/store_impl.h"

namespace tiercel {
namespace {

/// Tokens that are noted at a time: the cache's lock is held for 128 keys, some 10 us, in
/// which an I/O thread may want it.
constexpr std::size_t kNotedTokens = 128;

}  // namespace

void KnownGroups::Begin(const Layout& layout, std::span<const TokenRun> runs,
                        std::uint64_t token_count, std::span<const std::uint32_t> layer_indices) {
  runs_ = runs;
  token_count_ = token_count;
  layer_indices_.assign(layer_indices.begin(), layer_indices.end());
  released_ = {};
  noted_ = {};
  mixes_.resize(kNotedTokens * layout.order_count);
  dead_.resize(kNotedTokens);
  keys_.resize(kNotedTokens);
}

void KnownGroups::Clear() noexcept {
  runs_ = {};
  token_count_ = 0;
  released_ = {};
  noted_ = {};
}

/// The next tokens from `cursor` on, not beyond the token `end` of all, and moves it. A
/// slice that does not begin its run begins 8 tokens into it at least: cursors are ends of
/// slices and windows (see kSliceTokensMin).
TokenRun KnownGroups::NextSlice(RunCursor& cursor, std::uint64_t end) const noexcept {
  while (cursor.token == runs_[cursor.run].tokens.size()) {
    ++cursor.run;
    cursor.token = 0;
  }
  const TokenRun& whole = runs_[cursor.run];
  const std::size_t count = std::min<std::uint64_t>(
      {kNotedTokens, whole.tokens.size() - cursor.token, end - cursor.token_count});
  const TokenRun slice{
      .history = cursor.token == 0 ? whole.history : whole.tokens.first(cursor.token),
      .tokens = whole.tokens.subspan(cursor.token, count)};
  cursor.token += count;
  cursor.token_count += count;
  return slice;
}

/// Calls visit(space, keys) with the keys of the slice's tokens that are not dead, until it
/// returns false. Returns whether it got to the end.
template <typename Visit>
bool KnownGroups::ForEachSpace(const Store::Impl& store, const TokenRun& slice,
                               Visit&& visit) noexcept {
  const std::size_t order_count = store.layout.order_count;
  const std::size_t token_count = slice.tokens.size();
  for (const std::uint32_t layer_index : layer_indices_) {
    const ServedLayer& layer = store.layout.layers[layer_index];
    const Status hashed = store.hasher.Mixes(layer.recipe_index, slice,
                                             std::span(mixes_).first(token_count * order_count),
                                             std::span(dead_).first(token_count));
    if (!hashed.ok()) return false;
    for (std::uint32_t order = 0; order < order_count; ++order) {
      std::size_t count = 0;
      for (std::size_t token = 0; token < token_count; ++token) {
        if (dead_[token] != 0) continue;
        keys_[count++] =
            store.hasher.GroupKey(layer.recipe_index, order, mixes_[token * order_count + order]);
      }
      if (!visit(layer.first_space + order, std::span<const std::uint64_t>(keys_).first(count))) {
        return false;
      }
    }
  }
  return true;
}

/// Undoes what was noted of the slice in the first `count` of its spaces.
void KnownGroups::ReleaseSpaces(Store::Impl& store, const TokenRun& slice,
                                std::size_t count) noexcept {
  ForEachSpace(store, slice, [&](std::uint32_t space, std::span<const std::uint64_t> keys) {
    if (count-- == 0) return false;
    store.cache->Release(space, keys);
    return true;
  });
}

void KnownGroups::NoteSome(Store::Impl& store) noexcept {
  if (!more()) return;
  RunCursor next = noted_;
  const TokenRun slice = NextSlice(next, token_count_);
  const std::uint64_t time = store.queued_tokens.fetch_add(slice.tokens.size());
  std::size_t noted_spaces = 0;
  const bool whole =
      ForEachSpace(store, slice, [&](std::uint32_t space, std::span<const std::uint64_t> keys) {
        const std::size_t count = store.cache->Expect(space, keys, time);
        if (count == keys.size()) {
          ++noted_spaces;
          return true;
        }
        store.cache->Release(space, keys.first(count));
        return false;
      });
  if (whole) {
    noted_ = next;
    return;
  }
  ReleaseSpaces(store, slice, noted_spaces);
  token_count_ = noted_.token_count;
}

void KnownGroups::ReleaseUntil(Store::Impl& store, const RunCursor& until) noexcept {
  const std::uint64_t end = std::min(until.token_count, noted_.token_count);
  while (released_.token_count < end) {
    const TokenRun slice = NextSlice(released_, end);
    ReleaseSpaces(store, slice, store.layout.group_space_count);
  }
  if (until.token_count <= noted_.token_count) return;
  released_ = until;
  noted_ = until;
}

}  // namespace tiercel
