#include <fmt/format.h>

#include <utility>

#include "store/ticket_state.h"
#include "store/ticket_table.h"
#include "tiercel/prefetch.h"

namespace tiercel {
namespace {

Status NoTicket() {
  return Status(StatusCode::kInvalidArgument,
                "the ticket is of no batch: it was moved from, or Start() failed");
}

Status NoLayer(std::uint32_t layer_id) {
  return Status(StatusCode::kNotFound, fmt::format("layer {} is none of the ticket's", layer_id));
}

}  // namespace

Ticket::Ticket(std::shared_ptr<Table> table, State* state) noexcept
    : table_(std::move(table)), state_(state) {}

Ticket::Ticket(Ticket&& other) noexcept
    : table_(std::move(other.table_)), state_(std::exchange(other.state_, nullptr)) {}

Ticket& Ticket::operator=(Ticket&& other) noexcept {
  if (this == &other) return *this;
  Drop();
  table_ = std::move(other.table_);
  state_ = std::exchange(other.state_, nullptr);
  return *this;
}

Ticket::~Ticket() {
  Drop();
}

void Ticket::Drop() noexcept {
  if (state_ == nullptr) return;
  state_->Cancel(/*forget=*/false);
  table_->Release(*std::exchange(state_, nullptr));
  table_.reset();
}

Status Ticket::Wait(std::uint32_t layer_id) {
  if (state_ == nullptr) return NoTicket();
  const std::optional<std::uint32_t> slot = state_->FindLayer(layer_id);
  if (!slot.has_value()) return NoLayer(layer_id);
  if (std::optional<Status> outcome = state_->Outcome(*slot)) return std::move(*outcome);
  state_->Promote(*slot);
  state_->Spin(*slot);
  state_->Sleep(*slot, std::nullopt);
  return std::move(*state_->Outcome(*slot));
}

Status Ticket::WaitAll() {
  if (state_ == nullptr) return NoTicket();
  Status first;
  for (std::uint32_t slot = 0; slot < state_->layer_count(); ++slot) {
    Status status = Wait(state_->LayerId(slot));
    if (first.ok()) first = std::move(status);
  }
  return first;
}

std::optional<Status> Ticket::WaitFor(std::uint32_t layer_id, std::chrono::nanoseconds timeout) {
  std::optional<Status> outcome = TryWait(layer_id);
  if (outcome.has_value()) return outcome;
  const std::uint32_t slot = *state_->FindLayer(layer_id);
  state_->Promote(slot);
  // A year at most: what is to come must not wrap round.
  constexpr std::chrono::nanoseconds kYear = std::chrono::hours(24 * 365);
  state_->Sleep(slot, std::chrono::steady_clock::now() + std::min(timeout, kYear));
  return state_->Outcome(slot);
}

std::optional<Status> Ticket::TryWait(std::uint32_t layer_id) {
  if (state_ == nullptr) return NoTicket();
  const std::optional<std::uint32_t> slot = state_->FindLayer(layer_id);
  if (!slot.has_value()) return NoLayer(layer_id);
  return state_->Outcome(*slot);
}

void Ticket::Promote() noexcept {
  if (state_ != nullptr) state_->Promote(std::nullopt);
}

void Ticket::Cancel() noexcept {
  if (state_ != nullptr) state_->Cancel(/*forget=*/false);
}

Result<TicketRows> Ticket::Rows(std::uint32_t layer_id) const {
  if (state_ == nullptr) return NoTicket();
  const std::optional<std::uint32_t> slot = state_->FindLayer(layer_id);
  if (!slot.has_value()) return NoLayer(layer_id);
  return state_->Rows(*slot);
}

Result<TicketStats> Ticket::Stats(std::uint32_t layer_id) const {
  if (state_ == nullptr) return NoTicket();
  const std::optional<std::uint32_t> slot = state_->FindLayer(layer_id);
  if (!slot.has_value()) return NoLayer(layer_id);
  return state_->Stats(*slot);
}

}  // namespace tiercel
