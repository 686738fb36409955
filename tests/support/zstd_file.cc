#include "tests/support/zstd_file.h"

#include <zstd.h>

#include <memory>

#include "base/check.h"
#include "tests/support/scratch_dir.h"

namespace tiercel::testing {

std::string ReadZstdSourceFile(std::string_view relative_path) {
  const std::string packed = ReadSourceFile(relative_path);
  const std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> context(ZSTD_createDCtx(),
                                                                     &ZSTD_freeDCtx);
  TIERCEL_CHECK(context != nullptr);
  // Streamed: a file made by a pipe does not state its size.
  std::string text;
  std::string chunk(ZSTD_DStreamOutSize(), '\0');
  ZSTD_inBuffer input{packed.data(), packed.size(), 0};
  std::size_t left = 1;
  while (left != 0) {
    ZSTD_outBuffer output{chunk.data(), chunk.size(), 0};
    const std::size_t before = input.pos;
    left = ZSTD_decompressStream(context.get(), &output, &input);
    TIERCEL_CHECK(ZSTD_isError(left) == 0);
    TIERCEL_CHECK(output.pos > 0 || input.pos > before);  // Else the file was cut off.
    text.append(chunk, 0, output.pos);
  }
  TIERCEL_CHECK(input.pos == packed.size());
  return text;
}

}  // namespace tiercel::testing
