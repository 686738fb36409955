#ifndef TIERCEL_STORE_COMPACT_H_
#define TIERCEL_STORE_COMPACT_H_

#include <cstdint>

#include "tiercel/packed.h"
#include "tiercel/status.h"

namespace tiercel {

/// CompactTable() with the size of the pieces that a kill may cost.
[[nodiscard]] Result<CompactReport> CompactInPieces(const CompactOptions& wanted,
                                                    std::uint64_t sync_bytes);

}  // namespace tiercel

#endif  // TIERCEL_STORE_COMPACT_H_
