#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "io/device.h"
#include "tiercel/disk_profile.h"

// A profile as JSON. It decides how a store reads, so it is believed only if it is whole:
// every key there, none unknown, every number possible, and the settings those that its
// own points give.

namespace tiercel {
namespace {

constexpr std::string_view kFormat = "tiercel disk profile";
constexpr std::uint64_t kVersion = 1;
constexpr std::size_t kPointCountMax = 1024;
constexpr std::size_t kTextSizeMax = 1024;
constexpr std::uint32_t kDepthMax = 4096;
// Beyond what any disk does; keeps sums and products of the figures finite.
constexpr double kFigureMax = 1e15;

/// Takes the keys of one object and keeps the first thing that was wrong with it.
class ObjectReader {
 public:
  /// `where` is put before keys in messages: "", "points[3].".
  ObjectReader(const nlohmann::json& object, std::string_view source_name, std::string where)
      : object_(object), source_name_(source_name), where_(std::move(where)) {
    if (!object.is_object()) Fail("", "is not an object");
  }

  std::string Text(const char* key) {
    const nlohmann::json* const value = Take(key);
    if (value == nullptr) return "";
    if (!value->is_string() || value->get_ref<const std::string&>().size() > kTextSizeMax) {
      Fail(key, fmt::format("must be a text of at most {} bytes", kTextSizeMax));
      return "";
    }
    return value->get<std::string>();
  }

  bool Flag(const char* key) {
    const nlohmann::json* const value = Take(key);
    if (value == nullptr) return false;
    if (!value->is_boolean()) Fail(key, "must be true or false");
    return value->is_boolean() && value->get<bool>();
  }

  std::uint64_t Integer(const char* key, std::uint64_t least, std::uint64_t most) {
    const nlohmann::json* const value = Take(key);
    if (value == nullptr) return 0;
    if (!value->is_number_unsigned() || value->get<std::uint64_t>() < least ||
        value->get<std::uint64_t>() > most) {
      Fail(key, fmt::format("must be an integer in [{}, {}]", least, most));
      return 0;
    }
    return value->get<std::uint64_t>();
  }

  std::uint32_t PowerOfTwo(const char* key, std::uint32_t most) {
    const auto value = static_cast<std::uint32_t>(Integer(key, 1, most));
    if (ok() && !std::has_single_bit(value)) Fail(key, "must be a power of two");
    return value;
  }

  double Number(const char* key) {
    const nlohmann::json* const value = Take(key);
    if (value == nullptr) return 0.0;
    const double number = value->is_number() ? value->get<double>() : -1.0;
    if (!(number >= 0.0 && number <= kFigureMax)) {
      Fail(key, fmt::format("must be a number in [0, {:g}]", kFigureMax));
      return 0.0;
    }
    return number;
  }

  const nlohmann::json* List(const char* key) {
    const nlohmann::json* const value = Take(key);
    if (value == nullptr) return nullptr;
    if (value->is_array() && !value->empty() && value->size() <= kPointCountMax) return value;
    Fail(key, fmt::format("must be a list of 1 to {} entries", kPointCountMax));
    return nullptr;
  }

  void Fail(std::string_view key, std::string_view what) {
    if (!status_.ok()) return;
    status_ = Status(StatusCode::kInvalidArgument,
                     fmt::format("{}: \"{}{}\" {}; measure the disk again with `tiercel calibrate`",
                                 source_name_, where_, key, what));
  }

  /// The first error; if there was none, one for a key that nobody has taken.
  Status Finish() {
    if (status_.ok()) {
      for (const auto& item : object_.items()) {
        if (!taken_.contains(item.key())) Fail(item.key(), "is not a key of a disk profile");
      }
    }
    return std::move(status_);
  }

  [[nodiscard]] bool ok() const noexcept { return status_.ok(); }

 private:
  const nlohmann::json* Take(const char* key) {
    if (!ok()) return nullptr;
    taken_.insert(key);
    const auto found = object_.find(key);
    if (found != object_.end()) return &*found;
    Fail(key, "is missing");
    return nullptr;
  }

