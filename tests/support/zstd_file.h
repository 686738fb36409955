#ifndef TIERCEL_TESTS_SUPPORT_ZSTD_FILE_H_
#define TIERCEL_TESTS_SUPPORT_ZSTD_FILE_H_

#include <string>
#include <string_view>

namespace tiercel::testing {

/// The decompressed bytes of a .zst file of the source tree, such as
/// "tests/data/tokenizer_deepseek_v3.json.zst". A file that is missing or damaged
/// ends the test program.
[[nodiscard]] std::string ReadZstdSourceFile(std::string_view relative_path);

}  // namespace tiercel::testing

#endif  // TIERCEL_TESTS_SUPPORT_ZSTD_FILE_H_
