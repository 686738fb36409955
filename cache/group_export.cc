#include "cache/group_export.h"

#include <array>

#include "cache/group_pool.h"
#include "cache/reader_epochs.h"

namespace tiercel {
namespace {

/// Buckets under one pin: at most 12 groups each, 192 copies of 2 KB or some 50 us.
constexpr std::uint32_t kBucketsAtOnce = 16;

}  // namespace

GroupExport::GroupExport(const GroupCache& cache) : cache_(cache) {
  for (const auto& pool : cache.pools()) shown_.emplace_back((pool->slot_count() + 63) / 64);
}

bool GroupExport::Next(const std::function<bool(const HotGroup&)>& visit) {
  if (uses_ < 0) return false;
  const GroupPool& pool = *cache_.pools()[pool_];
  {
    const ReaderPin pin(cache_.epochs());
    for (std::uint32_t i = 0; i < kBucketsAtOnce && bucket_ < pool.index().bucket_count(); ++i) {
      if (!ShowBucket(pool, shown_[pool_], visit)) return true;
      ++bucket_;
    }
  }
  if (bucket_ < pool.index().bucket_count()) return true;
  bucket_ = 0;
  if (++pool_ < shown_.size()) return true;
  pool_ = 0;
  return --uses_ >= 0;
}

/// False if the visitor wants the rest of the bucket later.
bool GroupExport::ShowBucket(const GroupPool& pool, std::vector<std::uint64_t>& shown,
                             const std::function<bool(const HotGroup&)>& visit) {
  std::array<std::uint32_t, IndexBucket::kWays> slots;
  const std::uint32_t count = pool.index().SlotsOf(bucket_, slots);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t slot = slots[i];
    std::uint64_t& word = shown[slot / 64];
    const std::uint64_t bit = std::uint64_t{1} << slot % 64;
    if ((word & bit) != 0) continue;
    // The index leads to the slot and the pin was taken before: its record stays.
    const SlotRecord& record = pool.record(slot);
    const std::uint8_t uses = record.Uses();
    if (uses < uses_) continue;
    const HotGroup group = {.id = {.key = record.key, .space = record.space, .uses = uses},
                            .bytes = {pool.group(slot), pool.group_size_bytes()}};
    if (!visit(group)) return false;
    word |= bit;
  }
  return true;
}

}  // namespace tiercel
