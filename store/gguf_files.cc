#include "store/gguf_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "base/errno_status.h"
#include "base/file.h"
#include "store/safetensors.h"

namespace tiercel {
namespace {

constexpr std::string_view kGgufEnding = ".gguf";
constexpr std::string_view kSplitNo = "split.no";
constexpr std::string_view kSplitCount = "split.count";
constexpr std::string_view kSplitTensors = "split.tensors.count";
constexpr std::size_t kGgufModelsShown = 3;

/// Five digits and more, as "%05d" writes a number below 100,000.
std::optional<std::uint32_t> FiveDigits(std::string_view text) {
  std::uint32_t value = 0;
  const char* const end = text.data() + text.size();
  if (text.size() != 5 || std::from_chars(text.data(), end, value).ptr != end) return std::nullopt;
  return value;
}

/// An integer that stands alone under `key`. Errors: kInvalidArgument.
Result<std::optional<std::uint64_t>> SplitNumber(const GgufHeader& header, const std::string& path,
                                                 std::string_view key) {
  const auto found = header.values.find(key);
  if (found == header.values.end()) return std::optional<std::uint64_t>();
  if (found->second.is_array || found->second.integers.size() != 1) {
    return Status(StatusCode::kInvalidArgument, fmt::format("{}: {} is no integer", path, key));
  }
  return std::optional<std::uint64_t>(found->second.integers.front());
}

/// Names of the models in a directory: a split one by its first part.
Result<std::set<std::string>> ModelsIn(const std::string& directory) {
  std::set<std::string> models;
  std::error_code error;
  std::filesystem::directory_iterator at(directory, error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    const std::string path = at->path().string();
    if (!path.ends_with(kGgufEnding)) continue;
    const std::optional<GgufPartName> part = ParseGgufPartName(path);
    models.insert(part ? GgufPartPath(part->stem, 1, part->count) : path);
    if (models.size() > kGgufModelsShown) break;
  }
  if (error) return ErrnoStatus(error.value(), fmt::format("list {}", directory));
  return models;
}

/// Reads the parts one after another and holds each against the others.
///
/// Threading: one thread at a time.
class GgufPartReader {
 public:
  explicit GgufPartReader(const GgufFilter& filter) : wanted_(filter) {
    filter_.tensor = filter.tensor;
    filter_.key = [this](std::string_view key) {
      return key == kSplitNo || key == kSplitCount || key == kSplitTensors ||
             (found_.files.empty() && wanted_.key(key));
    };
  }
  GgufPartReader(const GgufPartReader&) = delete;
  GgufPartReader& operator=(const GgufPartReader&) = delete;

  /// `name`: what the path says of it; nothing for a model in one file.
  Status Add(const std::string& path, const std::optional<GgufPartName>& name) {
    Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
    if (!file.ok()) {
      if (name && file.status().code() == StatusCode::kNotFound) return Missing(path, *name);
      return std::move(file).TakeStatus();
    }
    Result<GgufHeader> read = ReadGgufHeader(file.value(), path, filter_);
    if (!read.ok()) return std::move(read).TakeStatus();
    GgufHeader& header = read.value();
    if (Status status = CheckSplit(header, path, name); !status.ok()) return status;
    Result<std::uint64_t> size_bytes = FileSizeBytes(file.value(), path);
    if (!size_bytes.ok()) return std::move(size_bytes).TakeStatus();

    const auto file_index = static_cast<std::uint32_t>(found_.files.size());
    tensor_count_ += header.tensor_count;
    for (GgufTensor& tensor : header.tensors) {
      if (!names_.insert(tensor.name).second) {
        return Status(
            StatusCode::kInvalidArgument,
            fmt::format("{}: tensor {} stands in another part too", path, Printable(tensor.name)));
      }
      found_.tensors.push_back({std::move(tensor), file_index});
    }
    if (file_index == 0) found_.values = std::move(header.values);
    found_.files.push_back({path, size_bytes.value()});
    return {};
  }

  Result<GgufFiles> Finish() {
    if (tensors_stated_ && *tensors_stated_ != tensor_count_) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("{}: {} is {}, but the {} parts have {} tensors: parts of different "
                      "models, or of different versions of one",
                      found_.files.front().path, kSplitTensors, *tensors_stated_,
                      found_.files.size(), tensor_count_));
    }
    return std::move(found_);
  }

