// Goal: the kernel that sums up rows on a GPU comes to what the host does.
//
// Method: its own text, run by threads of the host (tests/support/kernels_on_host.h), over
// sizes that fill no block and many.

#include <gtest/gtest.h>

#include <vector>

#include "base/prng.h"
#include "tests/support/kernels_on_host.h"
// After the words that it is made of.
#include "bench/overlap_digest_kernel.cuh"

namespace tiercel::bench {
namespace {

TEST(OverlapDigest, TheKernelComesToWhatTheHostDoes) {
  Prng prng(1);
  for (const std::size_t pairs : {1U, 31U, 256U, 257U, 3000U}) {
    std::vector<uint4> words(pairs);
    for (uint4& word : words) {
      word = {.x = static_cast<std::uint32_t>(prng()),
              .y = static_cast<std::uint32_t>(prng()),
              .z = static_cast<std::uint32_t>(prng()),
              .w = static_cast<std::uint32_t>(prng())};
    }
    const std::uint64_t first = prng.Below(3) * kDigestLayerWords;
    const std::uint64_t expected = DigestOf(std::as_bytes(std::span(words)), first);
    for (const std::uint32_t blocks : {1U, 3U}) {
      unsigned long long sum = 17;
      testing::RunOnHost(blocks, kDigestThreads,
                         [&] { AddDigest(words.data(), 2 * pairs, first, &sum); });
      EXPECT_EQ(sum - 17, expected) << pairs << " pairs, " << blocks << " blocks";
    }
  }
}

TEST(OverlapDigest, WordsThatChangedPlacesAreSeen) {
  std::vector<std::uint64_t> words = {1, 2, 3, 4};
  const std::uint64_t before = DigestOf(std::as_bytes(std::span(words)), 0);
  std::swap(words[0], words[2]);
  EXPECT_NE(DigestOf(std::as_bytes(std::span(words)), 0), before);
  EXPECT_NE(DigestOf(std::as_bytes(std::span(words)), kDigestLayerWords),
            DigestOf(std::as_bytes(std::span(words)), 0));
}

}  // namespace
}  // namespace tiercel::bench
