#include "python/token_runs.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "python/errors.h"
#include "python/host_tensor.h"

namespace tiercel::python {
namespace {

/// No recipe looks further back than its longest n-gram, which is of 8 tokens at most.
constexpr std::int64_t kHistoryMax = 8;

bool IsSequence(py::handle object) {
  return PyList_Check(object.ptr()) != 0 || PyTuple_Check(object.ptr()) != 0;
}

/// Item `i` of a list or tuple: a reference of its own, since reading an item may run code.
py::object Item(py::handle sequence, std::int64_t i) {
  auto item = py::reinterpret_steal<py::object>(PySequence_GetItem(sequence.ptr(), i));
  if (!item) throw py::error_already_set();
  return item;
}

/// Calls `emit(i, value)` for items [first, count) of an integer array of any strides.
template <typename Stored, typename Emit>
void ForEachOf(const HostTensor& tensor, std::int64_t first, Emit emit) {
  const std::byte* item = tensor.data + first * tensor.strides[0];
  for (std::int64_t i = first; i < tensor.shape[0]; ++i, item += tensor.strides[0]) {
    Stored value{};
    std::memcpy(&value, item, sizeof(value));
    emit(i, value);
  }
}

template <typename Emit>
void ForEach(const HostTensor& tensor, std::int64_t first, std::string_view what, Emit emit) {
  const bool is_signed = tensor.kind == ItemKind::kSigned;
  switch (tensor.item_bytes) {
    case 1:
      return is_signed ? ForEachOf<std::int8_t>(tensor, first, emit)
                       : ForEachOf<std::uint8_t>(tensor, first, emit);
    case 2:
      return is_signed ? ForEachOf<std::int16_t>(tensor, first, emit)
                       : ForEachOf<std::uint16_t>(tensor, first, emit);
    case 4:
      return is_signed ? ForEachOf<std::int32_t>(tensor, first, emit)
                       : ForEachOf<std::uint32_t>(tensor, first, emit);
    case 8:
      return is_signed ? ForEachOf<std::int64_t>(tensor, first, emit)
                       : ForEachOf<std::uint64_t>(tensor, first, emit);
    default:
      RaiseInvalid(std::string(what) + " has integers of " + std::to_string(tensor.item_bytes) +
                   " bytes");
  }
}

/// An array of integers in one dimension; an empty one may be of any type.
HostTensor ReadIntegers(py::handle object, std::string_view what) {
  HostTensor tensor = ReadHostTensor(object, what);
  if (tensor.dims != 1) {
    RaiseInvalid(std::string(what) + " has " + std::to_string(tensor.dims) +
                 " dimensions; one is wanted");
  }
  if (tensor.kind == ItemKind::kOther && tensor.shape[0] != 0) {
    throw py::type_error(std::string(what) + " does not hold integers");
  }
  return tensor;
}

[[noreturn]] void RaiseToken(std::string_view what, std::int64_t position,
                             const std::string& value) {
  RaiseInvalid(std::string(what) + "[" + std::to_string(position) + "] is " + value +
               ", which is no int32: token ids are in [-1, 2^31)");
}

template <typename Stored>
std::int32_t AsToken(Stored value, std::string_view what, std::int64_t position) {
  if (!std::in_range<std::int32_t>(value)) RaiseToken(what, position, std::to_string(value));
  return static_cast<std::int32_t>(value);
}

/// An int of Python, or of NumPy.
std::int64_t AsInt64(py::handle item, std::string_view what, std::int64_t position, int* overflow) {
  const auto number = py::reinterpret_steal<py::object>(PyNumber_Index(item.ptr()));
  if (!number) {
    PyErr_Clear();
    throw py::type_error(std::string(what) + "[" + std::to_string(position) + "] is a " +
                         Py_TYPE(item.ptr())->tp_name + "; an int is wanted");
  }
  return PyLong_AsLongLongAndOverflow(number.ptr(), overflow);
}

}  // namespace

TokenRuns::TokenRuns(py::handle runs, py::handle history) {
  const bool many = IsSequence(runs) && Py_SIZE(runs.ptr()) != 0 && IsSequence(Item(runs, 0));
  if (!many) {
    // An empty list is a run of no tokens, which is as good as no run.
    AddRun(history, runs);
    return;
  }
  if (!history.is_none()) {
    throw py::type_error(
        "history goes with one run of tokens; each (history, tokens) tuple "
        "has its own");
  }
  for (std::int64_t i = 0; i < Py_SIZE(runs.ptr()); ++i) {
    const py::object pair = Item(runs, i);
    if (PyTuple_Check(pair.ptr()) == 0 || Py_SIZE(pair.ptr()) != 2) {
      throw py::type_error("runs[" + std::to_string(i) + "] is no (history, tokens) tuple");
    }
    AddRun(Item(pair, 0), Item(pair, 1));
  }
}

void TokenRuns::AddRun(py::handle history, py::handle tokens) {
  const std::string at = "[" + std::to_string(runs_.size()) + "]";
  TokenRun run;
  if (!history.is_none()) run.history = Read(history, "history of run " + at, true);
  run.tokens = Read(tokens, "tokens of run " + at, false);
  token_count_ += run.tokens.size();
  runs_.push_back(run);
}

std::span<const std::int32_t> TokenRuns::Read(py::handle tokens, std::string_view what,
                                              bool tail_only) {
  if (IsSequence(tokens)) return ReadSequence(tokens, what, tail_only);
  const HostTensor tensor = ReadIntegers(tokens, what);
  const std::int64_t count = tensor.shape[0];
  if (count == 0) return {};
  const std::int64_t first = tail_only ? std::max<std::int64_t>(count - kHistoryMax, 0) : 0;
  const bool aligned = reinterpret_cast<std::uintptr_t>(tensor.data) % alignof(std::int32_t) == 0;
  if (tensor.kind == ItemKind::kSigned && tensor.item_bytes == sizeof(std::int32_t) &&
      tensor.contiguous() && aligned) {
    owners_.push_back(tensor.owner);
    const auto* ids = reinterpret_cast<const std::int32_t*>(tensor.data);
    return {ids + first, static_cast<std::size_t>(count - first)};
  }
  auto ids = std::make_unique<std::int32_t[]>(static_cast<std::size_t>(count - first));
  ForEach(tensor, first, what, [&](std::int64_t i, auto value) {
    ids[static_cast<std::size_t>(i - first)] = AsToken(value, what, i);
  });
  converted_.push_back(std::move(ids));
  return {converted_.back().get(), static_cast<std::size_t>(count - first)};
}

std::span<const std::int32_t> TokenRuns::ReadSequence(py::handle tokens, std::string_view what,
                                                      bool tail_only) {
  const std::int64_t count = Py_SIZE(tokens.ptr());
  const std::int64_t first = tail_only ? std::max<std::int64_t>(count - kHistoryMax, 0) : 0;
  auto ids = std::make_unique<std::int32_t[]>(static_cast<std::size_t>(count - first));
  for (std::int64_t i = first; i < count; ++i) {
    int overflow = 0;
    const std::int64_t value = AsInt64(Item(tokens, i), what, i, &overflow);
    if (overflow != 0) RaiseToken(what, i, "beyond 64 bits");
    ids[static_cast<std::size_t>(i - first)] = AsToken(value, what, i);
  }
  converted_.push_back(std::move(ids));
  return {converted_.back().get(), static_cast<std::size_t>(count - first)};
}

RowIdList::RowIdList(py::handle rows) {
  if (IsSequence(rows)) {
    const std::int64_t count = Py_SIZE(rows.ptr());
    converted_.reserve(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i) {
      int overflow = 0;
      const std::int64_t value = AsInt64(Item(rows, i), "rows", i, &overflow);
      // What does not fit is beyond any table, as negative ids are.
      converted_.push_back(overflow != 0 ? RowId{std::numeric_limits<std::uint64_t>::max()}
                                         : RowId{static_cast<std::uint64_t>(value)});
    }
    rows_ = converted_;
    return;
  }
  const HostTensor tensor = ReadIntegers(rows, "rows");
  if (tensor.shape[0] == 0) return;
  const bool aligned = reinterpret_cast<std::uintptr_t>(tensor.data) % alignof(RowId) == 0;
  if (tensor.item_bytes == sizeof(RowId) && tensor.contiguous() && aligned) {
    owner_ = tensor.owner;
    rows_ = {reinterpret_cast<const RowId*>(tensor.data),
             static_cast<std::size_t>(tensor.shape[0])};
    return;
  }
  converted_.resize(static_cast<std::size_t>(tensor.shape[0]));
  ForEach(tensor, 0, "rows", [&](std::int64_t i, auto value) {
    converted_[static_cast<std::size_t>(i)] = RowId{static_cast<std::uint64_t>(value)};
  });
  rows_ = converted_;
}

MixArray::MixArray(py::handle mixes) {
  const HostTensor tensor = ReadHostTensor(mixes, "mixes");
  const auto count = static_cast<std::size_t>(tensor.item_count());
  if (count == 0) return;
  if (tensor.kind == ItemKind::kOther) throw py::type_error("mixes does not hold integers");
  if (tensor.item_bytes != sizeof(std::uint64_t) || !tensor.contiguous() ||
      reinterpret_cast<std::uintptr_t>(tensor.data) % alignof(std::uint64_t) != 0) {
    RaiseInvalid("mixes must be a contiguous array of uint64, as Hasher.mixes() gives it");
  }
  owner_ = tensor.owner;
  mixes_ = {reinterpret_cast<const std::uint64_t*>(tensor.data), count};
}

}  // namespace tiercel::python
