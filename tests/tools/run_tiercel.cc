#include "tests/tools/run_tiercel.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#include <cerrno>
#include <fstream>
#include <sstream>

#include "base/check.h"
#include "tests/support/scratch_dir.h"

namespace tiercel::testing {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

/// Files and not pipes: a program that writes much blocks on nobody.
pid_t Start(const std::vector<std::string>& arguments, const std::string& in,
            const std::string& out, const std::string& err) {
  std::vector<std::string> words = {TIERCEL_PROGRAM};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t pid = fork();
  TIERCEL_CHECK(pid >= 0);
  if (pid != 0) return pid;
  const int files[3] = {open(in.c_str(), O_RDONLY),
                        open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600),
                        open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600)};
  for (int i = 0; i < 3; ++i) {
    if (files[i] < 0 || dup2(files[i], i) != i) _exit(126);
  }
  execv(argv[0], argv.data());
  _exit(127);
}

template <typename Word>
std::string LittleEndian(const std::vector<Word>& words) {
  std::string bytes;
  for (const Word word : words) {
    for (std::size_t i = 0; i < sizeof(Word); ++i) {
      bytes += static_cast<char>(static_cast<std::uint64_t>(word) >> (8 * i));
    }
  }
  return bytes;
}

}  // namespace

nlohmann::json ProgramRun::Json() const {
  const nlohmann::json json = nlohmann::json::parse(out, nullptr, false);
  EXPECT_TRUE(json.is_object()) << "stdout is not one JSON object: " << out << "\n" << err;
  return json;
}

ProgramRun RunTiercel(const std::vector<std::string>& arguments, std::string_view stdin_bytes) {
  const ScratchDir scratch;
  const std::string in = scratch.Write("in", stdin_bytes);
  const pid_t pid = Start(arguments, in, scratch.File("out"), scratch.File("err"));
  ProgramRun run;
  run.exit_code = WaitForTiercel(pid);
  run.out = ReadFile(scratch.File("out"));
  run.err = ReadFile(scratch.File("err"));
  return run;
}

pid_t StartTiercel(const std::vector<std::string>& arguments) {
  return Start(arguments, "/dev/null", "/dev/null", "/dev/null");
}

int WaitForTiercel(pid_t pid) {
  int state = 0;
  while (waitpid(pid, &state, 0) < 0) TIERCEL_CHECK(errno == EINTR);
  return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
}

void MakeSmallCheckpoint(const std::string& path, const std::string& model,
                         const std::vector<std::string>& more_arguments) {
  std::vector<std::string> arguments = {
      "make-checkpoint", "--like", model,   "--shrink", "20000",
      "--seed",          "7",      "--out", path,       "--tables-only"};
  arguments.insert(arguments.end(), more_arguments.begin(), more_arguments.end());
  const ProgramRun run = RunTiercel(arguments);
  ASSERT_EQ(run.exit_code, 0) << run.err;
}

std::vector<RowPlace> FindRow(const nlohmann::json& inspected, std::uint32_t layer_id,
                              std::uint64_t row) {
  std::vector<RowPlace> places;
  for (const nlohmann::json& layer : inspected.at("layers")) {
    if (layer.at("layer") != layer_id) continue;
    for (const nlohmann::json& part : layer.at("parts")) {
      for (const nlohmann::json& extent : part.at("extents")) {
        const auto first_row = extent.at("first_row").get<std::uint64_t>();
        if (row < first_row || row - first_row >= extent.at("rows").get<std::uint64_t>()) continue;
        places.push_back(
            {extent.at("file"), extent.at("offset").get<std::uint64_t>() +
                                    (row - first_row) * part.at("row_bytes").get<std::uint64_t>()});
      }
    }
  }
  EXPECT_FALSE(places.empty()) << "no row " << row << " in layer " << layer_id;
  return places;
}

std::string Bytes32(const std::vector<std::int32_t>& words) {
  return LittleEndian(words);
}

std::string Bytes64(const std::vector<std::uint64_t>& words) {
  return LittleEndian(words);
}

std::string Compress(std::string_view bytes) {
  std::string packed(ZSTD_compressBound(bytes.size()), '\0');
  const std::size_t size =
      ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), 3);
  TIERCEL_CHECK(ZSTD_isError(size) == 0);
  packed.resize(size);
  return packed;
}

}  // namespace tiercel::testing
