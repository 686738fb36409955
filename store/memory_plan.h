#ifndef TIERCEL_STORE_MEMORY_PLAN_H_
#define TIERCEL_STORE_MEMORY_PLAN_H_

#include <cstdint>

#include "io/device.h"
#include "store/fetch_table.h"
#include "store/space.h"
#include "tiercel/checkpoint.h"
#include "tiercel/status.h"
#include "tiercel/store.h"

namespace tiercel {

/// How a store's budget is spent. The parts sum to at most the budget.
struct MemoryPlan {
  std::uint64_t budget_bytes = 0;
  FetchTable::Capacity fetch_capacity;   ///< Fetches queued or under way.
  std::uint32_t urgent_credits = 0;      ///< Waiters of tickets with a deadline.
  std::uint32_t background_credits = 0;  ///< Waiters of tickets in the background.
  std::uint64_t read_bytes = 0;          ///< Queues, groups being read, fetch table.
  std::uint32_t waiter_chunks = 0;       ///< That they take.
  std::uint64_t ticket_bytes = 0;        ///< Tickets, with tokens, staging and waiters.
  std::uint64_t checksum_bytes = 0;      ///< The checksum sidecar's.
  std::uint64_t scale_bytes = 0;         ///< Resident scales; 0 where they stay on disk.
  std::uint64_t overlay_bytes = 0;       ///< Of updated rows; 0 without a state.
  std::uint64_t cache_bytes = 0;         ///< All the rest.
};

/// Memory that is taken before the plan is made, whatever the budget.
struct MemoryNeeds {
  std::uint64_t checksum_bytes = 0;  ///< Of the checksum sidecar; 0: there is none.
  std::uint64_t overlay_bytes = 0;   ///< Of updated rows.
};

/// Bytes of all parts but the first of every served layer, V4.1's scales: of the rows in
/// reach (see RowsInReach()).
[[nodiscard]] std::uint64_t ScaleBytes(const CheckpointInfo& checkpoint, const Layout& layout);

/// Divides options.dram_budget_bytes: what reading and updated rows need, then scales by
/// options.scales, the rest to the cache.
/// Errors: kResourceExhausted (the budget does not hold what reading needs, or the
/// scales that kResident demands; the message names the figures).
///   part_count_max  of the rows: see RowLocator::part_count_max().
[[nodiscard]] Result<MemoryPlan> PlanMemory(const StoreOptions& options,
                                            const CheckpointInfo& checkpoint, const Layout& layout,
                                            std::uint32_t part_count_max, const MemoryNeeds& needs,
                                            const Device& device);

}  // namespace tiercel

#endif  // TIERCEL_STORE_MEMORY_PLAN_H_
