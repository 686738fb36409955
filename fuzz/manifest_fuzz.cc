// Manifests of packed tables, and states of unfinished packs, that somebody else wrote:
// the decoder must end in time, refuse what it does not like with the file's name, and
// what it takes must come back as the same text.

#include <fmt/format.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/check.h"
#include "base/checksum.h"
#include "store/generation_writer.h"
#include "store/packed_manifest.h"

namespace {

using tiercel::StatusCode;

const std::string kName = "fuzz/manifest.json";
constexpr std::string_view kChecksumKey = ",\n \"checksum\": \"";

void Check(std::string_view text) {
  const tiercel::Result<tiercel::PackedManifest> manifest = tiercel::DecodeManifest(text, kName);
  if (!manifest.ok()) {
    TIERCEL_CHECK(manifest.status().code() == StatusCode::kInvalidArgument ||
                  manifest.status().code() == StatusCode::kCorruption);
    TIERCEL_CHECK(manifest.status().message().find(kName) != std::string_view::npos);
    return;
  }
  const std::string again = tiercel::EncodeManifest(manifest.value());
  TIERCEL_CHECK(tiercel::DecodeManifest(again, kName).ok());
  for (const tiercel::PackedLayer& layer : manifest.value().layers) {
    TIERCEL_CHECK(layer.packed_row_count() <= layer.row_count && layer.page_count() > 0);
    TIERCEL_CHECK(layer.file_name.find("..") == std::string::npos && layer.file_name[0] != '/');
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  Check(text);
  // With its checksum put right: a changed manifest would else get nowhere.
  const std::size_t end = text.rfind(kChecksumKey);
  const std::string_view body = text.substr(0, end == std::string_view::npos ? size : end);
  const std::uint64_t sum = tiercel::Checksum64(std::as_bytes(std::span(body)));
  Check(fmt::format("{}{}{:016x}\"}}\n", body, kChecksumKey, sum));
  const tiercel::Result<tiercel::GenerationProgress> progress =
      tiercel::GenerationProgress::Decode(text, kName);
  if (progress.ok()) {
    const auto again = tiercel::GenerationProgress::Decode(progress.value().Encode(), kName);
    TIERCEL_CHECK(again.ok() && again.value().digests == progress.value().digests);
  }
  return 0;
}
