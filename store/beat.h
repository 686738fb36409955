#ifndef TIERCEL_STORE_BEAT_H_
#define TIERCEL_STORE_BEAT_H_

#include <array>
#include <cstdint>

namespace tiercel {

/// Tells when reads will come again, where they come at a beat, as those of a decode loop
/// do: a thread that is awake by then saves what waking up takes, 60 us in a virtual
/// machine, of every step.
///
/// Threading: none.
class Beat {
 public:
  /// A time to be awake in: [begin_ns, end_ns). Empty: there is no beat.
  struct Window {
    std::uint64_t begin_ns = 0;
    std::uint64_t end_ns = 0;
  };

  /// Reads came to a thread that had none. Those within a millisecond are one beat.
  void Came(std::uint64_t now_ns) noexcept;
  /// When the next ones are expected: as the last intervals were, and a little more. At most
  /// a sixth of an interval; where that is too little there is no beat. None once it is past.
  [[nodiscard]] Window Next(std::uint64_t now_ns) const noexcept;

 private:
  static constexpr std::size_t kIntervals = 4;
  std::array<std::uint64_t, kIntervals> intervals_ns_{};  ///< The last ones, in a ring.
  std::size_t next_interval_ = 0;
  std::uint64_t last_ns_ = 0;
};

}  // namespace tiercel

#endif  // TIERCEL_STORE_BEAT_H_
