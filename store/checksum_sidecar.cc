#include "store/checksum_sidecar.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/byte_order.h"
#include "base/checksum.h"
#include "base/file.h"
#include "store/hot_set_file.h"

namespace tiercel {
namespace {

constexpr std::string_view kSidecarMagic = "TRCLSUM\n";
constexpr std::uint32_t kSidecarVersion = 1;
constexpr std::size_t kSidecarHeaderBytes = 56;

std::uint32_t SumOfPage(std::uint32_t file_index, std::uint64_t page,
                        std::span<const std::byte> bytes) noexcept {
  const std::uint64_t seed = (std::uint64_t{file_index} << 40) + page;
  return static_cast<std::uint32_t>(Checksum64(bytes, seed));
}

/// What the sums are of, for readers that know no checkpoint; padded to 8 bytes.
std::string DirectoryText(const CheckpointInfo& checkpoint, const ChecksumSidecar& sums,
                          std::uint64_t table_id) {
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (std::uint32_t i = 0; i < checkpoint.files.size(); ++i) {
    nlohmann::ordered_json ranges = nlohmann::ordered_json::array();
    for (const ChecksumSidecar::Range& range : sums.ranges(i)) {
      ranges.push_back({range.first_page, range.page_count});
    }
    files.push_back({{"name", std::filesystem::path(checkpoint.files[i].path).filename().string()},
                     {"size", checkpoint.files[i].size_bytes},
                     {"ranges", std::move(ranges)}});
  }
  const nlohmann::ordered_json json = {{"table_id", fmt::format("{:016x}", table_id)},
                                       {"files", std::move(files)}};
  std::string text = json.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

Status NoSidecar(const std::string& source_name, std::string_view what) {
  return Status(StatusCode::kInvalidArgument,
                fmt::format("{}: {}; make it again with `tiercel verify --write-checksums`",
                            source_name, what));
}

Status Damaged(const std::string& source_name, std::string_view what) {
  return Status(StatusCode::kCorruption,
                fmt::format("{}: {}: the file is damaged or cut short; make it again with `tiercel "
                            "verify --write-checksums`",
                            source_name, what));
}

}  // namespace

ChecksumSidecar ChecksumSidecar::ForTables(const CheckpointInfo& checkpoint) {
  ChecksumSidecar sidecar;
  for (const TableFile& file : checkpoint.files) {
    sidecar.files_.push_back({.size_bytes = file.size_bytes, .ranges = {}});
  }
  for (const LayerTable& layer : checkpoint.layers) {
    for (const RowPart& part : layer.parts) {
      assert(part.pages.rows_per_page == 0);
      for (const RowExtent& extent : part.extents) {
        const std::uint64_t end_bytes = extent.offset_bytes + extent.row_count * part.size_bytes;
        const std::uint64_t first_page = extent.offset_bytes / kPageBytes;
        sidecar.files_[extent.file_index].ranges.push_back(
            {.first_page = first_page,
             .page_count = (end_bytes + kPageBytes - 1) / kPageBytes - first_page,
             .first_sum = 0});
      }
    }
  }
  std::uint64_t sum_count = 0;
  for (File& file : sidecar.files_) {
    std::ranges::sort(file.ranges, {}, &Range::first_page);
    std::vector<Range> merged;
    for (const Range& range : file.ranges) {
      if (merged.empty() ||
          range.first_page > merged.back().first_page + merged.back().page_count) {
        merged.push_back(range);
        continue;
      }
      Range& last = merged.back();
      last.page_count =
          std::max(last.page_count, range.first_page + range.page_count - last.first_page);
    }
    for (Range& range : merged)
      range.first_sum = std::exchange(sum_count, sum_count + range.page_count);
    file.ranges = std::move(merged);
  }
  sidecar.sums_.resize(sum_count);
  return sidecar;
}

std::string ChecksumSidecar::DefaultPath(const CheckpointInfo& checkpoint) {
  struct stat info {};
  const bool directory = stat(checkpoint.path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
  return checkpoint.path + (directory ? "/tiercel.checksums" : ".checksums");
}

std::string ChecksumSidecar::Encode(const CheckpointInfo& checkpoint,
                                    std::uint64_t table_id) const {
  const std::string directory = DirectoryText(checkpoint, *this, table_id);
  const std::span<const std::byte> sums = std::as_bytes(std::span(sums_));
  std::string text(kSidecarHeaderBytes, '\0');
  std::memcpy(text.data(), kSidecarMagic.data(), kSidecarMagic.size());
  StoreLittleEndian(text.data() + 8, kSidecarVersion);
  StoreLittleEndian(text.data() + 12, kPageBytes);
  StoreLittleEndian(text.data() + 16, std::uint64_t{directory.size()});
  StoreLittleEndian(text.data() + 24, std::uint64_t{sums_.size()});
  StoreLittleEndian(text.data() + 32, Checksum64(std::as_bytes(std::span(directory))));
  StoreLittleEndian(text.data() + 40, Checksum64(sums));
  StoreLittleEndian(text.data() + 48, Checksum64(std::as_bytes(std::span(text)).first(48)));
  text.reserve(text.size() + directory.size() + sums.size());
  text += directory;
  text.append(reinterpret_cast<const char*>(sums.data()), sums.size());
  return text;
}

Result<ChecksumSidecar> ChecksumSidecar::Decode(std::span<const std::byte> bytes,
                                                const std::string& source_name,
                                                const CheckpointInfo& checkpoint,
                                                std::uint64_t table_id) {
  if (bytes.size() < kSidecarHeaderBytes) return Damaged(source_name, "has no whole header");
  if (std::memcmp(bytes.data(), kSidecarMagic.data(), kSidecarMagic.size()) != 0) {
    return NoSidecar(source_name, "is no checksum sidecar");
  }
  const auto version = LoadLittleEndian<std::uint32_t>(bytes.data() + 8);
  if (version != kSidecarVersion) {
    return NoSidecar(source_name, fmt::format("has version {}; this release reads {}", version,
                                              kSidecarVersion));
  }
  if (LoadLittleEndian<std::uint64_t>(bytes.data() + 48) != Checksum64(bytes.first(48))) {
    return Damaged(source_name, "the header's checksum does not hold");
  }
  ChecksumSidecar sidecar = ForTables(checkpoint);
  const std::string directory = DirectoryText(checkpoint, sidecar, table_id);
  const auto directory_bytes = LoadLittleEndian<std::uint64_t>(bytes.data() + 16);
  const auto sum_count = LoadLittleEndian<std::uint64_t>(bytes.data() + 24);
  if (LoadLittleEndian<std::uint32_t>(bytes.data() + 12) != kPageBytes ||
      directory_bytes > bytes.size() - kSidecarHeaderBytes ||
      sum_count != (bytes.size() - kSidecarHeaderBytes - directory_bytes) / sizeof(std::uint32_t) ||
      (bytes.size() - kSidecarHeaderBytes - directory_bytes) % sizeof(std::uint32_t) != 0) {
    return Damaged(source_name, "the header and the file's size contradict each other");
  }
  const std::span<const std::byte> stored_directory =
      bytes.subspan(kSidecarHeaderBytes, directory_bytes);
  const std::span<const std::byte> sums = bytes.subspan(kSidecarHeaderBytes + directory_bytes);
  if (LoadLittleEndian<std::uint64_t>(bytes.data() + 32) != Checksum64(stored_directory) ||
      LoadLittleEndian<std::uint64_t>(bytes.data() + 40) != Checksum64(sums)) {
    return Damaged(source_name, "a checksum of its contents does not hold");
  }
  // The text is a function of the tables: any other text is that of other tables.
  if (directory_bytes != directory.size() ||
      std::memcmp(stored_directory.data(), directory.data(), directory.size()) != 0 ||
      sum_count != sidecar.sums_.size()) {
    return NoSidecar(source_name, fmt::format("is not of the tables of {}", checkpoint.path));
  }
  std::memcpy(sidecar.sums_.data(), sums.data(), sums.size());
  return sidecar;
}

Result<ChecksumSidecar> ChecksumSidecar::Read(const std::string& path,
                                              const CheckpointInfo& checkpoint) {
  Result<TableIdentity> identity = IdentityOf(checkpoint);
  if (!identity.ok()) return std::move(identity).TakeStatus();
  // Names take a part of the text; what is beyond cannot be a sidecar of these tables.
  const std::uint64_t size_bytes_max =
      ForTables(checkpoint).sums_.size() * sizeof(std::uint32_t) + (std::uint64_t{64} << 20);
  Result<std::string> text = ReadWholeFile(path, size_bytes_max);
  if (!text.ok()) return std::move(text).TakeStatus();
  return Decode(std::as_bytes(std::span(text.value())), path, checkpoint,
                identity.value().table_id);
}

Result<std::optional<ChecksumSidecar>> ChecksumSidecar::Find(const CheckpointInfo& checkpoint,
                                                             ChecksumUse use,
                                                             const std::string& path) {
  using Sums = std::optional<ChecksumSidecar>;
  if (use == ChecksumUse::kOff || checkpoint.packed) return Sums();
  Result<ChecksumSidecar> sums = Read(path.empty() ? DefaultPath(checkpoint) : path, checkpoint);
  if (sums.ok()) return Sums(std::move(sums).value());
  const bool missing = sums.status().code() == StatusCode::kNotFound;
  if (missing && use == ChecksumUse::kAuto && path.empty()) return Sums();
  return std::move(sums).TakeStatus();
}

Status ChecksumSidecar::Write(const std::string& path, const CheckpointInfo& checkpoint) const {
  Result<TableIdentity> identity = IdentityOf(checkpoint);
  if (!identity.ok()) return std::move(identity).TakeStatus();
  return WriteFileAtomically(path, Encode(checkpoint, identity.value().table_id));
}

const std::uint32_t* ChecksumSidecar::SumOf(std::uint32_t file_index,
                                            std::uint64_t page) const noexcept {
  const std::vector<Range>& ranges = files_[file_index].ranges;
  const auto after =
      std::ranges::upper_bound(ranges, page, {}, &Range::first_page);  // Begins after the page.
  if (after == ranges.begin()) return nullptr;
  const Range& range = *std::prev(after);
  const std::uint64_t index = page - range.first_page;
  return index < range.page_count ? &sums_[range.first_sum + index] : nullptr;
}

void ChecksumSidecar::Set(std::uint32_t file_index, std::uint64_t page,
                          std::span<const std::byte> bytes) noexcept {
  const std::uint32_t* const sum = SumOf(file_index, page);
  assert(sum != nullptr);
  sums_[static_cast<std::size_t>(sum - sums_.data())] = SumOfPage(file_index, page, bytes);
}

FileSpan ChecksumSidecar::Cover(std::uint32_t file_index, std::uint64_t offset_bytes,
                                std::uint64_t size_bytes) const noexcept {
  const std::uint64_t begin = offset_bytes / kPageBytes * kPageBytes;
  const std::uint64_t end = (offset_bytes + size_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  return {.offset_bytes = begin,
          .size_bytes = std::min(end, files_[file_index].size_bytes) - begin};
}

std::uint32_t ChecksumSidecar::CoverSizeBytesMax(std::uint32_t size_bytes) noexcept {
  return (size_bytes + 2 * kPageBytes - 2) / kPageBytes * kPageBytes;
}

bool ChecksumSidecar::Intact(std::uint32_t file_index, std::uint64_t offset_bytes,
                             std::span<const std::byte> bytes) const noexcept {
  for (std::uint64_t page = offset_bytes / kPageBytes; !bytes.empty(); ++page) {
    const std::span<const std::byte> page_bytes =
        bytes.first(std::min<std::size_t>(bytes.size(), kPageBytes));
    const std::uint32_t* const sum = SumOf(file_index, page);
    if (sum == nullptr || *sum != SumOfPage(file_index, page, page_bytes)) return false;
    bytes = bytes.subspan(page_bytes.size());
  }
  return true;
}

std::uint64_t ChecksumSidecar::memory_bytes() const noexcept {
  std::uint64_t total = sums_.size() * sizeof(std::uint32_t);
  for (const File& file : files_) total += sizeof(File) + file.ranges.size() * sizeof(Range);
  return total;
}

}  // namespace tiercel
