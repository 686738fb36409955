#ifndef TIERCEL_CACHE_SIM_ITEM_LIST_H_
#define TIERCEL_CACHE_SIM_ITEM_LIST_H_

#include <cassert>
#include <cstdint>
#include <span>

namespace tiercel {

/// A place of one item in one of several lists that share an array of these.
struct ItemLink {
  std::uint32_t newer = 0;
  std::uint32_t older = 0;
};

/// Items from the newest to the oldest, over links of the caller's. An item is in one
/// list at a time; which one, the caller remembers.
///
/// Threading: one thread at a time.
class ItemList {
 public:
  /// `links`, shape [items], must outlive the list.
  explicit ItemList(std::span<ItemLink> links) noexcept : links_(links) {}

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// REQUIRES: size() > 0.
  [[nodiscard]] std::uint32_t oldest() const noexcept {
    assert(size_ > 0);
    return oldest_;
  }

  void PushNewest(std::uint32_t item) noexcept {
    links_[item] = {.newer = kNone, .older = newest_};
    (size_ == 0 ? oldest_ : links_[newest_].newer) = item;
    newest_ = item;
    ++size_;
  }

  void Remove(std::uint32_t item) noexcept {
    assert(size_ > 0);
    const ItemLink link = links_[item];
    (link.newer == kNone ? newest_ : links_[link.newer].older) = link.older;
    (link.older == kNone ? oldest_ : links_[link.older].newer) = link.newer;
    --size_;
  }

  /// REQUIRES: size() > 0.
  std::uint32_t PopOldest() noexcept {
    const std::uint32_t item = oldest();
    Remove(item);
    return item;
  }

 private:
  static constexpr std::uint32_t kNone = ~std::uint32_t{0};

  std::span<ItemLink> links_;
  std::uint32_t newest_ = kNone;
  std::uint32_t oldest_ = kNone;
  std::uint64_t size_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_CACHE_SIM_ITEM_LIST_H_
