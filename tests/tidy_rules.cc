#include "tests/tidy_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>
#include <sstream>

namespace tiercel::testing {
namespace {

namespace fs = std::filesystem;

constexpr std::array kFolders = {"base",  "bench",  "cache", "capi",    "cmake",   "cuda",
                                 "docs",  "engram", "fuzz",  "include", "python",  "scripts",
                                 "store", "io",     "tests", "tools",   "examples"};
constexpr std::size_t kLinesMax = 500;
constexpr std::size_t kColumnsMax = 100;

/// Folder of a file -> folders that it may include from.
const std::map<std::string, std::set<std::string>, std::less<>>& Arrows() {
  static const std::map<std::string, std::set<std::string>, std::less<>> arrows = [] {
    std::map<std::string, std::set<std::string>, std::less<>> result = {
        {"include", {"include"}},
        {"base", {"base", "include"}},
        {"io", {"io", "base", "include"}},
        {"cache", {"cache", "base", "include"}},
        {"engram", {"engram", "base", "include"}},
        {"store", {"store", "io", "cache", "engram", "base", "include"}},
        {"cuda", {"cuda", "cache", "engram", "base", "include"}},
        {"capi", {"capi", "include"}},
        {"tools", {"tools", "include"}},
        {"examples", {"examples", "include"}},
        {"python", {"python", "include"}},
    };
    std::set<std::string> all = {"tests", "bench", "fuzz"};
    for (const auto& [folder, targets] : result) all.insert(folder);
    for (const char* folder : {"tests", "bench", "fuzz"}) result[folder] = all;
    return result;
  }();
  return arrows;
}

/// The library's own folders: code that runs inside a caller's process.
bool IsLibrary(std::string_view folder) noexcept {
  constexpr std::array kLibrary = {"include", "base",  "engram", "io",
                                   "cache",   "store", "cuda",   "capi"};
  return std::find(kLibrary.begin(), kLibrary.end(), folder) != kLibrary.end();
}

std::string FolderOf(std::string_view path) {
  const std::string folder(path.substr(0, path.find('/')));
  return folder == "tiercel" ? "include" : folder;
}

std::vector<std::string_view> Lines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

bool IsWord(char c) noexcept {
  return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/// Position of `word` in `line` as a word of its own, if it is there.
std::optional<std::size_t> FindWord(std::string_view line, std::string_view word) {
  for (std::size_t at = line.find(word); at != std::string_view::npos;
       at = line.find(word, at + 1)) {
    const std::size_t after = at + word.size();
    if ((at == 0 || !IsWord(line[at - 1])) && (after == line.size() || !IsWord(line[after]))) {
      return at;
    }
  }
  return std::nullopt;
}

struct Include {
  std::uint32_t line = 0;
  bool quoted = false;
  std::string name;
};

std::vector<Include> Includes(std::string_view text) {
  std::vector<Include> includes;
  const std::string code = Blank(text, {.strings = false});
  const std::vector<std::string_view> lines = Lines(code);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::string_view line = lines[i];
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    if (!line.starts_with('#') || !FindWord(line, "include")) continue;
    const std::size_t open = line.find_first_of("\"<");
    if (open == std::string_view::npos) continue;
    const bool quoted = line[open] == '"';
    const std::size_t close = line.find(quoted ? '"' : '>', open + 1);
    if (close == std::string_view::npos) continue;
    includes.push_back({static_cast<std::uint32_t>(i + 1), quoted,
                        std::string(line.substr(open + 1, close - open - 1))});
  }
  return includes;
}

/// Why a file may not include <name>; empty if it may.
std::string AngleObjection(std::string_view path, std::string_view folder, std::string_view name) {
  if (name.starts_with("cuda") || name.starts_with("cub/") || name.starts_with("thrust/")) {
    const bool allowed = folder == "cuda" || folder == "bench" ||
                         path == "include/tiercel/cuda.h" || path.starts_with("tests/cuda/") ||
                         path.starts_with("examples/");
    return allowed ? "" : "CUDA headers belong to cuda/ and tiercel/cuda.h";
  }
  const bool ours = Arrows().contains(FolderOf(name)) && name.find('/') != std::string_view::npos;
  if (ours && folder != "examples") return "a header of ours is included with quotes";
  if (folder == "include") {
    const bool c_abi =
        path.starts_with("include/tiercel/tiercel") && (name == "stddef.h" || name == "stdint.h");
    const bool standard = name.find_first_of("/.") == std::string_view::npos;
    return standard || c_abi ? ""
                             : "a public header includes the standard library and tiercel/ only";
  }
  if (folder == "cache") {
    constexpr std::array kKept = {"thread", "fstream", "filesystem", "fcntl.h", "liburing.h"};
    if (std::find(kKept.begin(), kKept.end(), name) != kKept.end()) {
      return "cache/ opens no file and starts no thread";
    }
  }
  if (name == "liburing.h" && folder != "io" && folder != "tests" && folder != "bench") {
    return "io_uring is io/'s own";
  }
  return "";
}

SourceFile ReadFile(const fs::path& root, const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return {path.lexically_relative(root).generic_string(), std::move(text).str()};
}

bool IsText(const fs::path& path) {
  constexpr std::array kExtensions = {".h",     ".c",  ".cc", ".cu", ".cuh", ".map",
                                      ".cmake", ".py", ".sh", ".md", ".in",  ".txt"};
  return std::find(kExtensions.begin(), kExtensions.end(), path.extension().string()) !=
         kExtensions.end();
}

}  // namespace

std::string ToString(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    text += fmt::format("{}:{}: {}\n", finding.path, finding.line, finding.message);
  }
  return text;
}

