#ifndef TIERCEL_TOOLS_SVG_TEXT_H_
#define TIERCEL_TOOLS_SVG_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>

namespace tiercel::tools {

/// `text` for an XML document: markup is escaped; bytes that are not UTF-8, and
/// characters that XML 1.0 has no place for, become U+FFFD.
[[nodiscard]] std::string XmlEscape(std::string_view text);

/// Code points of `text`, about what is seen of it.
[[nodiscard]] std::size_t LetterCount(std::string_view text);

}  // namespace tiercel::tools

#endif  // TIERCEL_TOOLS_SVG_TEXT_H_
