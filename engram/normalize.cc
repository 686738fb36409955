#include "engram/normalize.h"

#include <fmt/format.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include <cstdint>

#include "engram/utf8.h"

namespace tiercel {
namespace {

/// Stands for a lone space while white space is stripped; the model's own choice, a
/// private-use character.
constexpr UChar32 kLoneSpace = 0xE000;

bool IsRunSpace(UChar32 c) noexcept {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/// NFKC, then NFD.
icu::UnicodeString Decompose(std::string_view text, UErrorCode& error) {
  const icu::Normalizer2* const nfkc = icu::Normalizer2::getNFKCInstance(error);
  const icu::Normalizer2* const nfd = icu::Normalizer2::getNFDInstance(error);
  if (U_FAILURE(error)) return {};
  const icu::StringPiece bytes(text.data(), static_cast<std::int32_t>(text.size()));
  return nfd->normalize(nfkc->normalize(icu::UnicodeString::fromUTF8(bytes), error), error);
}

/// Without marks, in lower case, runs of white space made one space.
icu::UnicodeString Fold(const icu::UnicodeString& text) {
  icu::UnicodeString folded;
  bool in_run = false;
  for (std::int32_t i = 0; i < text.length(); i = text.moveIndex32(i, 1)) {
    const UChar32 c = text.char32At(i);
    if ((U_GET_GC_MASK(c) & U_GC_M_MASK) != 0) continue;
    // The simple mapping is the full one here: the only code point with a longer lower
    // case, U+0130, was decomposed above.
    const UChar32 lower = u_tolower(c);
    const bool space = IsRunSpace(lower);
    if (!space || !in_run) folded.append(space ? UChar32{' '} : lower);
    in_run = space;
  }
  return folded;
}

void Strip(icu::UnicodeString& text) {
  std::int32_t end = text.length();
  while (end > 0) {
    const std::int32_t last = text.moveIndex32(end, -1);
    if (!u_isUWhiteSpace(text.char32At(last))) break;
    end = last;
  }
  std::int32_t start = 0;
  while (start < end && u_isUWhiteSpace(text.char32At(start))) start = text.moveIndex32(start, 1);
  text.retainBetween(start, end);
}

}  // namespace

Result<std::string> NormalizeTokenText(std::string_view text) {
  if (text.size() > (1U << 24) || !IsUtf8(text)) {
    return Status(StatusCode::kInvalidArgument, "token text is not UTF-8, or longer than 16 MiB");
  }
  UErrorCode error = U_ZERO_ERROR;
  icu::UnicodeString folded = Fold(Decompose(text, error));
  if (U_FAILURE(error)) {
    return Status(StatusCode::kUnavailable,
                  fmt::format("ICU cannot normalize: {}", u_errorName(error)));
  }
  if (folded == icu::UnicodeString(UChar32{' '})) folded = icu::UnicodeString(kLoneSpace);
  Strip(folded);
  // As the model does, also where the text held this character of its own.
  folded.findAndReplace(icu::UnicodeString(kLoneSpace), icu::UnicodeString(UChar32{' '}));
  std::string result;
  folded.toUTF8String(result);
  return result;
}

}  // namespace tiercel
