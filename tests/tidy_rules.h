#ifndef TIERCEL_TESTS_TIDY_RULES_H_
#define TIERCEL_TESTS_TIDY_RULES_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::testing {

/// One text file of the source tree.
struct SourceFile {
  std::string path;  ///< From the root, with '/': "io/device.h".
  std::string text;
};

/// A broken rule.
struct Finding {
  std::string path;
  std::uint32_t line = 0;  ///< 1-based; 0: the file as a whole.
  std::string message;
};

/// "PATH:LINE: MESSAGE", one a line.
[[nodiscard]] std::string ToString(const std::vector<Finding>& findings);

/// All text files of the project's own folders under `root`, by path. Build
/// folders and tests/data are left out.
[[nodiscard]] std::vector<SourceFile> ReadSourceTree(const std::string& root);

/// True for .h, .c, .cc, .cu and .cuh.
[[nodiscard]] bool IsCxx(std::string_view path) noexcept;

/// `text` with comments (and, if asked for, what stands between quotes) blanked
/// out. Newlines stay, so that line numbers do too.
struct BlankOptions {
  bool strings = true;
};
[[nodiscard]] std::string Blank(std::string_view text, const BlankOptions& options);

/// Who may include whom (docs/design.md, section 3), rooted quotes, std alone in
/// public headers, CUDA where it belongs.
[[nodiscard]] std::vector<Finding> CheckIncludes(const SourceFile& file);
/// TIERCEL_DIR_FILE_H_ (TIERCEL_FILE_H_ for include/tiercel), opened and closed.
[[nodiscard]] std::vector<Finding> CheckIncludeGuard(const SourceFile& file);
/// At most 500 lines of at most 100 columns; no tab, no space at the end of a line.
[[nodiscard]] std::vector<Finding> CheckLines(const SourceFile& file);
/// No reminder left for later.
[[nodiscard]] std::vector<Finding> CheckReminders(const SourceFile& file);
/// No call that overruns, is not seeded, ends the process or writes to the
/// caller's stdout.
[[nodiscard]] std::vector<Finding> CheckCalls(const SourceFile& file);

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_TIDY_RULES_H_
