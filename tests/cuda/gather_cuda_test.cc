// Goal: the gather kernel writes what the host would, in every format, from slots, staging
// and nowhere, at every alignment, and fills slots on the way.
//
// Method: the same launch on the GPU and on the fake GPU of host memory, over random places;
// outputs and slots are compared byte for byte (a NaN of bf16 by being one). Outputs are
// poisoned before, so that what was not written shows.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/prng.h"
#include "cuda/hbm_cuda_device.h"
#include "tests/cuda/cuda_test_support.h"
#include "tests/engram/engram_test_support.h"
#include "tests/support/fake_hbm_device.h"
#include "tiercel/cuda.h"
#include "tiercel/shared_slab.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kOrders = 3;
constexpr std::uint32_t kSlots = 64;
constexpr std::uint32_t kStagedGroups = 64;

struct GatherCase {
  RowShape shape;
  HbmFormat format;
  std::uint32_t heads = 8;
  std::uint32_t tokens = 40;
  std::uint32_t shift_bytes = 0;  ///< Of the output, from what is best aligned.
};

/// One side: a device, and all that a gather reads and writes in its memory.
struct Side {
  Side(HbmDevice& of, const GatherCase& gather, bool is_gpu)
      : device(of), on_gpu(is_gpu), c(gather) {
    const std::uint64_t group_bytes = std::uint64_t{c.shape.row_size_bytes()} * c.heads;
    slot_bytes = static_cast<std::uint32_t>((group_bytes + 15) / 16 * 16);
    const std::uint64_t rows = std::uint64_t{c.tokens} * kOrders * c.heads;
    out_bytes = rows * (c.shape.row_size_bytes() + 2 * std::uint64_t{c.shape.value_count}) + 64;
    slots = device.AllocateDevice(kSlots * slot_bytes).value();
    out = device.AllocateDevice(out_bytes).value();
    arrivals = device.AllocateDevice(64).value();
    mapped = device.AllocateMapped(kPlacesAt + c.tokens * kOrders * sizeof(GroupSource)).value();
    staging = device.AllocateMapped(kStagedGroups * group_bytes + 64).value();
    stream = device.CreateStream().value();
  }
  ~Side() {
    device.FreeDevice(slots);
    device.FreeDevice(out);
    device.FreeDevice(arrivals);
    device.FreeMapped(mapped);
    device.FreeMapped(staging);
    device.DestroyStream(stream);
  }
  Side(const Side&) = delete;
  Side& operator=(const Side&) = delete;

  void Write(std::byte* target, const std::vector<std::byte>& bytes) const {
    if (on_gpu) {
      EXPECT_EQ(cudaMemcpy(target, bytes.data(), bytes.size(), cudaMemcpyHostToDevice),
                cudaSuccess);
    } else {
      std::copy(bytes.begin(), bytes.end(), target);
    }
  }
  [[nodiscard]] std::vector<std::byte> Read(const std::byte* source, std::uint64_t size) const {
    std::vector<std::byte> bytes(size);
    if (on_gpu) {
      EXPECT_EQ(cudaMemcpy(bytes.data(), source, size, cudaMemcpyDeviceToHost), cudaSuccess);
    } else {
      std::copy(source, source + size, bytes.begin());
    }
    return bytes;
  }

  void Run(std::uint32_t sequence, std::uint32_t token_count, std::uint32_t multiprocessors_max) {
    const bool by_value = sequence % 2 == 0;
    auto* const header = reinterpret_cast<BatchHeader*>(mapped.host);
    *header = {.sequence = sequence,
               .token_count = token_count,
               .staging_offset_bytes = 64,
               .rows = out + c.shift_bytes,
               .scales = nullptr};
    const std::uint64_t values = std::uint64_t{c.tokens} * kOrders * c.heads * c.shape.value_count;
    if (c.format == HbmFormat::kRowsAndScales) header->scales = header->rows + values;
    const GatherArguments arguments = {
        .headers = by_value ? nullptr : mapped.device,
        .batch = by_value ? *header : BatchHeader{},
        .groups = reinterpret_cast<GroupSource*>(mapped.device + kPlacesAt),
        .slots = slots,
        .staging = staging.device,
        .done = reinterpret_cast<std::uint32_t*>(mapped.device + kDoneAt),
        .arrivals = reinterpret_cast<std::uint32_t*>(arrivals),
        .shape = c.shape,
        .format = c.format,
        .order_count = kOrders,
        .rows_per_group = c.heads,
        .slot_size_bytes = slot_bytes,
        .token_capacity = c.tokens,
        .multiprocessors_max = multiprocessors_max};
    const Status status = device.Gather({&arguments, 1}, stream);
    ASSERT_TRUE(status.ok()) << status.ToString();
    const Status ended = device.Synchronize();
    ASSERT_TRUE(ended.ok()) << ended.ToString();
    EXPECT_EQ(*reinterpret_cast<std::uint32_t*>(mapped.host + kDoneAt), sequence);
  }

