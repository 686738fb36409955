#include "io/aligned_buffer.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "base/errno_status.h"

namespace tiercel {

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  return *this;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ != nullptr) munmap(data_, size_bytes_);
}

Result<AlignedBuffer> AlignedBuffer::Make(std::uint64_t size_bytes, std::string_view what) {
  const auto page_bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  const std::uint64_t rounded_bytes = (size_bytes + page_bytes - 1) / page_bytes * page_bytes;
  // MAP_POPULATE: the first reads would otherwise pay the page faults.
  void* const data = mmap(nullptr, rounded_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (data == MAP_FAILED) {
    return ErrnoStatus(errno, fmt::format("memory of {} B for {}", rounded_bytes, what));
  }
  return AlignedBuffer(static_cast<std::byte*>(data), rounded_bytes);
}

}  // namespace tiercel
