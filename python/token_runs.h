#ifndef TIERCEL_PYTHON_TOKEN_RUNS_H_
#define TIERCEL_PYTHON_TOKEN_RUNS_H_

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "tiercel/types.h"

namespace tiercel::python {

namespace py = pybind11;

/// Token runs as Python gives them:
///
///   one array of integers (NumPy, buffer, DLPack), or a list or tuple of ints: one run,
///   whose history is `history` (the same kinds of array; None for none);
///   a list or tuple of (history, tokens) tuples of these: one run each.
///
/// Contiguous int32 is used in place. All else is converted; an id that is no int32
/// raises InvalidArgumentError with its place.
///
/// Threading: made and destroyed with the GIL; the runs are plain memory.
class TokenRuns {
 public:
  TokenRuns(py::handle runs, py::handle history);
  TokenRuns(const TokenRuns&) = delete;
  TokenRuns& operator=(const TokenRuns&) = delete;

  [[nodiscard]] std::span<const TokenRun> runs() const noexcept { return runs_; }
  /// Tokens of all runs, histories left out.
  [[nodiscard]] std::size_t token_count() const noexcept { return token_count_; }

 private:
  void AddRun(py::handle history, py::handle tokens);
  std::span<const std::int32_t> Read(py::handle tokens, std::string_view what, bool tail_only);
  std::span<const std::int32_t> ReadSequence(py::handle tokens, std::string_view what,
                                             bool tail_only);

  std::vector<TokenRun> runs_;
  std::size_t token_count_ = 0;
  std::vector<py::object> owners_;
  std::vector<std::unique_ptr<std::int32_t[]>> converted_;
};

/// Row ids as Python gives them: an array of integers, or a list or tuple of ints.
/// Contiguous 64-bit ones are used in place. A negative id is one beyond any table.
class RowIdList {
 public:
  explicit RowIdList(py::handle rows);
  RowIdList(const RowIdList&) = delete;
  RowIdList& operator=(const RowIdList&) = delete;

  [[nodiscard]] std::span<const RowId> rows() const noexcept { return rows_; }

 private:
  std::span<const RowId> rows_;
  py::object owner_;
  std::vector<RowId> converted_;
};

/// Mixes as Hasher.mixes gives them: a contiguous array of 64-bit integers, of any shape. They
/// are used in place. Raises TypeError (no array of integers), InvalidArgumentError.
class MixArray {
 public:
  explicit MixArray(py::handle mixes);
  MixArray(const MixArray&) = delete;
  MixArray& operator=(const MixArray&) = delete;

  [[nodiscard]] std::span<const std::uint64_t> mixes() const noexcept { return mixes_; }

 private:
  std::span<const std::uint64_t> mixes_;
  py::object owner_;
};

}  // namespace tiercel::python

#endif  // TIERCEL_PYTHON_TOKEN_RUNS_H_
