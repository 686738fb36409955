// Rows as the tables' files have them: for snapshots, and to tell tables apart.

#include <algorithm>

#include "base/clock.h"
#include "store/probe.h"
#include "store/store_impl.h"

namespace tiercel {
namespace {

constexpr std::size_t kBaseRowsAtOnce = 4096;

}  // namespace

void Store::Impl::LookupBase(std::span<const BaseRow> rows, const BatchLayer& output,
                             RowOutput format) {
  const std::uint32_t space = layout.layers[output.layer_index].base_space;
  const Lease<Batch> batch(batches);
  while (!rows.empty()) {
    batch->Reset(layout, format, waiters);
    batch->AddLayer(output);
    const std::span<const BaseRow> some = rows.first(std::min(rows.size(), kBaseRowsAtOnce));
    for (const BaseRow& each : some) {
      batch->AddWaiter(
          {.space = space, .layer_slot = 0, .key = Index(each.row), .row_index = each.row_index});
    }
    batch->Publish();
    (void)Launch(*this, *batch, FetchOwner::kLookup, /*may_block=*/true);
    batch->WaitAll();
    batch->waiters().Clear();
    rows = rows.subspan(some.size());
  }
}

}  // namespace tiercel
