#ifndef TIERCEL_ENGRAM_NORMALIZE_H_
#define TIERCEL_ENGRAM_NORMALIZE_H_

#include <string>
#include <string_view>

#include "tiercel/status.h"

namespace tiercel {

/// The text that tokens of one class share: NFKC, NFD, combining marks (category M)
/// dropped, each code point lowercased on its own, each run of space, tab, CR and LF
/// made one space, white space stripped at both ends unless one space is all there is.
///
/// Errors: kInvalidArgument (`text` is not UTF-8), kUnavailable (ICU has no data).
[[nodiscard]] Result<std::string> NormalizeTokenText(std::string_view text);

}  // namespace tiercel

#endif  // TIERCEL_ENGRAM_NORMALIZE_H_
