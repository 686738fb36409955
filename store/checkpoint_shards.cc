#include "store/checkpoint_shards.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "base/errno_status.h"
#include "base/file.h"

namespace tiercel {
namespace {

constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kShardEnding = ".safetensors";
/// The index of 96,085 tensors has about 10 MB.
constexpr std::uint64_t kIndexSizeBytesMax = 256U << 20;
constexpr std::size_t kShardCountMax = 10'000;

/// A name that cannot lead out of the directory.
bool IsPlainFileName(std::string_view name) noexcept {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

/// Picks the wanted rows of {"metadata": ..., "weight_map": {tensor: shard}}.
class IndexReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  IndexReader(std::string_view source_name, const TensorFilter& wanted)
      : source_name_(source_name), wanted_(wanted) {}

  bool null() override { return Value(); }
  bool boolean(bool /*value*/) override { return Value(); }
  bool number_integer(number_integer_t /*value*/) override { return Value(); }
  bool number_unsigned(number_unsigned_t /*value*/) override { return Value(); }
  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return Value(); }
  bool binary(binary_t& /*value*/) override { return Value(); }

  bool string(string_t& value) override {
    if (!in_map_ || depth_ != 2) return Value();
    if (!wanted_(tensor_)) return true;
    if (!IsPlainFileName(value)) {
      return Fail(
          fmt::format("tensor {} is said to be in \"{}\"; a shard must be a plain file name "
                      "in the checkpoint's directory",
                      Printable(tensor_), Printable(value)));
    }
    entries_.push_back({tensor_, std::move(value)});
    return true;
  }
  bool start_object(std::size_t /*count*/) override {
    if (in_map_) return Value();
    if (depth_ == 1 && tensor_ == "weight_map") {
      if (map_seen_) return Fail("\"weight_map\" stands twice");
      map_seen_ = in_map_ = true;
    }
    return Open();
  }
  bool end_object() override {
    if (in_map_ && depth_ == 2) in_map_ = false;
    --depth_;
    return true;
  }
  bool start_array(std::size_t /*count*/) override { return in_map_ ? Value() : Open(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ <= 2) tensor_.assign(name);
    return true;
  }
  bool parse_error(std::size_t position, const std::string& /*last_token*/,
                   const nlohmann::detail::exception& error) override {
    return Fail(fmt::format("not JSON at byte {} ({})", position, Printable(error.what())));
  }

  std::string& error() { return error_; }
  std::vector<IndexEntry>& entries() { return entries_; }
  [[nodiscard]] bool map_seen() const noexcept { return map_seen_; }

 private:
  bool Open() {
    constexpr std::uint32_t kDepthMax = 64;
    return ++depth_ <= kDepthMax || Fail("nested deeper than 64 levels");
  }
  // A value that is no string.
  bool Value() {
    if (!in_map_) return true;
    return Fail(fmt::format("tensor {} has no shard name in \"weight_map\"", Printable(tensor_)));
  }
  bool Fail(std::string_view what) {
    error_ = fmt::format("{}: {}; fetch the file again", source_name_, what);
    return false;
  }

