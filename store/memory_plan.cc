#include "store/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "store/fetch_table.h"
#include "store/io_thread.h"
#include "store/resident_part.h"
#include "store/ticket_state.h"
#include "store/ticket_table.h"
#include "store/waiter.h"

namespace tiercel {
namespace {

/// 32,768 groups keep one ring of depth 128 busy for 32,768 * 8 / 128 = 2,048 full
/// rounds: a lookup is not held up by the table before the disk holds it up. A quarter of
/// that does where memory is short.
constexpr std::uint32_t kLookupFetches = 32768;
/// Windows of tickets that may be under way: what is urgent is small or waits for the
/// disk, and two windows of the background keep it busy.
constexpr std::uint32_t kUrgentWindows = 2;
constexpr std::uint32_t kBackgroundWindows = 4;
/// Tickets that may have a chunk of waiters that is not full before the pool grows: more of
/// them wait for very few groups each.
constexpr std::uint32_t kTicketsWithChunk = 128;
/// Budgets below this have the smaller table.
constexpr std::uint64_t kSmallBudgetBytes = std::uint64_t{128} << 20;

void PlanTickets(const PrefetchLimits& limits, const Layout& layout, MemoryPlan& plan) {
  const bool small = plan.budget_bytes < kSmallBudgetBytes;
  const auto window = static_cast<std::uint32_t>(Ticket::State::WindowGroupsMax(layout));
  plan.urgent_credits = window * (small ? 1 : kUrgentWindows);
  plan.background_credits = window * (small ? 1 : kBackgroundWindows);
  const std::uint32_t waiters = plan.urgent_credits + plan.background_credits;
  plan.fetch_capacity = {.lookup_fetches = small ? kLookupFetches / 4 : kLookupFetches,
                         .ticket_fetches = waiters};
  plan.waiter_chunks =
      waiters / WaiterChunk::kCapacity + std::min(limits.tickets_max, kTicketsWithChunk);
  plan.ticket_bytes = Ticket::Table::MemoryBytes(limits) + plan.waiter_chunks * sizeof(WaiterChunk);
}

}  // namespace

std::uint64_t ScaleBytes(const CheckpointInfo& checkpoint, const Layout& layout) {
  std::uint64_t total = 0;
  for (const ServedLayer& served : layout.layers) {
    const std::vector<RowPart>& parts = checkpoint.layers[served.recipe_index].parts;
    const std::vector<RowRange> rows = RowsInReach(checkpoint.recipe, served.recipe_index);
    for (std::size_t part = 1; part < parts.size(); ++part) {
      total += ResidentPart::MemoryBytes(parts[part], rows);
    }
  }
  return total;
}

Result<MemoryPlan> PlanMemory(const StoreOptions& options, const CheckpointInfo& checkpoint,
                              const Layout& layout, std::uint32_t part_count_max,
                              const MemoryNeeds& needs, const Device& device) {
  MemoryPlan plan;
  plan.budget_bytes = options.dram_budget_bytes;
  plan.overlay_bytes = needs.overlay_bytes;
  PlanTickets(options.prefetch, layout, plan);
  plan.read_bytes = FetchTable::MemoryBytes(plan.fetch_capacity) +
                    options.io_thread_count *
                        (device.queue_size_bytes() +
                         IoThread::MemoryBytes(layout, part_count_max, options.queue_depth));
  const std::uint64_t fixed_bytes = plan.read_bytes + plan.ticket_bytes + plan.overlay_bytes;
  if (fixed_bytes >= plan.budget_bytes) {
    return Status(
        StatusCode::kResourceExhausted,
        fmt::format("a DRAM budget of {} B does not hold the read buffers of {} thread(s) "
                    "at depth {} ({} B), what tickets may take by PrefetchLimits ({} B) and "
                    "updated rows ({} B): raise the budget, or lower threads, depth or limits",
                    plan.budget_bytes, options.io_thread_count, options.queue_depth,
                    plan.read_bytes, plan.ticket_bytes, plan.overlay_bytes));
  }
  plan.checksum_bytes = needs.checksum_bytes;
  if (plan.checksum_bytes >= plan.budget_bytes - fixed_bytes) {
    return Status(
        StatusCode::kResourceExhausted,
        fmt::format("the checksums of the sidecar take {} B, but a DRAM budget of {} B "
                    "leaves {} B: raise the budget, or open without the sidecar",
                    plan.checksum_bytes, plan.budget_bytes, plan.budget_bytes - fixed_bytes));
  }
  const std::uint64_t left_bytes = plan.budget_bytes - fixed_bytes - plan.checksum_bytes;
  const std::uint64_t scale_bytes = ScaleBytes(checkpoint, layout);
  if (options.scales == ScalePlacement::kResident && scale_bytes >= left_bytes) {
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("resident scales take {} B, but a DRAM budget of {} B leaves {} B: "
                              "raise the budget or leave the scales on disk",
                              scale_bytes, plan.budget_bytes, left_bytes));
  }
  if (options.scales == ScalePlacement::kResident ||
      (options.scales == ScalePlacement::kAuto && scale_bytes <= left_bytes / 2)) {
    plan.scale_bytes = scale_bytes;
  }
  plan.cache_bytes = left_bytes - plan.scale_bytes;
  return plan;
}

}  // namespace tiercel
