#ifndef TIERCEL_STATUS_H_
#define TIERCEL_STATUS_H_

#include <cassert>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace tiercel {

/// The kinds of failure that a caller may want to tell apart.
enum class StatusCode : std::uint8_t {
  kOk = 0,
  kInvalidArgument,  ///< The caller broke a documented precondition, or an input file is malformed.
  kNotFound,         ///< No file, tensor, layer or device of that name.
  kAlreadyExists,    ///< The output is there already; nothing was overwritten.
  kPermissionDenied,   ///< The operating system refused access.
  kResourceExhausted,  ///< Out of host memory, HBM, ring entries, file descriptors or disk.
  kIoError,            ///< The kernel or device reported a failure.
  kCorruption,         ///< A checksum or an on-disk invariant did not hold.
  kUnavailable,        ///< No GPU, no io_uring: a fallback may exist.
  kCancelled,          ///< The caller asked to stop; nothing half-made was left.
  kPartial,            ///< A batch finished; some rows did not. See RowStatus.
  kCount,              ///< Number of codes; never a status's code.
};

/// "OK", "IO_ERROR", ...: stable names, safe to log and to match in tests.
[[nodiscard]] std::string_view Name(StatusCode code) noexcept;

/// The outcome of an operation. 8 bytes; OK is a null pointer, so the success
/// path neither allocates nor touches memory. Move-only on purpose: a copied
/// error is usually an error handled twice.
///
/// Threading: const methods may run concurrently; others need external
/// synchronization.
class [[nodiscard]] Status {
 public:
  Status() noexcept = default;
  /// REQUIRES: code is neither kOk nor kCount. `os_error` is a positive errno, or 0.
  Status(StatusCode code, std::string message, int os_error = 0);

  [[nodiscard]] bool ok() const noexcept { return rep_ == nullptr; }
  [[nodiscard]] StatusCode code() const noexcept { return ok() ? StatusCode::kOk : rep_->code; }
  /// errno-style cause (positive), or 0 where the kernel had no part in it.
  [[nodiscard]] int os_error() const noexcept { return ok() ? 0 : rep_->os_error; }
  /// What was wrong, where, and what to do; empty if ok().
  [[nodiscard]] std::string_view message() const noexcept;
  /// One line for a human: "IO_ERROR: read of 4096 B at 8192: EIO". "OK" if ok().
  [[nodiscard]] std::string ToString() const;

 private:
  struct Rep {
    StatusCode code;
    int os_error;
    std::string message;
  };
  std::unique_ptr<const Rep> rep_;
};
static_assert(sizeof(Status) == sizeof(void*));

/// A T, or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value)  // NOLINT(google-explicit-constructor)
      : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Status status)  // NOLINT(google-explicit-constructor)
      : state_(std::in_place_index<1>, std::move(status)) {
    assert(!std::get_if<1>(&state_)->ok());  // OK has to carry a value.
  }

  [[nodiscard]] bool ok() const noexcept { return state_.index() == 0; }
  /// REQUIRES: ok().
  [[nodiscard]] T& value() & noexcept {
    assert(ok());
    return *std::get_if<0>(&state_);
  }
  /// REQUIRES: ok().
  [[nodiscard]] const T& value() const& noexcept {
    assert(ok());
    return *std::get_if<0>(&state_);
  }
  /// REQUIRES: ok().
  [[nodiscard]] T&& value() && noexcept {
    assert(ok());
    return std::move(*std::get_if<0>(&state_));
  }
  /// The error, to look at. REQUIRES: !ok().
  [[nodiscard]] const Status& status() const& noexcept {
    assert(!ok());
    return *std::get_if<1>(&state_);
  }
  /// The error, given away. REQUIRES: !ok().
  [[nodiscard]] Status TakeStatus() && noexcept {
    assert(!ok());
    return std::move(*std::get_if<1>(&state_));
  }

 private:
  std::variant<T, Status> state_;
};

}  // namespace tiercel

#endif  // TIERCEL_STATUS_H_