  static constexpr std::uint64_t kDoneAt = 64;
  static constexpr std::uint64_t kPlacesAt = 128;
  HbmDevice& device;
  bool on_gpu;
  GatherCase c;
  std::uint32_t slot_bytes = 0;
  std::uint64_t out_bytes = 0;
  std::byte* slots = nullptr;
  std::byte* out = nullptr;
  std::byte* arrivals = nullptr;
  MappedMemory mapped;
  MappedMemory staging;
  HbmStream stream;
};

std::vector<std::byte> RandomBytes(Prng& prng, std::uint64_t size) {
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(prng());
  return bytes;
}

/// Slots 0 to 31 are read, 32 to 63 are filled, each once at most.
std::vector<GroupSource> RandomPlaces(Prng& prng, std::size_t count) {
  std::vector<GroupSource> places(count);
  std::uint32_t fill = kSlots / 2;
  for (GroupSource& place : places) {
    const std::uint64_t kind = prng.Below(8);
    if (kind == 0) continue;
    if (kind < 5) {
      place.source = static_cast<std::uint32_t>(prng.Below(kSlots / 2));
      continue;
    }
    place.source = GroupSource::kStaged | static_cast<std::uint32_t>(prng.Below(kStagedGroups));
    if (kind == 7 && fill < kSlots) place.fill_slot = fill++;
  }
  return places;
}

bool SameBytes(const std::vector<std::byte>& a, const std::vector<std::byte>& b, bool bf16,
               std::uint32_t shift) {
  if (!bf16) return a == b;
  const auto is_nan = [](std::uint16_t value) { return (value & 0x7FFFU) > 0x7F80U; };
  for (std::size_t i = shift; i + 1 < a.size(); i += 2) {
    std::uint16_t x = 0;
    std::uint16_t y = 0;
    std::memcpy(&x, &a[i], 2);
    std::memcpy(&y, &b[i], 2);
    if (x != y && !(is_nan(x) && is_nan(y))) return false;
  }
  return true;
}

void ExpectSameAsFake(const GatherCase& c, std::uint64_t seed) {
  Prng prng(seed);
  Result<std::unique_ptr<HbmDevice>> opened = OpenCudaHbmDevice(FlagWait::kAuto);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  testing::FakeHbmDevice fake(seed, 0);
  Side gpu(*opened.value(), c, true);
  Side host(fake, c, false);
  for (std::uint32_t round = 1; round <= 4; ++round) {
    const auto slots = RandomBytes(prng, std::uint64_t{kSlots} * gpu.slot_bytes);
    const auto staged = RandomBytes(prng, gpu.staging.size_bytes);
    const auto places = RandomPlaces(prng, std::size_t{c.tokens} * kOrders);
    for (Side* side : {&gpu, &host}) {
      side->Write(side->slots, slots);
      side->Write(side->out, std::vector<std::byte>(side->out_bytes, std::byte{0xA5}));
      std::copy(staged.begin(), staged.end(), side->staging.host);
      std::copy(places.begin(), places.end(),
                reinterpret_cast<GroupSource*>(side->mapped.host + Side::kPlacesAt));
      // Fewer tokens than there is room for, and few multiprocessors, in some rounds.
      side->Run(round, round == 2 ? c.tokens / 2 : c.tokens, round == 3 ? 1 : 0);
    }
    EXPECT_TRUE(SameBytes(gpu.Read(gpu.out, gpu.out_bytes), host.Read(host.out, host.out_bytes),
                          c.format == HbmFormat::kBf16, c.shift_bytes % 2))
        << "round " << round;
    EXPECT_EQ(gpu.Read(gpu.slots, slots.size()), host.Read(host.slots, slots.size()));
  }
}