  const nlohmann::json& object_;
  std::string_view source_name_;
  std::string where_;
  std::set<std::string> taken_;
  Status status_;
};

Result<DiskPoint> ReadPoint(const nlohmann::json& value, std::string_view source_name,
                            std::size_t index) {
  ObjectReader reader(value, source_name, fmt::format("points[{}].", index));
  constexpr auto kNsMax = static_cast<std::uint64_t>(kFigureMax);
  DiskPoint point;
  point.block_bytes = reader.PowerOfTwo("block_bytes", kReadBlockBytesMax);
  point.queue_depth = static_cast<std::uint32_t>(reader.Integer("queue_depth", 1, kDepthMax));
  point.iops = reader.Number("iops");
  point.p50_ns = reader.Integer("p50_ns", 0, kNsMax);
  point.p99_ns = reader.Integer("p99_ns", point.p50_ns, kNsMax);
  point.p999_ns = reader.Integer("p999_ns", point.p99_ns, kNsMax);
  point.cpu_ns_per_read = reader.Number("cpu_ns_per_read");
  if (reader.ok() && point.iops == 0.0) reader.Fail("iops", "is 0, which no disk does");
  if (Status status = reader.Finish(); !status.ok()) return status;
  return point;
}

Status ReadPoints(const nlohmann::json& list, std::string_view source_name, DiskProfile& profile) {
  for (std::size_t i = 0; i < list.size(); ++i) {
    Result<DiskPoint> point = ReadPoint(list[i], source_name, i);
    if (!point.ok()) return std::move(point).TakeStatus();
    const DiskPoint& next = point.value();
    if (i > 0) {
      const DiskPoint& last = profile.points.back();
      if (std::pair(last.block_bytes, last.queue_depth) >=
          std::pair(next.block_bytes, next.queue_depth)) {
        return Status(StatusCode::kInvalidArgument,
                      fmt::format("{}: \"points[{}]\" does not come after the one before it, by "
                                  "block_bytes, then queue_depth",
                                  source_name, i));
      }
    }
    profile.points.push_back(next);
  }
  return Status();
}

/// The settings must be those that the points give, or one of the two was changed.
Status CheckSettings(const DiskProfile& profile, std::string_view source_name) {
  Result<DiskChoice> choice = ChooseDiskSettings(profile.points);
  if (!choice.ok()) return std::move(choice).TakeStatus();
  const DiskChoice& right = choice.value();
  if (right.block_bytes == profile.block_bytes && right.queue_depth == profile.queue_depth) {
    return Status();
  }
  return Status(StatusCode::kInvalidArgument,
                fmt::format("{}: \"block_bytes\" {} and \"queue_depth\" {} do not follow from the "
                            "points, which give {} and {}; measure the disk again with `tiercel "
                            "calibrate`, or set the options of the store instead",
                            source_name, profile.block_bytes, profile.queue_depth,
                            right.block_bytes, right.queue_depth));
}

bool IsDiskName(std::string_view name) {
  return !name.empty() && name.size() <= 240 && name[0] != '.' &&
         name.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") ==
             std::string_view::npos;
}

}  // namespace

std::string DiskProfileJson(const DiskProfile& profile) {
  nlohmann::ordered_json points = nlohmann::ordered_json::array();
  for (const DiskPoint& point : profile.points) {
    points.push_back({{"block_bytes", point.block_bytes},
                      {"queue_depth", point.queue_depth},
                      {"iops", point.iops},
                      {"p50_ns", point.p50_ns},
                      {"p99_ns", point.p99_ns},
                      {"p999_ns", point.p999_ns},
                      {"cpu_ns_per_read", point.cpu_ns_per_read}});
  }
  const nlohmann::ordered_json json = {{"format", kFormat},
                                       {"version", kVersion},
                                       {"disk", profile.disk.name},
                                       {"disk_description", profile.disk.description},
                                       {"engine", profile.engine},
                                       {"engine_fallback", profile.engine_fallback},
                                       {"direct", profile.direct},
                                       {"block_bytes", profile.block_bytes},
                                       {"queue_depth", profile.queue_depth},
                                       {"points", std::move(points)}};
  // A description with bytes that are no UTF-8 must not end in an exception.
  return json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

Result<DiskProfile> ParseDiskProfile(std::string_view text, std::string_view source_name) {
  Result<nlohmann::json> parsed = ParseJson(text, source_name);
  if (!parsed.ok()) return std::move(parsed).TakeStatus();
  ObjectReader reader(parsed.value(), source_name, "");
  if (const std::string format = reader.Text("format"); reader.ok() && format != kFormat) {
    reader.Fail("format", fmt::format("is not '{}': this is another kind of file", kFormat));
  }
  const std::uint64_t version =
      reader.Integer("version", 0, std::numeric_limits<std::uint32_t>::max());
  if (reader.ok() && version != kVersion) {
    reader.Fail("version",
                fmt::format("is {}, and this program knows {} alone", version, kVersion));
  }
  DiskProfile profile;
  profile.disk.name = reader.Text("disk");
  if (reader.ok() && !IsDiskName(profile.disk.name)) reader.Fail("disk", "is not a disk's name");
  profile.disk.description = reader.Text("disk_description");
  profile.engine = reader.Text("engine");
  if (reader.ok() && profile.engine != "io_uring" && profile.engine != "pread") {
    reader.Fail("engine", "is neither io_uring nor pread");
  }
  profile.engine_fallback = reader.Text("engine_fallback");
  profile.direct = reader.Flag("direct");
  profile.block_bytes = reader.PowerOfTwo("block_bytes", kReadBlockBytesMax);
  profile.queue_depth = static_cast<std::uint32_t>(reader.Integer("queue_depth", 1, kDepthMax));
  const nlohmann::json* const points = reader.List("points");
  if (Status status = reader.Finish(); !status.ok()) return status;
  if (Status status = ReadPoints(*points, source_name, profile); !status.ok()) return status;
  if (Status status = CheckSettings(profile, source_name); !status.ok()) return status;
  return profile;
}

}  // namespace tiercel
