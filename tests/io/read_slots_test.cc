// Goal: the arithmetic that widens reads to blocks, and the verdict on each answer
//       of the kernel (short, interrupted, no room, end of file), which real disks
//       give too rarely to be tested through the engines.
// Method: answers are fed to a slot by hand.

#include "io/read_slots.h"

#include <gtest/gtest.h>

#include <cerrno>

#include "base/prng.h"
#include "tests/io/device_test_support.h"

namespace tiercel::testing {
namespace {

ReadSlot SlotFor(const ReadRequest& request, std::uint32_t block_bytes) {
  ReadSlot slot;
  slot.request = request;
  slot.blocks = Widen(request, block_bytes);
  return slot;
}

TEST(WidenTest, CoversTheRequestWithWholeBlocksAndNoMore) {
  Prng prng(TestSeed());
  for (int i = 0; i < 10'000; ++i) {
    const std::uint32_t block_bytes = 1U << prng.Below(17);
    const ReadRequest request{.size_bytes = static_cast<std::uint32_t>(1 + prng.Below(1 << 20)),
                              .offset_bytes = prng.Below(std::uint64_t{1} << 60)};
    const BlockSpan blocks = Widen(request, block_bytes);
    ASSERT_EQ(blocks.offset_bytes % block_bytes, 0U);
    ASSERT_EQ(blocks.size_bytes % block_bytes, 0U);
    ASSERT_EQ(blocks.offset_bytes + blocks.skip_bytes, request.offset_bytes);
    ASSERT_LT(blocks.skip_bytes, block_bytes);
    const std::uint64_t end = request.offset_bytes + request.size_bytes;
    ASSERT_GE(blocks.offset_bytes + blocks.size_bytes, end);
    ASSERT_LT(blocks.offset_bytes + blocks.size_bytes - end, block_bytes);
    ASSERT_LE(blocks.size_bytes, WidenedSizeBytesMax(request.size_bytes, block_bytes));
  }
}

TEST(WidenTest, LargestWidthIsReached) {
  // The first byte is the last of a block.
  EXPECT_EQ(Widen({.size_bytes = 4096, .offset_bytes = 4095}, 4096).size_bytes,
            WidenedSizeBytesMax(4096, 4096));
  EXPECT_EQ(WidenedSizeBytesMax(4096, 4096), 8192U);
  EXPECT_EQ(WidenedSizeBytesMax(264, 512), 1024U);
  EXPECT_EQ(WidenedSizeBytesMax(1, 4096), 4096U);
  EXPECT_EQ(WidenedSizeBytesMax(264, 1), 264U);
}

TEST(ReadSlotTest, WholeAnswerIsDone) {
  ReadSlot slot = SlotFor({.size_bytes = 264, .offset_bytes = 5000}, 4096);
  EXPECT_EQ(slot.Advance(4096, 512), SlotStep::kDone);
  EXPECT_EQ(slot.os_error, 0);
}

TEST(ReadSlotTest, ShortAnswerThatHoldsTheRequestIsDone) {
  // The file ends at 5264, in the middle of the block, right behind the request.
  ReadSlot slot = SlotFor({.size_bytes = 264, .offset_bytes = 5000}, 4096);
  EXPECT_EQ(slot.Advance(5264 - 4096, 512), SlotStep::kDone);
  EXPECT_EQ(slot.os_error, 0);
}

TEST(ReadSlotTest, ShortAnswersAreCarriedOnAtAlignedPlaces) {
  ReadSlot slot = SlotFor({.size_bytes = 4000, .offset_bytes = 0}, 4096);
  EXPECT_EQ(slot.Advance(512, 512), SlotStep::kAgain);
  EXPECT_EQ(slot.done_bytes, 512U);
  // An unaligned tail is read again from the last aligned place.
  EXPECT_EQ(slot.Advance(1000, 512), SlotStep::kAgain);
  EXPECT_EQ(slot.done_bytes, 1024U);
  EXPECT_EQ(slot.Advance(3072, 512), SlotStep::kDone);
  EXPECT_EQ(slot.os_error, 0);
}

TEST(ReadSlotTest, EndOfFileBeforeTheRequestEndsIsEnodata) {
  ReadSlot slot = SlotFor({.size_bytes = 4000, .offset_bytes = 0}, 4096);
  // One byte too few: the rest is tried, gives the same tail, and that is the end.
  EXPECT_EQ(slot.Advance(3999, 512), SlotStep::kAgain);
  EXPECT_EQ(slot.done_bytes, 3584U);
  EXPECT_EQ(slot.Advance(3999 - 3584, 512), SlotStep::kDone);
  EXPECT_EQ(slot.os_error, ENODATA);

  ReadSlot beyond = SlotFor({.size_bytes = 1, .offset_bytes = 1 << 20}, 4096);
  EXPECT_EQ(beyond.Advance(0, 512), SlotStep::kDone);
  EXPECT_EQ(beyond.os_error, ENODATA);
}

TEST(ReadSlotTest, InterruptionIsTriedAgainAndErrorsAreReported) {
  ReadSlot slot = SlotFor({.size_bytes = 100, .offset_bytes = 0}, 4096);
  EXPECT_EQ(slot.Advance(-EINTR, 512), SlotStep::kAgain);
  EXPECT_EQ(slot.Advance(-EIO, 512), SlotStep::kDone);
  EXPECT_EQ(slot.os_error, EIO);
}

TEST(ReadSlotTest, NoRoomIsTriedAgainButNotForEver) {
  for (const int os_error : {EAGAIN, ENOMEM, EBUSY}) {
    ReadSlot slot = SlotFor({.size_bytes = 100, .offset_bytes = 0}, 4096);
    for (int i = 0; i < kNoRoomAttemptsMax; ++i) {
      ASSERT_EQ(slot.Advance(-os_error, 512), SlotStep::kNoRoom);
    }
    EXPECT_EQ(slot.Advance(-os_error, 512), SlotStep::kDone);
    EXPECT_EQ(slot.os_error, os_error);
  }
}

TEST(ReadSlotDeathTest, AnAnswerLargerThanTheBufferAborts) {
  ReadSlot slot = SlotFor({.size_bytes = 100, .offset_bytes = 0}, 4096);
  EXPECT_DEATH(static_cast<void>(slot.Advance(4097, 512)), "TIERCEL_CHECK");
}

}  // namespace
}  // namespace tiercel::testing