bool IsCxx(std::string_view path) noexcept {
  return path.ends_with(".h") || path.ends_with(".c") || path.ends_with(".cc") ||
         path.ends_with(".cu") || path.ends_with(".cuh");
}

std::vector<SourceFile> ReadSourceTree(const std::string& root) {
  std::vector<SourceFile> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(root)) {
    if (entry.is_regular_file() && IsText(entry.path())) {
      files.push_back(ReadFile(root, entry.path()));
    }
  }
  for (const char* folder : kFolders) {
    if (!fs::exists(fs::path(root) / folder)) continue;
    fs::recursive_directory_iterator walk(fs::path(root) / folder);
    for (const fs::directory_entry& entry : walk) {
      const std::string name = entry.path().filename().string();
      if (entry.is_directory() && (name == "data" || name == "build" || name.starts_with('.'))) {
        walk.disable_recursion_pending();
      } else if (entry.is_regular_file() && IsText(entry.path())) {
        files.push_back(ReadFile(root, entry.path()));
      }
    }
  }
  std::sort(files.begin(), files.end(),
            [](const SourceFile& a, const SourceFile& b) { return a.path < b.path; });
  return files;
}

std::string Blank(std::string_view text, const BlankOptions& options) {
  std::string result(text);
  auto blank = [&](std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i) {
      if (result[i] != '\n') result[i] = ' ';
    }
  };
  std::size_t at = 0;
  while (at < text.size()) {
    const std::string_view rest = text.substr(at);
    // The length of what starts here, and where its insides lie.
    std::size_t end = 0;
    if (rest.starts_with("//")) {
      end = std::min(text.find('\n', at), text.size());
      blank(at, end);
    } else if (rest.starts_with("/*")) {
      end = std::min(text.find("*/", at + 2), text.size() - 2) + 2;
      blank(at, end);
    } else if (rest.starts_with("R\"") && (at == 0 || !IsWord(text[at - 1]))) {
      const std::size_t open = std::min(text.find('(', at), text.size() - 1);
      const std::string closing = ")" + std::string(text.substr(at + 2, open - at - 2)) + "\"";
      end = std::min(text.find(closing, open), text.size() - closing.size()) + closing.size();
      if (options.strings) blank(at, end);
    } else if (rest[0] == '"' || (rest[0] == '\'' && (at == 0 || !IsWord(text[at - 1])))) {
      end = at + 1;
      while (end < text.size() && text[end] != rest[0] && text[end] != '\n') {
        end += text[end] == '\\' ? 2 : 1;
      }
      end = std::min(end + 1, text.size());
      if (options.strings) blank(at, end);
    } else {
      end = at + 1;
    }
    at = end;
  }
  return result;
}

std::vector<Finding> CheckIncludes(const SourceFile& file) {
  std::vector<Finding> findings;
  const std::string folder = FolderOf(file.path);
  const auto arrows = Arrows().find(folder);
  if (arrows == Arrows().end()) return {{file.path, 0, "a folder that no include rule names"}};
  for (const Include& include : Includes(file.text)) {
    std::string objection;
    if (!include.quoted) {
      objection = AngleObjection(file.path, folder, include.name);
    } else if (!Arrows().contains(FolderOf(include.name)) || include.name.starts_with("include/") ||
               include.name.find("..") != std::string::npos) {
      objection = "includes in quotes start at the root: \"io/device.h\", \"tiercel/store.h\"";
    } else if (!arrows->second.contains(FolderOf(include.name))) {
      objection = fmt::format("{}/ may not include {}/", folder, FolderOf(include.name));
    } else if (include.name == "tiercel/cuda.h" && folder != "cuda" && folder != "bench" &&
               folder != "examples" && !file.path.starts_with("tests/cuda/")) {
      objection = "tiercel/cuda.h needs CUDA; what builds without it may not include it";
    }
    if (!objection.empty()) {
      findings.push_back(
          {file.path, include.line, fmt::format("includes {}: {}", include.name, objection)});
    }
  }
  return findings;
}

