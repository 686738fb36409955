#ifndef TIERCEL_TESTS_SUPPORT_SCRATCH_DIR_H_
#define TIERCEL_TESTS_SUPPORT_SCRATCH_DIR_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace tiercel::testing {

/// A folder of the test's own, removed with all that is in it. Lies below
/// TEST_TMPDIR, TMPDIR or /var/tmp: a real disk, where O_DIRECT works.
class ScratchDir {
 public:
  ScratchDir();
  ScratchDir(const ScratchDir&) = delete;
  ScratchDir& operator=(const ScratchDir&) = delete;
  ~ScratchDir();

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// path() + "/" + name.
  [[nodiscard]] std::string File(std::string_view name) const;
  /// Writes `bytes` to File(name) and returns that path.
  std::string Write(std::string_view name, std::string_view bytes) const;

 private:
  std::string path_;
};

/// Turns over one bit of the byte at `offset_bytes` of a file.
void FlipBit(const std::string& path, std::uint64_t offset_bytes);

/// Text of a file of the source tree, such as "tests/data/golden/fp8_v41.json".
[[nodiscard]] std::string ReadSourceFile(std::string_view relative_path);

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_SUPPORT_SCRATCH_DIR_H_
