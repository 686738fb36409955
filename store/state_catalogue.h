#ifndef TIERCEL_STORE_STATE_CATALOGUE_H_
#define TIERCEL_STORE_STATE_CATALOGUE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/state_db.h"
#include "tiercel/checkpoint.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel {

inline constexpr std::uint32_t kStateVersion = 1;

/// A row of the table's own, by which the table is known again: shapes are the same for
/// every model of a family, contents are not.
struct StateSample {
  std::uint32_t layer_id = 0;
  RowId row{};
  std::uint64_t checksum = 0;  ///< Checksum64() of the stored row.
};

/// What the catalogue says of the table that a state belongs to.
struct StateCatalogue {
  struct Layer {
    std::uint32_t layer_id = 0;
    std::string row_format;
    std::uint32_t value_count = 0;
    std::uint32_t row_size_bytes = 0;
    std::uint64_t row_count = 0;
  };
  std::uint32_t version = kStateVersion;
  std::string table_path;
  std::uint64_t table_id = 0;  ///< Of the recipe and the layers.
  std::vector<Layer> layers;
  std::vector<StateSample> samples;
};

/// The catalogue of a new state for `checkpoint`, whole tables (no shard). No samples.
[[nodiscard]] StateCatalogue CatalogueOf(const CheckpointInfo& checkpoint);

/// The catalogue as the entry kTableEntry has it, with where the tables lie.
[[nodiscard]] std::string CatalogueToJson(const StateCatalogue& catalogue,
                                          const CheckpointInfo& checkpoint);

/// Errors: kCorruption (not what CatalogueToJson() writes), kInvalidArgument (a later
/// version). `state_path` is for the messages.
[[nodiscard]] Result<StateCatalogue> CatalogueFromJson(std::string_view json,
                                                       const std::string& state_path);

/// The catalogue of a state; nothing if it has none yet. Errors: as CatalogueFromJson() and
/// StateDb; kInvalidArgument (a database that is no state).
[[nodiscard]] Result<std::optional<StateCatalogue>> ReadCatalogue(StateDb& db);

/// OK if a state with the catalogue `found` may belong to the table of `wanted`: the same
/// recipe, and the same shape of every layer that `wanted` has. Errors: kInvalidArgument, by
/// what differs.
[[nodiscard]] Status CheckCatalogue(const StateCatalogue& found, const StateCatalogue& wanted,
                                    const std::string& state_path);

/// Rows to tell tables apart by: some of each layer, always the same ones. No checksums.
[[nodiscard]] std::vector<StateSample> RowsToSample(std::uint32_t layer_id,
                                                    std::uint64_t row_count);

}  // namespace tiercel

#endif  // TIERCEL_STORE_STATE_CATALOGUE_H_
