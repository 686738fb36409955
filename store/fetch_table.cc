#include "store/fetch_table.h"

#include <bit>
#include <utility>

#include "base/check.h"
#include "base/prng.h"

namespace tiercel {
namespace {

std::uint64_t BucketCount(std::uint32_t capacity) noexcept {
  return std::bit_ceil(std::uint64_t{capacity});
}

}  // namespace

FetchTable::FetchTable(Capacity capacity)
    : shares_{capacity.lookup_fetches, capacity.ticket_fetches},
      fetches_(capacity.total()),
      buckets_(BucketCount(capacity.total())) {
  TIERCEL_CHECK(capacity.total() > 0);
  heap_.reserve(capacity.total());
  for (Fetch& fetch : fetches_) {
    fetch.chain = free_;
    free_ = &fetch;
  }
}

FetchTable::~FetchTable() = default;

std::uint64_t FetchTable::MemoryBytes(Capacity capacity) noexcept {
  return capacity.total() * (sizeof(Fetch) + sizeof(Fetch*)) +
         BucketCount(capacity.total()) * sizeof(Fetch*);
}

bool FetchTable::HasRoom(FetchOwner owner) const {
  const auto share = static_cast<std::size_t>(owner);
  return used_[share] < shares_[share];
}

Fetch** FetchTable::BucketOf(std::uint32_t space, std::uint64_t key) {
  return &buckets_[SplitMix64(key + space) & (buckets_.size() - 1)];
}

std::size_t FetchTable::AddSome(std::span<Waiter> waiters, FetchOwner owner,
                                std::uint32_t& created) {
  MutexLock lock(mutex_);
  std::size_t done = 0;
  for (Waiter& waiter : waiters) {
    Fetch** const bucket = BucketOf(waiter.space, waiter.key);
    Fetch* fetch = *bucket;
    while (fetch != nullptr && (fetch->key != waiter.key || fetch->space != waiter.space)) {
      fetch = fetch->chain;
    }
    if (fetch == nullptr) {
      if (!HasRoom(owner)) break;
      ++used_[static_cast<std::size_t>(owner)];
      fetch = std::exchange(free_, free_->chain);
      *fetch = Fetch{.space = waiter.space,
                     .key = waiter.key,
                     .deadline_ns = waiter.deadline_ns,
                     .sequence = sequence_++,
                     .owner = owner,
                     .made_kept_out = waiter.keep_out,
                     .kept_out = waiter.keep_out,
                     .chain = *bucket};
      *bucket = fetch;
      heap_.push_back(fetch);
      HeapPlace(static_cast<std::uint32_t>(heap_.size() - 1), fetch);
      HeapUp(fetch->heap_index);
      UpdateFront();
      ++created;
      waiter.joined = false;
    } else {
      waiter.joined = true;
      fetch->kept_out = fetch->kept_out && waiter.keep_out;
      MakeEarlier(fetch, waiter.deadline_ns);
    }
    waiter.fetch = fetch;
    waiter.previous = nullptr;
    waiter.next = fetch->waiters;
    if (fetch->waiters != nullptr) fetch->waiters->previous = &waiter;
    fetch->waiters = &waiter;
    ++done;
  }
  return done;
}

void FetchTable::WaitForRoom(FetchOwner owner) {
  MutexLock lock(mutex_);
  ++sleepers_;
  while (!HasRoom(owner)) room_.Wait(mutex_);
  --sleepers_;
}

void FetchTable::MakeEarlier(Fetch* fetch, std::uint64_t deadline_ns) {
  if (fetch->heap_index == kTaken || deadline_ns >= fetch->deadline_ns) return;
  fetch->deadline_ns = deadline_ns;
  HeapUp(fetch->heap_index);
  UpdateFront();
}

void FetchTable::UpdateFront() {
  Front front = Front::kNothing;
  if (!heap_.empty()) {
    front =
        heap_.front()->deadline_ns < kBackgroundDeadlineNs ? Front::kUrgent : Front::kBackground;
  }
  front_.store(front, std::memory_order_relaxed);
}

void FetchTable::Promote(std::span<Waiter> waiters, std::uint64_t deadline_ns) {
  MutexLock lock(mutex_);
  for (Waiter& waiter : waiters) {
    waiter.deadline_ns = std::min(waiter.deadline_ns, deadline_ns);
    if (waiter.fetch != nullptr) MakeEarlier(waiter.fetch, deadline_ns);
  }
}

Fetch* FetchTable::Take(bool background) {
  MutexLock lock(mutex_);
  if (heap_.empty()) return nullptr;
  if (!background && heap_.front()->deadline_ns >= kBackgroundDeadlineNs) return nullptr;
  Fetch* const fetch = heap_.front();
  HeapRemove(0);
  return fetch;
}

Waiter* FetchTable::Finish(Fetch* fetch) {
  MutexLock lock(mutex_);
  return End(fetch);
}

std::optional<Waiter*> FetchTable::FinishKeptOut(Fetch* fetch) {
  MutexLock lock(mutex_);
  if (!fetch->kept_out) return std::nullopt;
  return End(fetch);
}

Waiter* FetchTable::End(Fetch* fetch) {
  TIERCEL_CHECK(fetch->heap_index == kTaken);
  Waiter* const waiters = fetch->waiters;
  for (Waiter* waiter = waiters; waiter != nullptr; waiter = waiter->next) waiter->fetch = nullptr;
  Unchain(fetch);
  Free(fetch);
  return waiters;
}

std::uint32_t FetchTable::Withdraw(std::span<Waiter> waiters) {
  MutexLock lock(mutex_);
  std::uint32_t withdrawn = 0;
  for (Waiter& waiter : waiters) {
    Fetch* const fetch = std::exchange(waiter.fetch, nullptr);
    if (fetch == nullptr) continue;
    ++withdrawn;
    if (waiter.next != nullptr) waiter.next->previous = waiter.previous;
    if (waiter.previous != nullptr) {
      waiter.previous->next = waiter.next;
    } else {
      fetch->waiters = waiter.next;
    }
    if (fetch->waiters == nullptr && fetch->heap_index != kTaken) {
      HeapRemove(fetch->heap_index);
      Unchain(fetch);
      Free(fetch);
    }
  }
  return withdrawn;
}

std::uint32_t FetchTable::queued_count() {
  MutexLock lock(mutex_);
  return static_cast<std::uint32_t>(heap_.size());
}

void FetchTable::Unchain(Fetch* fetch) {
  Fetch** link = BucketOf(fetch->space, fetch->key);
  while (*link != fetch) link = &(*link)->chain;
  *link = fetch->chain;
}

void FetchTable::Free(Fetch* fetch) {
  --used_[static_cast<std::size_t>(fetch->owner)];
  fetch->chain = free_;
  free_ = fetch;
  if (sleepers_ > 0) room_.NotifyAll();
}

bool FetchTable::Earlier(const Fetch& a, const Fetch& b) noexcept {
  return a.deadline_ns != b.deadline_ns ? a.deadline_ns < b.deadline_ns : a.sequence < b.sequence;
}

void FetchTable::HeapPlace(std::uint32_t index, Fetch* fetch) {
  heap_[index] = fetch;
  fetch->heap_index = index;
}

void FetchTable::HeapUp(std::uint32_t index) {
  Fetch* const fetch = heap_[index];
  while (index > 0) {
    const std::uint32_t parent = (index - 1) / 2;
    if (!Earlier(*fetch, *heap_[parent])) break;
    HeapPlace(index, heap_[parent]);
    index = parent;
  }
  HeapPlace(index, fetch);
}

void FetchTable::HeapDown(std::uint32_t index) {
  Fetch* const fetch = heap_[index];
  const auto count = static_cast<std::uint32_t>(heap_.size());
  while (true) {
    std::uint32_t child = 2 * index + 1;
    if (child >= count) break;
    if (child + 1 < count && Earlier(*heap_[child + 1], *heap_[child])) ++child;
    if (!Earlier(*heap_[child], *fetch)) break;
    HeapPlace(index, heap_[child]);
    index = child;
  }
  HeapPlace(index, fetch);
}

void FetchTable::HeapRemove(std::uint32_t index) {
  Fetch* const removed = heap_[index];
  Fetch* const last = heap_.back();
  heap_.pop_back();
  if (last != removed) {
    HeapPlace(index, last);
    HeapUp(index);
    HeapDown(last->heap_index);
  }
  removed->heap_index = kTaken;
  UpdateFront();
}

}  // namespace tiercel