 private:
  Status CheckSplit(const GgufHeader& header, const std::string& path,
                    const std::optional<GgufPartName>& name) {
    Result<std::optional<std::uint64_t>> no = SplitNumber(header, path, kSplitNo);
    if (!no.ok()) return std::move(no).TakeStatus();
    Result<std::optional<std::uint64_t>> count = SplitNumber(header, path, kSplitCount);
    if (!count.ok()) return std::move(count).TakeStatus();
    Result<std::optional<std::uint64_t>> tensors = SplitNumber(header, path, kSplitTensors);
    if (!tensors.ok()) return std::move(tensors).TakeStatus();
    const std::uint64_t part_count = name ? name->count : 1;
    const std::uint64_t part_index = name ? name->part - 1 : 0;
    // A model in one file need not say so. (0 is what some writers put there.)
    const std::uint64_t stated_count = std::max<std::uint64_t>(count.value().value_or(1), 1);
    if (stated_count != part_count || no.value().value_or(0) != part_index) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("{}: says that it is part {} of {} ({} from 0, {}), but its name makes it "
                      "part {} of {}: give it the name that it had, NAME-00001-of-00002.gguf",
                      path, no.value().value_or(0) + 1, stated_count, kSplitNo, kSplitCount,
                      part_index + 1, part_count));
    }
    if (tensors.value() && tensors_stated_ && *tensors.value() != *tensors_stated_) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("{}: {} is {}, but {} in {}: parts of different models", path, kSplitTensors,
                      *tensors.value(), *tensors_stated_, found_.files.front().path));
    }
    if (tensors.value() && part_count > 1) tensors_stated_ = *tensors.value();
    return {};
  }

  static Status Missing(const std::string& path, const GgufPartName& name) {
    return Status(StatusCode::kNotFound,
                  fmt::format("{} is not there: the model has {} parts; fetch all of them into one "
                              "directory",
                              path, name.count));
  }

  const GgufFilter& wanted_;
  GgufFilter filter_;
  GgufFiles found_;
  std::set<std::string> names_;
  std::uint64_t tensor_count_ = 0;
  std::optional<std::uint64_t> tensors_stated_;
};

}  // namespace

std::optional<GgufPartName> ParseGgufPartName(std::string_view path) {
  // "-00001-of-00007.gguf"
  constexpr std::size_t kTailBytes = 1 + 5 + 4 + 5 + 5;
  if (path.size() <= kTailBytes || !path.ends_with(kGgufEnding)) return std::nullopt;
  const std::string_view tail = path.substr(path.size() - kTailBytes);
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-") return std::nullopt;
  const std::optional<std::uint32_t> part = FiveDigits(tail.substr(1, 5));
  const std::optional<std::uint32_t> count = FiveDigits(tail.substr(10, 5));
  if (!part || !count || *part < 1 || *part > *count) return std::nullopt;
  return GgufPartName{.stem = std::string(path.substr(0, path.size() - kTailBytes)),
                      .part = *part,
                      .count = *count};
}

std::string GgufPartPath(std::string_view stem, std::uint32_t part, std::uint32_t count) {
  return fmt::format("{}-{:05}-of-{:05}{}", stem, part, count, kGgufEnding);
}

Result<std::optional<std::string>> FindGguf(const std::string& path) {
  struct stat info {};
  const auto none = std::optional<std::string>();
  if (stat(path.c_str(), &info) != 0) return none;  // For others to tell.
  if (!S_ISDIR(info.st_mode)) {
    // What is no regular file could make open() wait.
    return S_ISREG(info.st_mode) && path.ends_with(kGgufEnding) ? std::optional<std::string>(path)
                                                                : none;
  }
  struct stat config {};
  if (stat(fmt::format("{}/config.json", path).c_str(), &config) == 0) return none;
  Result<std::set<std::string>> models = ModelsIn(path);
  if (!models.ok()) return std::move(models).TakeStatus();
  const std::set<std::string>& found = models.value();
  if (found.empty()) return none;
  if (found.size() > 1) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} has several GGUF models, such as {} and {}: name the file", path,
                              *found.begin(), *std::next(found.begin())));
  }
  return std::optional<std::string>(*found.begin());
}

Result<GgufFiles> ReadGgufFiles(const std::string& path, const GgufFilter& filter) {
  GgufPartReader reader(filter);
  const std::optional<GgufPartName> name = ParseGgufPartName(path);
  if (!name) {
    if (Status status = reader.Add(path, std::nullopt); !status.ok()) return status;
    return reader.Finish();
  }
  for (std::uint32_t part = 1; part <= name->count; ++part) {
    const GgufPartName at{.stem = name->stem, .part = part, .count = name->count};
    const std::string part_path = GgufPartPath(at.stem, part, at.count);
    if (Status status = reader.Add(part_path, at); !status.ok()) return status;
  }
  return reader.Finish();
}

}  // namespace tiercel