std::vector<Finding> CheckIncludeGuard(const SourceFile& file) {
  if (!file.path.ends_with(".h") && !file.path.ends_with(".cuh")) return {};
  std::string_view name = file.path;
  if (name.starts_with("include/tiercel/")) name.remove_prefix(16);
  std::string guard = "TIERCEL_";
  for (const char c : name) guard += IsWord(c) ? static_cast<char>(std::toupper(c)) : '_';
  guard += '_';
  const std::string code = Blank(file.text, {});
  const std::size_t first = code.find_first_not_of(" \n");
  const std::string opening = fmt::format("#ifndef {0}\n#define {0}\n", guard);
  if (first == std::string::npos || !std::string_view(code).substr(first).starts_with(opening) ||
      !file.text.ends_with(fmt::format("#endif  // {}\n", guard))) {
    return {{file.path, 1, fmt::format("the include guard is to be {}", guard)}};
  }
  return {};
}

std::vector<Finding> CheckLines(const SourceFile& file) {
  std::vector<Finding> findings;
  const std::vector<std::string_view> lines = Lines(file.text);
  if (lines.size() > kLinesMax) {
    findings.push_back({file.path, 0, fmt::format("{} lines; split the file", lines.size())});
  }
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto line = static_cast<std::uint32_t>(i + 1);
    // Columns are code points: every UTF-8 byte but the continuations.
    const auto columns =
        std::count_if(lines[i].begin(), lines[i].end(), [](char c) { return (c & 0xC0) != 0x80; });
    if (static_cast<std::size_t>(columns) > kColumnsMax) {
      findings.push_back({file.path, line, fmt::format("{} columns", columns)});
    }
    if (lines[i].find('\t') != std::string_view::npos)
      findings.push_back({file.path, line, "a tab"});
    if (lines[i].ends_with(' ')) findings.push_back({file.path, line, "a space at the end"});
  }
  return findings;
}

std::vector<Finding> CheckReminders(const SourceFile& file) {
  // In two halves, so that this file does not find itself.
  const std::array<std::string, 3> reminders = {std::string("TO") + "DO", std::string("FIX") + "ME",
                                                std::string("XX") + "X"};
  std::vector<Finding> findings;
  const std::vector<std::string_view> lines = Lines(file.text);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    for (const std::string& reminder : reminders) {
      if (FindWord(lines[i], reminder)) {
        findings.push_back(
            {file.path, static_cast<std::uint32_t>(i + 1), "a reminder was left: " + reminder});
      }
    }
  }
  return findings;
}

std::vector<Finding> CheckCalls(const SourceFile& file) {
  struct Banned {
    std::string_view call;
    std::string_view why;
    bool library_only;
  };
  constexpr std::array<Banned, 10> kBanned = {{
      {"strcpy", "does not know the room it has", false},
      {"strcat", "does not know the room it has", false},
      {"sprintf", "does not know the room it has; use fmt", false},
      {"vsprintf", "does not know the room it has; use fmt", false},
      {"gets", "does not know the room it has", false},
      {"rand", "is not seeded per test; use base/prng.h", false},
      {"srand", "is not seeded per test; use base/prng.h", false},
      {"abort", "belongs to TIERCEL_CHECK (base/check.h)", true},
      {"exit", "the process is the caller's", true},
      {"printf", "stdout is the caller's", true},
  }};
  std::vector<Finding> findings;
  const bool library = IsLibrary(FolderOf(file.path));
  const std::string code = Blank(file.text, {});
  const std::vector<std::string_view> lines = Lines(code);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    const auto line = static_cast<std::uint32_t>(i + 1);
    for (const Banned& banned : kBanned) {
      if (banned.library_only && !library) continue;
      if (banned.call == "abort" && file.path == "base/check.h") continue;
      const std::optional<std::size_t> at = FindWord(lines[i], banned.call);
      if (!at || !lines[i].substr(*at + banned.call.size()).starts_with('(')) continue;
      findings.push_back({file.path, line, fmt::format("{}() {}", banned.call, banned.why)});
    }
    if (library && lines[i].find("std::cout") != std::string_view::npos) {
      findings.push_back({file.path, line, "std::cout: stdout is the caller's"});
    }
  }
  return findings;
}

}  // namespace tiercel::testing
