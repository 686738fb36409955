// tiercel_store_start*, tiercel_ticket_*: rows on their way.

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "capi/convert.h"
#include "capi/errors.h"
#include "capi/handles.h"
#include "capi/start_options.h"
#include "capi/structs.h"
#include "tiercel/prefetch.h"
#include "tiercel/store.h"

using tiercel::Result;
using tiercel::Status;
using tiercel::Ticket;
namespace capi = tiercel::capi;

namespace tiercel::capi {
namespace {

using Layers = SmallArray<PrefetchLayer, 8>;

Status ToLayers(const tiercel_prefetch_layer* layers, std::size_t layer_count, Layers* result) {
  Status status = CheckArray(layers, layer_count, "layers");
  for (std::size_t i = 0; status.ok() && i < layer_count; ++i) {
    const tiercel_prefetch_layer* element = ElementAt(layers, i);
    if (element->struct_size != layers->struct_size) {
      return {StatusCode::kInvalidArgument,
              fmt::format("struct_size of layers[{}] is {}, of layers[0] {}; they must agree", i,
                          element->struct_size, layers->struct_size)};
    }
    tiercel_prefetch_layer layer = DefaultPrefetchLayer();
    status = ReadStruct(element, "layers", &layer);
    if (status.ok()) status = ToPrefetchLayer(layer, &(*result)[i]);
  }
  return status;
}

/// Puts what a wait said into *done and the Status of the call.
Status Answer(std::optional<Status> status, std::int32_t* done) {
  *done = status ? 1 : 0;
  return status ? std::move(*status) : Status();
}

/// Puts a started ticket into `handle` and hands that out.
Status GiveTicket(Result<Ticket> started, std::unique_ptr<tiercel_ticket> handle,
                  tiercel_ticket** ticket) {
  if (!started.ok()) return std::move(started).TakeStatus();
  handle->ticket = std::move(started).value();
  *ticket = handle.release();
  return {};
}

}  // namespace
}  // namespace tiercel::capi

tiercel_code tiercel_store_start(tiercel_store* store, const tiercel_token_run* runs,
                                 size_t run_count, const tiercel_prefetch_layer* layers,
                                 size_t layer_count, const tiercel_start_options* options,
                                 tiercel_ticket** ticket) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (ticket == nullptr) return capi::IsNull("ticket");
    *ticket = nullptr;
    if (store == nullptr) return capi::IsNull("store");
    tiercel::PrefetchOptions prefetch;
    Status status = capi::ToPrefetchOptions(options, &prefetch);
    capi::Runs token_runs(run_count);
    if (status.ok()) status = capi::ToRuns(runs, run_count, &token_runs);
    capi::Layers prefetch_layers(layer_count);
    if (status.ok()) status = capi::ToLayers(layers, layer_count, &prefetch_layers);
    if (!status.ok()) return status;
    auto handle = std::make_unique<tiercel_ticket>();
    return capi::GiveTicket(
        store->store->Start(token_runs.span(), prefetch_layers.span(), prefetch), std::move(handle),
        ticket);
  });
}

tiercel_code tiercel_store_start_rows(tiercel_store* store, const uint64_t* rows, size_t row_count,
                                      const tiercel_prefetch_layer* layer,
                                      const tiercel_start_options* options,
                                      tiercel_ticket** ticket) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (ticket == nullptr) return capi::IsNull("ticket");
    *ticket = nullptr;
    if (store == nullptr) return capi::IsNull("store");
    if (layer == nullptr) return capi::IsNull("layer");
    tiercel::PrefetchOptions prefetch;
    capi::Layers layers(1);
    Status status = capi::ToPrefetchOptions(options, &prefetch);
    if (status.ok()) status = capi::CheckArray(rows, row_count, "rows");
    if (status.ok()) status = capi::ToLayers(layer, 1, &layers);
    if (!status.ok()) return status;
    auto handle = std::make_unique<tiercel_ticket>();
    return capi::GiveTicket(
        store->store->StartRows(capi::ToRowIds(rows, row_count), layers[0], prefetch),
        std::move(handle), ticket);
  });
}

tiercel_code tiercel_ticket_wait(tiercel_ticket* ticket, uint32_t layer_id) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (ticket == nullptr) return capi::IsNull("ticket");
    return ticket->ticket.Wait(layer_id);
  });
}

tiercel_code tiercel_ticket_wait_all(tiercel_ticket* ticket) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (ticket == nullptr) return capi::IsNull("ticket");
    return ticket->ticket.WaitAll();
  });
}

tiercel_code tiercel_ticket_wait_for(tiercel_ticket* ticket, uint32_t layer_id, int64_t timeout_ns,
                                     int32_t* done) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (done == nullptr) return capi::IsNull("done");
    *done = 0;
    if (ticket == nullptr) return capi::IsNull("ticket");
    return capi::Answer(ticket->ticket.WaitFor(layer_id, std::chrono::nanoseconds(timeout_ns)),
                        done);
  });
}

tiercel_code tiercel_ticket_try_wait(tiercel_ticket* ticket, uint32_t layer_id,
                                     int32_t* done) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (done == nullptr) return capi::IsNull("done");
    *done = 0;
    if (ticket == nullptr) return capi::IsNull("ticket");
    return capi::Answer(ticket->ticket.TryWait(layer_id), done);
  });
}

tiercel_code tiercel_ticket_promote(tiercel_ticket* ticket) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (ticket == nullptr) return capi::IsNull("ticket");
    ticket->ticket.Promote();
    return {};
  });
}

tiercel_code tiercel_ticket_cancel(tiercel_ticket* ticket) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (ticket == nullptr) return capi::IsNull("ticket");
    ticket->ticket.Cancel();
    return {};
  });
}

void tiercel_ticket_drop(tiercel_ticket* ticket) noexcept {
  delete ticket;
}

tiercel_code tiercel_ticket_get_rows(const tiercel_ticket* ticket, uint32_t layer_id,
                                     tiercel_ticket_rows* rows) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (ticket == nullptr) return capi::IsNull("ticket");
    Result<tiercel::TicketRows> found = ticket->ticket.Rows(layer_id);
    if (!found.ok()) return std::move(found).TakeStatus();
    const tiercel::TicketRows& from = found.value();
    const tiercel_ticket_rows value = {
        .struct_size = sizeof(value),
        .rows = from.rows.data(),
        .rows_bytes = from.rows.size(),
        .row_stride_bytes = from.row_stride_bytes,
        .row_status = reinterpret_cast<const uint8_t*>(from.row_status.data()),
        .row_status_count = from.row_status.size()};
    return capi::WriteStruct(value, "rows", rows);
  });
}

tiercel_code tiercel_ticket_get_stats(const tiercel_ticket* ticket, uint32_t layer_id,
                                      tiercel_ticket_stats* stats) noexcept {
  return capi::Guarded(__func__, [&]() -> Status {
    if (ticket == nullptr) return capi::IsNull("ticket");
    Result<tiercel::TicketStats> found = ticket->ticket.Stats(layer_id);
    if (!found.ok()) return std::move(found).TakeStatus();
    const tiercel::TicketStats& from = found.value();
    const tiercel_ticket_stats value = {.struct_size = sizeof(value),
                                        .groups = from.groups,
                                        .dram_hits = from.dram_hits,
                                        .joined = from.joined,
                                        .fetches = from.fetches,
                                        .in_place_after_ns = from.in_place_after.count()};
    return capi::WriteStruct(value, "stats", stats);
  });
}
