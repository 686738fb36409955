#include "tests/support/witness_device.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <span>
#include <utility>

#include "base/check.h"

namespace tiercel::testing {
namespace {

/// Gives each read a slot of its own, to know at its end what was asked for.
///
/// Threading: as ReadQueue.
class WitnessQueue final : public ReadQueue, private ReadSink {
 public:
  WitnessQueue(std::unique_ptr<ReadQueue> queue, const Device& device, WitnessLog& log)
      // One more than the depth: OnRead() may submit while its own is in use.
      : queue_(std::move(queue)), device_(device), log_(log), requests_(queue_->depth() + 1) {
    for (std::uint32_t i = 0; i < requests_.size(); ++i) free_.push_back(i);
  }

  [[nodiscard]] std::uint32_t depth() const noexcept override { return queue_->depth(); }
  [[nodiscard]] std::uint32_t in_flight() const noexcept override { return queue_->in_flight(); }

  void Submit(const ReadRequest& request) noexcept override {
    TIERCEL_CHECK(!free_.empty());
    const std::uint32_t index = free_.back();
    free_.pop_back();
    requests_[index] = request;
    ReadRequest inner = request;
    inner.tag = index;
    queue_->Submit(inner);
  }

  void Flush() noexcept override { queue_->Flush(); }

  void Run(ReadSink& sink, std::chrono::nanoseconds timeout) noexcept override {
    sink_ = &sink;
    queue_->Run(*this, timeout);
  }

  void Wake() noexcept override { queue_->Wake(); }

 private:
  void OnRead(const ReadCompletion& completion) noexcept override {
    const auto index = static_cast<std::uint32_t>(completion.tag);
    // Before it is passed on: whoever sees the row finds what was told of it.
    log_.Note(requests_[index], device_.Blocks(requests_[index]), completion);
    ReadCompletion outer = completion;
    outer.tag = requests_[index].tag;
    sink_->OnRead(outer);
    free_.push_back(index);
  }

  std::unique_ptr<ReadQueue> queue_;
  const Device& device_;
  WitnessLog& log_;
  ReadSink* sink_ = nullptr;
  std::vector<ReadRequest> requests_;
  std::vector<std::uint32_t> free_;
};

}  // namespace

FileBytes ReadFiles(const std::vector<std::string>& paths) {
  FileBytes files;
  for (const std::string& path : paths) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    TIERCEL_CHECK(file.is_open());
    std::vector<std::byte> bytes(static_cast<std::size_t>(file.tellg()));
    file.seekg(0);
    file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    TIERCEL_CHECK(file.good());
    files.push_back(std::move(bytes));
  }
  return files;
}

void WitnessLog::Note(const ReadRequest& request, const BlockSpan& blocks,
                      const ReadCompletion& completion) {
  if (completion.os_error != 0) {
    MutexLock lock(mutex_);
    Failed& failed = files_[request.file_index].failed[request.offset_bytes];
    failed.size_bytes = std::max(failed.size_bytes, request.size_bytes);
    (completion.os_error == ENODATA ? failed.no_data : failed.io_error) = true;
    failed_size_bytes_max_ = std::max(failed_size_bytes_max_, request.size_bytes);
    return;
  }
  // All of the blocks: other rows may be served from them.
  const std::span<const std::byte> got = completion.blocks;
  const std::span<const std::byte> file = truth_[request.file_index];
  TIERCEL_CHECK(got.size() <= file.size() - blocks.offset_bytes);
  const std::span<const std::byte> want = file.subspan(blocks.offset_bytes, got.size());
  if (std::memcmp(got.data(), want.data(), got.size()) == 0) return;
  MutexLock lock(mutex_);
  ++wrong_reads_;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const auto difference = std::to_integer<unsigned>(got[i] ^ want[i]);
    for (std::uint32_t bit = 0; bit < 8; ++bit) {
      if ((difference >> bit & 1U) == 0) continue;
      files_[request.file_index].wrong_bits.insert((blocks.offset_bytes + i) * 8 + bit);
    }
  }
}

WitnessLog::Told WitnessLog::At(std::uint32_t file_index, std::uint64_t offset_bytes,
                                std::uint32_t size_bytes) const {
  Told told;
  MutexLock lock(mutex_);
  const auto found = files_.find(file_index);
  if (found == files_.end()) return told;
  const File& file = found->second;
  const std::uint64_t end = offset_bytes + size_bytes;
  const std::uint64_t first =
      offset_bytes - std::min<std::uint64_t>(offset_bytes, failed_size_bytes_max_);
  for (auto it = file.failed.lower_bound(first); it != file.failed.end() && it->first < end; ++it) {
    if (it->first + it->second.size_bytes <= offset_bytes) continue;
    told.io_error |= it->second.io_error;
    told.no_data |= it->second.no_data;
  }
  for (auto it = file.wrong_bits.lower_bound(offset_bytes * 8);
       it != file.wrong_bits.end() && *it < end * 8; ++it) {
    told.wrong_bits.push_back(static_cast<std::uint32_t>(*it - offset_bytes * 8));
  }
  return told;
}

std::uint64_t WitnessLog::wrong_reads() const {
  MutexLock lock(mutex_);
  return wrong_reads_;
}

Result<std::unique_ptr<ReadQueue>> WitnessDevice::NewQueue() {
  Result<std::unique_ptr<ReadQueue>> queue = device_->NewQueue();
  if (!queue.ok()) return std::move(queue).TakeStatus();
  return std::unique_ptr<ReadQueue>(
      std::make_unique<WitnessQueue>(std::move(queue).value(), *device_, log_));
}

}  // namespace tiercel::testing
