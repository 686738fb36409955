// Goal: the kernels' own text computes what it should, on machines without a GPU too.
//
// Method: cuda/*_kernel.cuh compiled as C++ and run by threads of the host, barriers and all
// (tests/support/kernels_on_host.h), against the fake GPU, Hasher and a map. hash_cuda_test
// and gather_cuda_test do the same on a GPU.

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/prng.h"
#include "engram/group_space.h"
#include "engram/recipe_check.h"
#include "tests/engram/engram_test_support.h"
#include "tests/support/fake_hbm_device.h"
#include "tests/support/kernels_on_host.h"
// After the words that it is made of.
#include "cuda/device_hash_kernel.cuh"
#include "cuda/gather_kernel.cuh"

namespace tiercel {
namespace {

using testing::FakeHbmDevice;
using testing::RunOnHost;

constexpr std::uint32_t kHostOrders = 3;
constexpr std::uint32_t kHostSlots = 32;
constexpr std::uint32_t kHostStaged = 16;
constexpr std::uint32_t kHostHeaders = 3;

struct HostCase {
  RowShape shape;
  HbmFormat format;
  std::uint32_t heads = 8;
  std::uint32_t shift_bytes = 0;
  std::uint32_t tokens = 9;
  std::uint32_t blocks = 2;
  std::uint32_t header_count = 0;
  bool waits = false;  ///< For a flag, which is set.
  std::uint32_t warps = kWarpsPerBlock;
};

/// Memory of one gather; the fake GPU's, which looks where accesses go.
struct HostGather {
  HostGather(FakeHbmDevice& device, const HostCase& c) {
    const std::uint64_t group = std::uint64_t{c.shape.row_size_bytes()} * c.heads;
    const std::uint64_t rows = std::uint64_t{c.tokens} * kHostOrders * c.heads;
    slot_bytes = static_cast<std::uint32_t>((group + 15) / 16 * 16);
    out_bytes = rows * (c.shape.row_size_bytes() + 2 * std::uint64_t{c.shape.value_count}) + 64;
    slots = device.AllocateDevice(kHostSlots * slot_bytes).value();
    out = device.AllocateDevice(out_bytes).value();
    staging = device.AllocateDevice(64 + kHostStaged * group).value();
    headers = device.AllocateDevice(kHostHeaders * GatherArguments::kHeaderStrideBytes).value();
    words = reinterpret_cast<std::uint32_t*>(device.AllocateDevice(64).value());
    places.resize(std::size_t{c.tokens} * kHostOrders);
  }
  void Free(FakeHbmDevice& device) const {
    for (std::byte* memory : {slots, out, staging, headers, reinterpret_cast<std::byte*>(words)}) {
      device.FreeDevice(memory);
    }
  }
  [[nodiscard]] GatherArguments Arguments(const HostCase& c) {
    BatchHeader header = {.sequence = 7,
                          .token_count = c.tokens - 1,
                          .staging_offset_bytes = 64,
                          .rows = out + c.shift_bytes};
    const std::uint64_t values =
        std::uint64_t{c.tokens} * kHostOrders * c.heads * c.shape.value_count;
    if (c.format == HbmFormat::kRowsAndScales) header.scales = header.rows + values;
    for (std::uint32_t i = 0; i < c.header_count; ++i) {
      std::memcpy(headers + i * GatherArguments::kHeaderStrideBytes, &header, sizeof(header));
    }
    words[2] = 1;
    return {.headers = c.header_count > 0 ? headers : nullptr,
            .batch = c.header_count > 0 ? BatchHeader{} : header,
            .groups = places.data(),
            .flag = c.waits ? words + 2 : nullptr,
            .slots = slots,
            .staging = staging,
            .done = words,
            .arrivals = words + 1,
            .shape = c.shape,
            .format = c.format,
            .order_count = kHostOrders,
            .rows_per_group = c.heads,
            .slot_size_bytes = slot_bytes,
            .token_capacity = c.tokens,
            .header_count = std::max(c.header_count, 1U)};
  }