using GatherOnGpu = testing::GpuTest;

constexpr RowShape kV41 = {.format = RowFormat::kE4M3Block32, .value_count = 256};

TEST_F(GatherOnGpu, StoredRows) {
  ExpectSameAsFake({.shape = kV41, .format = HbmFormat::kStored}, 1);
  ExpectSameAsFake({.shape = kV41, .format = HbmFormat::kStored, .shift_bytes = 1}, 2);
  ExpectSameAsFake({.shape = kV41, .format = HbmFormat::kStored, .shift_bytes = 8}, 3);
  // A shard of one head: groups of 264 B.
  ExpectSameAsFake({.shape = kV41, .format = HbmFormat::kStored, .heads = 1}, 4);
  ExpectSameAsFake({.shape = kV41, .format = HbmFormat::kStored, .heads = 8, .tokens = 3000}, 5);
  ExpectSameAsFake({.shape = {.format = RowFormat::kE4M3Block32, .value_count = 32},
                    .format = HbmFormat::kStored,
                    .heads = 3},
                   6);
}

TEST_F(GatherOnGpu, RowsAndScalesApart) {
  ExpectSameAsFake({.shape = kV41, .format = HbmFormat::kRowsAndScales}, 1);
  ExpectSameAsFake({.shape = kV41, .format = HbmFormat::kRowsAndScales, .shift_bytes = 3}, 2);
  ExpectSameAsFake({.shape = {.format = RowFormat::kE4M3Block32, .value_count = 96},
                    .format = HbmFormat::kRowsAndScales},
                   3);
}

TEST_F(GatherOnGpu, Bf16OfEveryRowFormat) {
  for (const RowFormat format : {RowFormat::kE4M3Block32, RowFormat::kE4M3Tensor, RowFormat::kBf16,
                                 RowFormat::kFp16, RowFormat::kFp32}) {
    SCOPED_TRACE(std::string(Name(format)));
    const RowShape shape = {.format = format, .value_count = 160, .tensor_scale = 0.0123F};
    ExpectSameAsFake({.shape = shape, .format = HbmFormat::kBf16}, 1);
    ExpectSameAsFake({.shape = shape, .format = HbmFormat::kBf16, .heads = 3}, 2);
    ExpectSameAsFake({.shape = shape, .format = HbmFormat::kBf16, .shift_bytes = 2}, 3);
  }
  ExpectSameAsFake({.shape = kV41, .format = HbmFormat::kBf16}, 4);
}

TEST_F(GatherOnGpu, Bf16IsTheGoldenOne) {
  const nlohmann::json golden = testing::Golden("fp8_v41.json")["row_dequant"];
  const auto weights = golden["weight_bytes"].get<std::vector<std::vector<std::uint8_t>>>();
  const auto scales = golden["scale_bytes"].get<std::vector<std::vector<std::uint8_t>>>();
  const auto bits = golden["bf16_bits"].get<std::vector<std::vector<std::uint16_t>>>();
  const RowShape shape = {.format = RowFormat::kE4M3Block32,
                          .value_count = static_cast<std::uint32_t>(weights[0].size())};
  Result<std::unique_ptr<HbmDevice>> opened = OpenCudaHbmDevice(FlagWait::kAuto);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  for (std::size_t row = 0; row < weights.size(); ++row) {
    Side gpu(*opened.value(), {.shape = shape, .format = HbmFormat::kBf16, .heads = 1, .tokens = 1},
             true);
    std::vector<std::byte> stored;
    for (const std::uint8_t byte : weights[row]) stored.push_back(std::byte{byte});
    for (const std::uint8_t byte : scales[row]) stored.push_back(std::byte{byte});
    gpu.Write(gpu.slots, stored);
    auto* const places = reinterpret_cast<GroupSource*>(gpu.mapped.host + Side::kPlacesAt);
    places[0] = {.source = 0};
    gpu.Run(1, 1, 0);
    const std::vector<std::byte> out = gpu.Read(gpu.out, shape.value_count * 2);
    for (std::uint32_t i = 0; i < shape.value_count; ++i) {
      std::uint16_t value = 0;
      std::memcpy(&value, &out[i * 2], 2);
      const bool nan = (bits[row][i] & 0x7FFFU) > 0x7F80U;
      EXPECT_TRUE(value == bits[row][i] || (nan && (value & 0x7FFFU) > 0x7F80U))
          << "row " << row << ", value " << i;
    }
  }
}

