#ifndef TIERCEL_STORE_GGUF_FILES_H_
#define TIERCEL_STORE_GGUF_FILES_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/gguf.h"
#include "tiercel/checkpoint.h"
#include "tiercel/status.h"

namespace tiercel {

/// What the name of one part of a split model says: "NAME-00001-of-00007.gguf".
struct GgufPartName {
  std::string stem;         ///< "NAME", with the directory before it.
  std::uint32_t part = 0;   ///< From 1 on.
  std::uint32_t count = 0;  ///< Parts of the set.
};

/// Nothing where `path` is not the name of a part.
[[nodiscard]] std::optional<GgufPartName> ParseGgufPartName(std::string_view path);
/// The name of a part: the other way round.
[[nodiscard]] std::string GgufPartPath(std::string_view stem, std::uint32_t part,
                                       std::uint32_t count);

/// The GGUF file that `path` stands for: itself if it is a file named *.gguf; the one model
/// (its first part) in a directory that has no config.json; nothing for any other path, one
/// that is not there included.
///
/// Errors: kInvalidArgument (several models in the directory), as ErrnoStatus.
[[nodiscard]] Result<std::optional<std::string>> FindGguf(const std::string& path);

/// A tensor and the file that it is in.
struct GgufPlacedTensor {
  GgufTensor tensor;
  std::uint32_t file_index = 0;  ///< Into GgufFiles::files.
};

/// All parts of a model.
struct GgufFiles {
  std::vector<TableFile> files;
  std::vector<GgufPlacedTensor> tensors;                 ///< The wanted ones, part by part.
  std::map<std::string, GgufValue, std::less<>> values;  ///< Of the first part.
};

/// Reads the headers of the file at `path`, or, where it is a part of a split model, of all of
/// the parts, which lie beside it. Their split.no, split.count and split.tensors.count must
/// agree with their names and with each other.
///
/// Errors: as ReadGgufHeader() and OpenFile(); kNotFound (a part that is missing),
/// kInvalidArgument (parts that do not belong together, a tensor in two of them).
[[nodiscard]] Result<GgufFiles> ReadGgufFiles(const std::string& path, const GgufFilter& filter);

}  // namespace tiercel

#endif  // TIERCEL_STORE_GGUF_FILES_H_