  std::string_view source_name_;
  const TensorFilter& wanted_;
  std::uint32_t depth_ = 0;
  bool map_seen_ = false;
  bool in_map_ = false;
  std::string tensor_;  // The last key of depth 1 or 2.
  std::vector<IndexEntry> entries_;
  std::string error_;
};

/// Names of all shards in a directory that has no index, sorted.
Result<std::vector<std::string>> ListShards(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator at(directory, error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    std::string name = at->path().filename().string();
    if (!name.ends_with(kShardEnding)) continue;
    if (names.size() == kShardCountMax) {
      return Status(
          StatusCode::kInvalidArgument,
          fmt::format("{} has more than {} files *{}", directory, kShardCountMax, kShardEnding));
    }
    names.push_back(std::move(name));
  }
  if (error) return ErrnoStatus(error.value(), fmt::format("list {}", directory));
  if (names.empty()) {
    return Status(StatusCode::kNotFound,
                  fmt::format("{} has neither {} nor a file *{}: is it a checkpoint's directory?",
                              directory, kIndexName, kShardEnding));
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string Join(const std::string& directory, std::string_view name) {
  return directory == "/" ? fmt::format("/{}", name) : fmt::format("{}/{}", directory, name);
}

/// Reads one shard's header and adds its table tensors to `found`.
Status ReadShard(const std::string& path, RecipeKind kind, const TensorFilter& wanted,
                 FoundTensors& found) {
  Result<FileDescriptor> file = OpenFile(path, O_RDONLY);
  if (!file.ok()) return std::move(file).TakeStatus();
  Result<SafetensorsHeader> header = ReadSafetensorsHeader(file.value(), path, wanted);
  if (!header.ok()) return std::move(header).TakeStatus();
  if (header.value().tensors.empty()) return {};
  Result<std::uint64_t> size_bytes = FileSizeBytes(file.value(), path);
  if (!size_bytes.ok()) return std::move(size_bytes).TakeStatus();

  const auto file_index = static_cast<std::uint32_t>(found.files.size());
  found.files.push_back({path, size_bytes.value()});
  for (TensorInfo& tensor : header.value().tensors) {
    const std::optional<TableTensorName> is = MatchTableTensor(kind, tensor.name);
    found.tensors.push_back({*is, std::move(tensor), file_index});
  }
  return {};
}

/// The shards that an index names, each with the tensors that it must hold.
Status ReadIndexedShards(const std::string& directory, const std::string& index_path,
                         std::vector<IndexEntry> entries, RecipeKind kind, FoundTensors& found) {
  std::sort(entries.begin(), entries.end(), [](const IndexEntry& a, const IndexEntry& b) {
    return a.shard != b.shard ? a.shard < b.shard : a.tensor < b.tensor;
  });
  for (auto first = entries.begin(); first != entries.end();) {
    const auto last = std::find_if(first, entries.end(), [&first](const IndexEntry& entry) {
      return entry.shard != first->shard;
    });
    const auto find = [first, last](std::string_view name) {
      const auto at = std::lower_bound(
          first, last, name,
          [](const IndexEntry& entry, std::string_view key) { return entry.tensor < key; });
      return at != last && at->tensor == name ? at : last;
    };
    const std::string path = Join(directory, first->shard);
    const std::size_t before = found.tensors.size();
    Status status = ReadShard(
        path, kind, [&](std::string_view name) { return find(name) != last; }, found);
    if (status.code() == StatusCode::kNotFound) {
      return Status(
          StatusCode::kNotFound,
          fmt::format("{}: tensor {} is said to be in {}, which is not there: fetch it "
                      "into {}",
                      index_path, Printable(first->tensor), Printable(first->shard), directory),
          status.os_error());
    }
    if (!status.ok()) return status;
    std::vector<bool> held(static_cast<std::size_t>(last - first));
    for (std::size_t i = before; i < found.tensors.size(); ++i) {
      held[static_cast<std::size_t>(find(found.tensors[i].info.name) - first)] = true;
    }
    const auto missing = std::find(held.begin(), held.end(), false);
    if (missing != held.end()) {
      return Status(
          StatusCode::kNotFound,
          fmt::format("{}: no tensor {}, though {} says so: the two are of different "
                      "versions; fetch both again",
                      path, Printable((first + (missing - held.begin()))->tensor), index_path));
    }
    first = last;
  }
  return {};
}

}  // namespace

Result<CheckpointPlace> LocateCheckpoint(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return ErrnoStatus(errno, fmt::format("open {}", path));
  CheckpointPlace place;
  if (S_ISDIR(info.st_mode)) {
    place.directory = path;
    while (place.directory.size() > 1 && place.directory.back() == '/') place.directory.pop_back();
    return place;
  }
  if (!S_ISREG(info.st_mode) || !path.ends_with(kShardEnding)) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{} is neither a directory nor a file *{}: give the checkpoint's "
                              "directory",
                              path, kShardEnding));
  }
  place.single_shard = path;
  place.directory = std::filesystem::path(path).parent_path().string();
  if (place.directory.empty()) place.directory = ".";
  return place;
}

Result<std::vector<IndexEntry>> ParseIndexFile(std::string_view text, std::string_view source_name,
                                               const TensorFilter& wanted) {
  // The parser takes a zero byte for the end.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: a zero byte at {}; fetch the file again", source_name, zero));
  }
  IndexReader reader(source_name, wanted);
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &reader)) {
    return Status(StatusCode::kInvalidArgument, std::move(reader.error()));
  }
  if (!reader.map_seen()) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: no object \"weight_map\"; fetch the file again", source_name));
  }
  std::vector<IndexEntry>& entries = reader.entries();
  std::sort(entries.begin(), entries.end(),
            [](const IndexEntry& a, const IndexEntry& b) { return a.tensor < b.tensor; });
  const auto twice =
      std::adjacent_find(entries.begin(), entries.end(),
                         [](const auto& a, const auto& b) { return a.tensor == b.tensor; });
  if (twice != entries.end()) {
    return Status(StatusCode::kInvalidArgument,
                  fmt::format("{}: tensor {} stands twice, in {} and in {}", source_name,
                              Printable(twice->tensor), Printable(twice->shard),
                              Printable(std::next(twice)->shard)));
  }
  return std::move(entries);
}

Result<FoundTensors> FindTableTensors(const CheckpointPlace& place, RecipeKind kind) {
  const TensorFilter wanted = [kind](std::string_view name) {
    return MatchTableTensor(kind, name).has_value();
  };
  FoundTensors found;
  if (!place.single_shard.empty()) {
    Status status = ReadShard(place.single_shard, kind, wanted, found);
    if (!status.ok()) return status;
    return found;
  }
  const std::string index_path = Join(place.directory, kIndexName);
  Result<std::string> text = ReadWholeFile(index_path, kIndexSizeBytesMax);
  if (text.ok()) {
    Result<std::vector<IndexEntry>> entries = ParseIndexFile(text.value(), index_path, wanted);
    if (!entries.ok()) return std::move(entries).TakeStatus();
    Status status =
        ReadIndexedShards(place.directory, index_path, std::move(entries).value(), kind, found);
    if (!status.ok()) return status;
    return found;
  }
  if (text.status().code() != StatusCode::kNotFound) return std::move(text).TakeStatus();
  Result<std::vector<std::string>> names = ListShards(place.directory);
  if (!names.ok()) return std::move(names).TakeStatus();
  for (const std::string& name : names.value()) {
    Status status = ReadShard(Join(place.directory, name), kind, wanted, found);
    if (!status.ok()) return status;
  }
  return found;
}

}  // namespace tiercel
