#ifndef TIERCEL_TOOLS_ROW_FILE_H_
#define TIERCEL_TOOLS_ROW_FILE_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tiercel/checkpoint.h"
#include "tiercel/status.h"
#include "tiercel/types.h"

namespace tiercel::tools {

/// Rows with their ids in a safetensors file: for each layer L, a tensor `layers.L.ids` of n
/// ids (I64, U64, I32 or U32) and one `layers.L.rows` of n rows, of any type and shape whose
/// first dimension is n. docs/format.md says more.
///
/// Threading: one thread at a time.
class RowFile {
 public:
  /// Rows of one layer.
  struct Layer {
    std::uint32_t layer_id = 0;
    std::uint64_t row_count = 0;
    std::uint32_t row_size_bytes = 0;
    std::uint32_t id_size_bytes = 0;
    std::uint64_t ids_offset_bytes = 0;   ///< In the file.
    std::uint64_t rows_offset_bytes = 0;  ///< In the file.
  };

  /// Reads the header and checks it against `checkpoint`. Errors: kInvalidArgument (not such a
  /// file, a layer that there is not, rows of another size; the message names the tensor),
  /// kCorruption (cut short), kNotFound, kPermissionDenied, kIoError.
  [[nodiscard]] static Result<RowFile> Open(const std::string& path,
                                            const CheckpointInfo& checkpoint);

  [[nodiscard]] const std::vector<Layer>& layers() const noexcept { return layers_; }
  /// Of all layers.
  [[nodiscard]] std::uint64_t row_count() const noexcept;

  /// Reads rows [first, first + ids.size()) of a layer.
  ///
  ///   ids   shape [n].
  ///   rows  shape [n, row_size_bytes].
  ///
  /// Errors: kInvalidArgument (a negative id), kCorruption, kIoError.
  [[nodiscard]] Status Read(const Layer& layer, std::uint64_t first, std::span<RowId> ids,
                            std::span<std::byte> rows);

 private:
  struct Closer {
    void operator()(std::FILE* file) const noexcept { std::fclose(file); }
  };

  RowFile() = default;
  [[nodiscard]] Status ReadAt(std::uint64_t offset_bytes, std::span<std::byte> target);
  [[nodiscard]] Status ParseHeader(const std::string& text, std::uint64_t data_offset_bytes,
                                   std::uint64_t file_bytes, const CheckpointInfo& checkpoint);

  std::string path_;
  std::unique_ptr<std::FILE, Closer> file_;
  std::vector<Layer> layers_;
};

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_ROW_FILE_H_
