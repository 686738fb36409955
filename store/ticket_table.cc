#include "store/ticket_table.h"

#include <fmt/format.h>

#include <new>

namespace tiercel {
namespace {

/// Destinations that GPUs and kernels copy from like to begin at a page.
constexpr std::size_t kStagingAlignment = 4096;
constexpr std::uint64_t kStagingUnitBytes = 64;
constexpr std::uint64_t kTokenUnit = 2;  // A row id takes two.

std::byte* StagingMemory(std::uint64_t size_bytes) {
  if (size_bytes == 0) return nullptr;
  const std::uint64_t rounded =
      (size_bytes + kStagingAlignment - 1) / kStagingAlignment * kStagingAlignment;
  auto* const bytes = static_cast<std::byte*>(std::aligned_alloc(kStagingAlignment, rounded));
  if (bytes == nullptr) throw std::bad_alloc();
  return bytes;
}

}  // namespace

Ticket::Table::Table(const PrefetchLimits& limits)
    : limits_(limits),
      tokens_(limits.tokens_max),
      staging_(StagingMemory(limits.staging_bytes)),
      token_ranges_(limits.tokens_max, kTokenUnit, limits.tickets_max),
      staging_ranges_(limits.staging_bytes, kStagingUnitBytes, limits.tickets_max) {
  all_.reserve(limits.tickets_max);
  free_.reserve(limits.tickets_max);
}

std::uint64_t Ticket::Table::MemoryBytes(const PrefetchLimits& limits) noexcept {
  return sizeof(Table) + limits.tokens_max * sizeof(std::int32_t) + limits.staging_bytes +
         limits.tickets_max * (sizeof(Ticket::State) + 4 * sizeof(void*) + 2 * sizeof(Range));
}

std::string Ticket::Table::TryTake(const Request& request, Ticket::State*& ticket) {
  if (free_.empty() && all_.size() == limits_.tickets_max) {
    return fmt::format("PrefetchLimits::tickets_max ({}) tickets are about", limits_.tickets_max);
  }
  const std::optional<Range> tokens = token_ranges_.Take(request.tokens);
  if (!tokens.has_value()) {
    return fmt::format(
        "the ticket has {} tokens, and {} of PrefetchLimits::tokens_max ({}) are "
        "taken",
        request.tokens, token_ranges_.used(), limits_.tokens_max);
  }
  const std::optional<Range> staging = staging_ranges_.Take(request.staging_bytes);
  if (!staging.has_value()) {
    token_ranges_.Give(*tokens);
    return fmt::format(
        "the ticket needs {} B of staging, and {} of PrefetchLimits::staging_bytes "
        "({}) are taken",
        request.staging_bytes, staging_ranges_.used(), limits_.staging_bytes);
  }
  if (free_.empty()) {
    all_.push_back(std::make_unique<Ticket::State>());
    ticket = all_.back().get();
  } else {
    ticket = free_.back();
    free_.pop_back();
  }
  ticket->tokens = *tokens;
  ticket->staging = *staging;
  return {};
}

Result<Ticket::State*> Ticket::Table::Acquire(const Request& request, WhenFull when_full) {
  MutexLock lock(mutex_);
  const bool possible = request.tokens <= token_ranges_.capacity() &&
                        request.staging_bytes <= staging_ranges_.capacity();
  while (!shut_down_) {
    Ticket::State* ticket = nullptr;
    std::string reason = TryTake(request, ticket);
    if (ticket != nullptr) return ticket;
    if (when_full == WhenFull::kRefuse || !possible) {
      return Status(StatusCode::kResourceExhausted, std::move(reason));
    }
    released_.Wait(mutex_);
  }
  return Status(StatusCode::kCancelled, "the store was closed");
}

void Ticket::Table::Release(Ticket::State& ticket) {
  ticket.End();
  MutexLock lock(mutex_);
  token_ranges_.Give(ticket.tokens);
  staging_ranges_.Give(ticket.staging);
  free_.push_back(&ticket);
  released_.NotifyAll();
}

void Ticket::Table::Shutdown() {
  std::size_t count = 0;
  {
    MutexLock lock(mutex_);
    shut_down_ = true;
    released_.NotifyAll();
    count = all_.size();
  }
  for (std::size_t i = 0; i < count; ++i) {
    Ticket::State* ticket = nullptr;
    {
      MutexLock lock(mutex_);
      ticket = all_[i].get();
    }
    ticket->Cancel(/*forget=*/true);  // Of a free one: nothing is under way.
  }
}

std::uint32_t Ticket::Table::tickets_in_use() {
  MutexLock lock(mutex_);
  return static_cast<std::uint32_t>(all_.size() - free_.size());
}

}  // namespace tiercel
