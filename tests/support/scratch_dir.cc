#include "tests/support/scratch_dir.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/check.h"

namespace tiercel::testing {

ScratchDir::ScratchDir() {
  std::string base = "/var/tmp";
  for (const char* name : {"TMPDIR", "TEST_TMPDIR"}) {
    if (const char* const value = std::getenv(name); value != nullptr && *value != '\0') {
      base = value;
    }
  }
  path_ = base + "/tiercel_test_XXXXXX";
  TIERCEL_CHECK(mkdtemp(path_.data()) != nullptr);
}

ScratchDir::~ScratchDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string ScratchDir::File(std::string_view name) const {
  return path_ + "/" + std::string(name);
}

std::string ScratchDir::Write(std::string_view name, std::string_view bytes) const {
  std::string path = File(name);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  TIERCEL_CHECK(file.good());
  return path;
}

std::string ReadSourceFile(std::string_view relative_path) {
  // Programs that were carried to another machine find the tree where it says.
  const char* const moved = std::getenv("TIERCEL_SOURCE_DIR");
  const std::string root = moved != nullptr ? moved : TIERCEL_SOURCE_DIR;
  std::ifstream file(root + "/" + std::string(relative_path), std::ios::binary);
  TIERCEL_CHECK(file.good());
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

void FlipBit(const std::string& path, std::uint64_t offset_bytes) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekg(static_cast<std::streamoff>(offset_bytes));
  const int byte = file.get();
  ASSERT_GE(byte, 0) << path << " ends before byte " << offset_bytes;
  file.seekp(static_cast<std::streamoff>(offset_bytes));
  file.put(static_cast<char>(byte ^ 0x10));
  file.close();
  ASSERT_TRUE(file.good()) << path;
}

}  // namespace tiercel::testing