  std::vector<GroupSource> places;
  std::byte* slots = nullptr;
  std::byte* out = nullptr;
  std::byte* staging = nullptr;
  std::byte* headers = nullptr;
  std::uint32_t* words = nullptr;
  std::uint32_t slot_bytes = 0;
  std::uint64_t out_bytes = 0;
};

void Fill(HostGather& gather, const HostCase& c, std::uint64_t seed) {
  Prng prng(seed);
  const auto randomize = [&prng](std::byte* memory, std::uint64_t size) {
    for (std::uint64_t i = 0; i < size; ++i) memory[i] = static_cast<std::byte>(prng());
  };
  randomize(gather.slots, std::uint64_t{kHostSlots} * gather.slot_bytes);
  randomize(gather.staging, 64 + std::uint64_t{kHostStaged} * c.shape.row_size_bytes() * c.heads);
  std::memset(gather.out, 0xA5, gather.out_bytes);
  std::uint32_t fill = kHostSlots / 2;
  for (GroupSource& place : gather.places) {
    const std::uint64_t kind = prng.Below(6);
    place = {};
    if (kind == 0) continue;
    if (kind < 3) {
      place.source = static_cast<std::uint32_t>(prng.Below(kHostSlots / 2));
    } else {
      place.source = GroupSource::kStaged | static_cast<std::uint32_t>(prng.Below(kHostStaged));
      if (kind == 5 && fill < kHostSlots) place.fill_slot = fill++;
    }
  }
}

/// Whether byte `i` is of a NaN of bf16 on both sides: any may stand for another.
bool BothNan(const HostGather& a, const HostGather& b, std::uint64_t i) {
  const auto is_nan = [i](const HostGather& gather) {
    std::uint16_t value = 0;
    std::memcpy(&value, gather.out + i / 2 * 2, sizeof(value));
    return (value & 0x7FFFU) > 0x7F80U;
  };
  return is_nan(a) && is_nan(b);
}

template <HbmFormat kFormat, RowFormat kRow>
void ExpectKernelIsRight(const HostCase& c, std::uint64_t seed) {
  SCOPED_TRACE(::testing::Message()
               << "format " << static_cast<int>(kFormat) << ", rows " << static_cast<int>(kRow)
               << ", shift " << c.shift_bytes << ", heads " << c.heads);
  FakeHbmDevice device(seed, 0);
  HostGather expected(device, c);
  HostGather found(device, c);
  Fill(expected, c, seed);
  Fill(found, c, seed);
  const HbmStream stream = device.CreateStream().value();
  const GatherArguments wanted = expected.Arguments(c);
  ASSERT_TRUE(device.Gather({&wanted, 1}, stream).ok());
  ASSERT_TRUE(device.Synchronize().ok());
  GatherLaunch launch;
  launch.layers[0] = found.Arguments(c);
  launch.blocks_per_layer = c.blocks;
  RunOnHost(c.blocks, c.warps * kWarpThreads,
            [&] { GatherKernel<kFormat, kRow>(launch, c.shape.row_size_bytes()); });
  EXPECT_EQ(found.words[0], 7U) << "the end was not told";
  EXPECT_EQ(found.words[1], 0U) << "arrivals are not ready for the next launch";
  EXPECT_EQ(std::memcmp(found.slots, expected.slots, std::size_t{kHostSlots} * found.slot_bytes),
            0);
  std::uint64_t different = 0;
  for (std::uint64_t i = 0; i < found.out_bytes; ++i) {
    if (found.out[i] == expected.out[i]) continue;
    different += kFormat == HbmFormat::kBf16 && BothNan(found, expected, i) ? 0 : 1;
  }
  EXPECT_EQ(different, 0U);
  expected.Free(device);
  found.Free(device);
}

constexpr RowShape kHostV41 = {.format = RowFormat::kE4M3Block32, .value_count = 256};
constexpr RowFormat kBlock32 = RowFormat::kE4M3Block32;

TEST(GatherKernelOnHost, StoredRows) {
  const auto run = [](const HostCase& c) {
    ExpectKernelIsRight<HbmFormat::kStored, kBlock32>(c, 1);
  };
  run({.shape = kHostV41, .format = HbmFormat::kStored});
  run({.shape = kHostV41, .format = HbmFormat::kStored, .shift_bytes = 8});
  run({.shape = kHostV41, .format = HbmFormat::kStored, .shift_bytes = 1});
  run({.shape = kHostV41, .format = HbmFormat::kStored, .heads = 1});
  run({.shape = kHostV41, .format = HbmFormat::kStored, .tokens = 1, .blocks = 1});
  // Blocks go round; and they share headers.
  run({.shape = kHostV41, .format = HbmFormat::kStored, .tokens = 20, .header_count = 1});
  run({.shape = kHostV41,
       .format = HbmFormat::kStored,
       .tokens = 20,
       .blocks = 4,
       .header_count = kHostHeaders});
  // A decode step's: few warps, which wait.
  run({.shape = kHostV41,
       .format = HbmFormat::kStored,
       .tokens = 2,
       .blocks = 1,
       .header_count = 1,
       .waits = true,
       .warps = 3});
  run({.shape = {.format = kBlock32, .value_count = 32}, .format = HbmFormat::kStored, .heads = 3});
}

TEST(GatherKernelOnHost, RowsAndScalesApart) {
  const auto run = [](const HostCase& c) {
    ExpectKernelIsRight<HbmFormat::kRowsAndScales, kBlock32>(c, 2);
  };
  run({.shape = kHostV41, .format = HbmFormat::kRowsAndScales});
  run({.shape = kHostV41, .format = HbmFormat::kRowsAndScales, .shift_bytes = 3});
  run({.shape = {.format = kBlock32, .value_count = 96}, .format = HbmFormat::kRowsAndScales});
}

TEST(GatherKernelOnHost, Bf16) {
  ExpectKernelIsRight<HbmFormat::kBf16, kBlock32>({.shape = kHostV41, .format = HbmFormat::kBf16},
                                                  3);
  ExpectKernelIsRight<HbmFormat::kBf16, kBlock32>(
      {.shape = kHostV41, .format = HbmFormat::kBf16, .shift_bytes = 2}, 4);
  const RowShape plain = {.format = RowFormat::kBf16, .value_count = 160};
  ExpectKernelIsRight<HbmFormat::kBf16, RowFormat::kBf16>(
      {.shape = plain, .format = HbmFormat::kBf16}, 5);
  ExpectKernelIsRight<HbmFormat::kBf16, RowFormat::kBf16>(
      {.shape = plain, .format = HbmFormat::kBf16, .heads = 3, .shift_bytes = 2}, 6);
  ExpectKernelIsRight<HbmFormat::kBf16, RowFormat::kE4M3Tensor>(
      {.shape = {.format = RowFormat::kE4M3Tensor, .value_count = 160, .tensor_scale = 0.0123F},
       .format = HbmFormat::kBf16},
      7);
  ExpectKernelIsRight<HbmFormat::kBf16, RowFormat::kFp16>(
      {.shape = {.format = RowFormat::kFp16, .value_count = 64}, .format = HbmFormat::kBf16}, 8);
  ExpectKernelIsRight<HbmFormat::kBf16, RowFormat::kFp32>(
      {.shape = {.format = RowFormat::kFp32, .value_count = 64}, .format = HbmFormat::kBf16}, 9);
}

TEST(HashKernelOnHost, HashesAndProbesAsTheHost) {
  const Recipe recipe = testing::Build(testing::V41Parameters());
  const Hasher hasher = testing::MakeHasher(testing::V41Parameters());
  constexpr std::uint32_t kTokens = 60;
  Prng prng(1);
  std::vector<std::int32_t> ids(kTokens);
  std::vector<std::uint32_t> positions(kTokens);
  const std::vector<std::uint32_t> starts(kTokens, 0);
  for (std::uint32_t i = 0; i < kTokens; ++i) {
    ids[i] = prng.Below(10) == 0 ? kDeadToken : static_cast<std::int32_t>(prng.Below(99092));
    positions[i] = i;
  }
  const TokenRun run = {.history = {}, .tokens = ids};
  std::vector<std::uint64_t> mixes(kTokens * 3);
  std::vector<std::uint8_t> dead(kTokens);
  std::vector<RowId> rows(kTokens * 24);
  ASSERT_TRUE(hasher.Mixes(0, run, mixes, dead).ok());
  ASSERT_TRUE(hasher.RowIds(0, run, rows, {}).ok());
  std::vector<Head> heads;
  std::vector<KeyRule> rules;
  for (std::size_t order = 0; order < 3; ++order) {
    const GroupSpace space(std::span(recipe.layers[0].head_sizes).subspan(order * 8, 8),
                           std::span(recipe.layers[0].offsets).subspan(order * 8, 8),
                           MixRange::kUnsigned63);
    heads.insert(heads.end(), space.heads().begin(), space.heads().end());
    rules.push_back(space.key_rule());
  }
  // Half of the groups are in the table.
  std::vector<DeviceEntry> entries(64 * DeviceTable::kWays);
  const DeviceTable table = {.entries = entries.data(), .bucket_count = 64};
  std::vector<DeviceChange> changes;
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::uint32_t> known;
  for (std::uint32_t i = 0; i < mixes.size(); i += 2) {
    const std::uint32_t space = 3 + i % 3;
    if (!known.emplace(std::pair{space, mixes[i]}, i).second) continue;
    changes.push_back(
        {.key = mixes[i], .slot = i, .space = static_cast<std::uint16_t>(space), .added = 1});
  }
  RunOnHost(2, kHashThreads, [&] {
    ApplyChangesKernel<true>(table, changes.data(), static_cast<std::uint32_t>(changes.size()));
  });
  std::vector<std::uint64_t> keys(kTokens * 3);
  std::vector<RowId> found_rows(kTokens * 24);
  std::vector<std::uint8_t> found_dead(kTokens);
  std::vector<std::uint32_t> places(kTokens * 6);
  std::vector<DeviceMiss> misses(kTokens * 3);
  std::uint32_t miss_count = 0;
  const HashArguments arguments = {
      .kind = RecipeKind::kDeepSeekV41,
      .order_max = 4,
      .head_count = 8,
      .rules = {.classes = nullptr, .id_end = 99092, .fill = 2},
      .layer = {.multipliers = recipe.layers[0].multipliers.data(),
                .heads = heads.data(),
                .key_rules = rules.data()},
      .tokens = {.ids = ids.data(),
                 .position = positions.data(),
                 .run_start = starts.data(),
                 .token_count = kTokens},
      .output = {.keys = keys.data(), .rows = found_rows.data(), .dead = found_dead.data()}};
  const ProbeArguments probe = {
      .table = table,
      .first_space = 3,
      .output = {.places = places.data(), .misses = misses.data(), .miss_count = &miss_count}};
  RunOnHost(2, kHashThreads, [&] { HashKernel<RecipeKind::kDeepSeekV41, true>(arguments, probe); });
  EXPECT_EQ(keys, mixes);
  EXPECT_EQ(found_rows, rows);
  EXPECT_EQ(found_dead, dead);
  std::uint32_t missed = 0;
  std::set<std::uint32_t> numbers;
  for (std::uint32_t i = 0; i < mixes.size(); ++i) {
    const auto entry = known.find({3 + i % 3, mixes[i]});
    EXPECT_EQ(places[2 * i + 1], GroupSource::kNone);
    if (dead[i / 3] != 0) {
      EXPECT_EQ(places[2 * i], GroupSource::kNone);
    } else if (entry != known.end()) {
      EXPECT_EQ(places[2 * i], entry->second);
    } else {
      ++missed;
      ASSERT_NE(places[2 * i] & GroupSource::kStaged, 0U);
      const std::uint32_t number = places[2 * i] & ~GroupSource::kStaged;
      ASSERT_LT(number, miss_count);
      EXPECT_TRUE(numbers.insert(number).second);
      EXPECT_EQ(misses[number].mix, mixes[i]);
      EXPECT_EQ(misses[number].order_index, i % 3);
    }
  }
  EXPECT_EQ(missed, miss_count);
  EXPECT_GT(missed, 10U);
  // And all of them leave again.
  for (DeviceChange& change : changes) change.added = 0;
  RunOnHost(2, kHashThreads, [&] {
    ApplyChangesKernel<false>(table, changes.data(), static_cast<std::uint32_t>(changes.size()));
  });
  for (const DeviceEntry& entry : entries) EXPECT_EQ(entry.space_plus_1, 0U);
}

}  // namespace
}  // namespace tiercel