TEST_F(GatherOnGpu, GroupsComeOutOfASlabThatProcessesShare) {
  Prng prng(3);
  Result<SharedSlab> slab = SharedSlab::Create(100 * 2112, CachePages::kPlain);
  ASSERT_TRUE(slab.ok()) << slab.status().ToString();
  const auto bytes = RandomBytes(prng, 100 * 2112);
  std::copy(bytes.begin(), bytes.end(), slab.value().writable_bytes().begin());
  const Result<HostRegistration> registered =
      HostRegistration::Register(slab.value().bytes(), /*read_only=*/false);
  ASSERT_TRUE(registered.ok()) << registered.status().ToString();
  std::vector<std::uint32_t> numbers(50);
  for (std::uint32_t& number : numbers) number = static_cast<std::uint32_t>(prng.Below(100));
  numbers[7] = SlabGather::kNone;
  const testing::DeviceArray<std::uint32_t> groups{std::span<const std::uint32_t>(numbers)};
  const testing::DeviceArray<std::byte> out(50 * 2112);
  SlabGather gather = {.slab = registered.value().device(),
                       .group_stride_bytes = 2112,
                       .groups = groups.data(),
                       .group_count = numbers.size(),
                       .shape = kV41,
                       .rows_per_group = 8,
                       .format = HbmFormat::kStored,
                       .rows = out.data()};
  const Status status = GatherFromSlabAsync(gather, nullptr);
  ASSERT_TRUE(status.ok()) << status.ToString();
  const std::vector<std::byte> found = out.Read();
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    std::vector<std::byte> expected(2112);
    if (numbers[i] != SlabGather::kNone) {
      std::copy_n(bytes.begin() + numbers[i] * 2112, 2112, expected.begin());
    }
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), found.begin() + i * 2112)) << i;
  }
  gather.slab = nullptr;
  EXPECT_EQ(GatherFromSlabAsync(gather, nullptr).code(), StatusCode::kInvalidArgument);
}

TEST_F(GatherOnGpu, AFlagHoldsTheStreamUntilItIsSet) {
  for (const FlagWait how : {FlagWait::kKernel, FlagWait::kAuto}) {
    Result<std::unique_ptr<HbmDevice>> opened = OpenCudaHbmDevice(how);
    ASSERT_TRUE(opened.ok()) << opened.status().ToString();
    HbmDevice& device = *opened.value();
    const MappedMemory memory = device.AllocateMapped(64).value();
    const HbmStream stream = device.CreateStream().value();
    const HbmEvent event = device.CreateEvent().value();
    const Mapped<std::uint32_t> flag = {reinterpret_cast<std::uint32_t*>(memory.host),
                                        reinterpret_cast<std::uint32_t*>(memory.device)};
    ASSERT_TRUE(device.WaitFlag(flag, stream).ok());
    ASSERT_TRUE(device.RecordEvent(event, stream).ok());
    for (int i = 0; i < 1000; ++i) EXPECT_FALSE(device.QueryEvent(event).value());
    std::atomic_ref<std::uint32_t>(*flag.host).store(1, std::memory_order_release);
    EXPECT_TRUE(device.Synchronize().ok());
    EXPECT_TRUE(device.QueryEvent(event).value());
    device.DestroyEvent(event);
    device.DestroyStream(stream);
    device.FreeMapped(memory);
  }
}

}  // namespace
}  // namespace tiercel
