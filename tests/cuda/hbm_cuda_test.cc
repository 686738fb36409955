// Goal: the tier on a GPU gives the store's bytes, batch after batch, all tiers mixed, with
// eviction, on several streams and in replayed graphs.
//
// Method: HBM and DRAM far too small for what is asked; every output is compared with the
// generator. TIERCEL_GPU_BATCHES sets how many batches (2,000 unless set), TIERCEL_GPU_SEED
// which.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "base/prng.h"
#include "tests/cuda/cuda_test_support.h"
#include "tests/support/made_checkpoint.h"
#include "tiercel/cuda.h"
#include "tiercel/store.h"

namespace tiercel {
namespace {

using testing::DeviceArray;
using testing::MadeCheckpoint;
using HbmOnGpu = testing::GpuTest;

constexpr std::uint32_t kTokensMax = 16;
constexpr std::uint32_t kColumns = 24;
constexpr std::uint32_t kRowBytes = 264;

std::uint64_t NumberOf(const char* variable, std::uint64_t otherwise) {
  const char* const text = std::getenv(variable);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}
std::uint64_t BatchCount() {
  return NumberOf("TIERCEL_GPU_BATCHES", 2000);
}
std::uint64_t Seed() {
  return NumberOf("TIERCEL_GPU_SEED", 1);
}

/// True rows, made once each.
class TrueRows {
 public:
  explicit TrueRows(const MadeCheckpoint& made) : made_(made) {}
  const std::vector<std::byte>& Row(std::uint32_t layer_id, RowId row) {
    auto [entry, is_new] = rows_.try_emplace({layer_id, Index(row)});
    if (is_new) entry->second = made_.Row(layer_id, row);
    return entry->second;
  }

 private:
  const MadeCheckpoint& made_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, std::vector<std::byte>> rows_;
};

/// A batch on the device, of stored rows.
struct GpuBatch {
  GpuBatch() : layer_1(kTokensMax * kColumns * kRowBytes), layer_14(layer_1.size()) {
    outputs = {{.layer_id = 1, .rows = layer_1.data()}, {.layer_id = 14, .rows = layer_14.data()}};
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  }
  ~GpuBatch() { cudaStreamDestroy(stream); }
  GpuBatch(const GpuBatch&) = delete;
  GpuBatch& operator=(const GpuBatch&) = delete;

  void Draw(const MadeCheckpoint& made, Prng& prng) {
    tokens = made.RandomTokens(prng.Below(500), 1 + prng.Below(kTokensMax));
    if (prng.Below(8) == 0) tokens[prng.Below(tokens.size())] = kDeadToken;
    run = {.history = {}, .tokens = tokens};
  }

  void Check(const Store& store, TrueRows& rows) {
    ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    for (const HbmOutput& output : outputs) {
      const std::vector<RowId> ids = testing::RowIdsOf(store, output.layer_id, run);
      found.resize(ids.size() * kRowBytes);
      ASSERT_EQ(cudaMemcpy(found.data(), output.rows, found.size(), cudaMemcpyDeviceToHost),
                cudaSuccess);
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const auto row = std::span(found).subspan(i * kRowBytes, kRowBytes);
        const bool right =
            tokens[i / kColumns] == kDeadToken
                ? std::ranges::all_of(row, [](std::byte byte) { return byte == std::byte{0}; })
                : std::ranges::equal(row, rows.Row(output.layer_id, ids[i]));
        ASSERT_TRUE(right) << "layer " << output.layer_id << ", row " << i;
      }
    }
  }

  DeviceArray<std::byte> layer_1;
  DeviceArray<std::byte> layer_14;
  std::vector<HbmOutput> outputs;
  cudaStream_t stream = nullptr;
  std::vector<std::int32_t> tokens;
  TokenRun run;
  std::vector<std::byte> found;
};

HbmOptions GpuTestOptions() {
  HbmOptions options;
  options.hbm_budget_bytes = 400 * 2112;
  options.staging_bytes = std::uint64_t{8} << 20;
  options.tokens_max = kTokensMax;
  options.format = HbmFormat::kStored;
  return options;
}

std::unique_ptr<Store> OpenSmallStore(const MadeCheckpoint& made) {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{20} << 20;
  options.log = [](std::string_view /*line*/) {};
  Result<std::unique_ptr<Store>> store = Store::Open(made.path(), options);
  EXPECT_TRUE(store.ok()) << store.status().ToString();
  return std::move(store).value();
}

TEST_F(HbmOnGpu, RandomBatchesOnSeveralStreams) {
  const MadeCheckpoint made({});
  TrueRows rows(made);
  for (const HbmUpload upload : {HbmUpload::kWithGather, HbmUpload::kCopyEngine}) {
    for (const FlagWait flag_wait : {FlagWait::kAuto, FlagWait::kKernel}) {
      const std::unique_ptr<Store> store = OpenSmallStore(made);
      HbmOptions options = GpuTestOptions();
      options.upload = upload;
      options.flag_wait = flag_wait;
      Result<std::unique_ptr<HbmTier>> tier = HbmTier::Open(*store, options);
      ASSERT_TRUE(tier.ok()) << tier.status().ToString();
      Prng prng(Seed());
      std::vector<std::unique_ptr<GpuBatch>> batches;
      std::vector<HbmTicket> tickets(3);
      for (int i = 0; i < 3; ++i) batches.push_back(std::make_unique<GpuBatch>());
      for (std::uint64_t i = 0; i < BatchCount() / 4; ++i) {
        GpuBatch& batch = *batches[i % 3];
        if (tickets[i % 3].valid()) batch.Check(*store, rows);
        if (HasFatalFailure()) return;
        batch.Draw(made, prng);
        Result<HbmTicket> ticket =
            tier.value()->StartOnStream({&batch.run, 1}, batch.outputs, batch.stream);
        ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
        tickets[i % 3] = std::move(ticket).value();
      }
      for (int i = 0; i < 3; ++i) {
        if (tickets[i].valid()) batches[i]->Check(*store, rows);
      }
      const HbmStats stats = tier.value()->Stats();
      std::uint64_t hits = 0;
      std::uint64_t evictions = 0;
      for (const HbmOrderStats& order : stats.orders) {
        hits += order.hits;
        evictions += order.evictions;
      }
      if (BatchCount() >= 1000) {  // Under a sanitizer there are fewer.
        EXPECT_GT(hits, 0U);
        EXPECT_GT(evictions, 0U);
      }
    }
  }
}

TEST_F(HbmOnGpu, AGraphReplaysWithNewTokens) {
  const MadeCheckpoint made({});
  TrueRows rows(made);
  for (const FlagWait flag_wait : {FlagWait::kAuto, FlagWait::kKernel, FlagWait::kInGather}) {
    const std::unique_ptr<Store> store = OpenSmallStore(made);
    HbmOptions options = GpuTestOptions();
    options.flag_wait = flag_wait;
    Result<std::unique_ptr<HbmTier>> tier = HbmTier::Open(*store, options);
    ASSERT_TRUE(tier.ok()) << tier.status().ToString();
    GpuBatch batch;
    Result<HbmTicket> lane = tier.value()->OpenLane(kTokensMax, batch.outputs);
    ASSERT_TRUE(lane.ok()) << lane.status().ToString();
    // Prefetch beside the model: a stream that is forked from the captured one and joined.
    cudaStream_t side = nullptr;
    cudaEvent_t fork = nullptr;
    ASSERT_EQ(cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming), cudaSuccess);
    ASSERT_EQ(cudaStreamBeginCapture(batch.stream, cudaStreamCaptureModeGlobal), cudaSuccess);
    ASSERT_EQ(cudaEventRecord(fork, batch.stream), cudaSuccess);
    ASSERT_EQ(cudaStreamWaitEvent(side, fork, 0), cudaSuccess);
    Status status = tier.value()->EnqueueOnStream(lane.value(), side);
    ASSERT_TRUE(status.ok()) << status.ToString();
    for (const std::uint32_t layer_id : {1U, 14U}) {
      status = tier.value()->WaitOnStream(lane.value(), layer_id, batch.stream);
      ASSERT_TRUE(status.ok()) << status.ToString();
    }
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    ASSERT_EQ(cudaStreamEndCapture(batch.stream, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
    Prng prng(Seed() + 1000);
    for (std::uint64_t i = 0; i < BatchCount() / 10; ++i) {
      batch.Draw(made, prng);
      status = tier.value()->Restart(lane.value(), {&batch.run, 1});
      ASSERT_TRUE(status.ok()) << status.ToString();
      ASSERT_EQ(cudaGraphLaunch(executable, batch.stream), cudaSuccess);
      batch.Check(*store, rows);
      if (HasFatalFailure()) return;
      ASSERT_TRUE(lane.value().TryStatus(14).has_value());
    }
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
    cudaEventDestroy(fork);
    cudaStreamDestroy(side);
  }
}

/// A probe of a batch's tokens, which lie on the device.
struct GpuProbe {
  explicit GpuProbe(const GpuBatch& batch)
      : ids(std::span<const std::int32_t>(batch.tokens)),
        position(batch.tokens.size()),
        starts(batch.tokens.size()),
        places(batch.tokens.size() * 3 * 2),
        misses(batch.tokens.size() * 3),
        token_count(static_cast<std::uint32_t>(batch.tokens.size())) {
    std::vector<std::uint32_t> positions(token_count);
    for (std::uint32_t i = 0; i < token_count; ++i) positions[i] = i;
    position = DeviceArray<std::uint32_t>(std::span<const std::uint32_t>(positions));
    starts.Fill(0);
  }

  /// Runs it to its end. The misses, on the host.
  std::vector<DeviceMiss> Run(HbmTier& tier, const DeviceHasher& hasher, std::uint32_t layer_id,
                              cudaStream_t stream) {
    miss_count.Fill(0);
    const Status status = tier.ProbeOnStream(
        hasher, layer_id,
        {.ids = ids.data(),
         .position = position.data(),
         .run_start = starts.data(),
         .token_count = token_count},
        {}, {.places = places.data(), .misses = misses.data(), .miss_count = miss_count.data()},
        stream);
    EXPECT_TRUE(status.ok()) << status.ToString();
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    std::vector<DeviceMiss> missed = misses.Read();
    missed.resize(miss_count.Read()[0]);
    return missed;
  }

  DeviceArray<std::int32_t> ids;
  DeviceArray<std::uint32_t> position;
  DeviceArray<std::uint32_t> starts;
  DeviceArray<std::uint32_t> places;
  DeviceArray<DeviceMiss> misses;
  DeviceArray<std::uint32_t> miss_count{1};
  std::uint32_t token_count;
};

TEST_F(HbmOnGpu, AProbeFindsWhatTheHostWouldFind) {
  const MadeCheckpoint made({});
  const std::unique_ptr<Store> store = OpenSmallStore(made);
  HbmOptions options = GpuTestOptions();
  options.device_directory = true;
  Result<std::unique_ptr<HbmTier>> tier = HbmTier::Open(*store, options);
  ASSERT_TRUE(tier.ok()) << tier.status().ToString();
  Result<std::unique_ptr<DeviceHasher>> hasher =
      DeviceHasher::Create(store->hasher().recipe(), nullptr);
  ASSERT_TRUE(hasher.ok()) << hasher.status().ToString();
  GpuBatch batch;
  Prng prng(1);
  batch.Draw(made, prng);
  GpuProbe probe(batch);
  const auto dead =
      static_cast<std::size_t>(std::count(batch.tokens.begin(), batch.tokens.end(), kDeadToken));
  EXPECT_EQ(probe.Run(*tier.value(), *hasher.value(), 14, batch.stream).size(),
            3 * (batch.tokens.size() - dead));
  const Result<HbmTicket> ticket =
      tier.value()->StartOnStream({&batch.run, 1}, batch.outputs, batch.stream);
  ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
  ASSERT_EQ(cudaStreamSynchronize(batch.stream), cudaSuccess);
  ASSERT_TRUE(tier.value()->SyncDirectoryOnStream(batch.stream).ok());
  EXPECT_TRUE(probe.Run(*tier.value(), *hasher.value(), 14, batch.stream).empty());
}

TEST_F(HbmOnGpu, WhatAProbeFoundAndMissedIsGathered) {
  const MadeCheckpoint made({});
  const std::unique_ptr<Store> store = OpenSmallStore(made);
  TrueRows rows(made);
  for (const HbmUpload upload : {HbmUpload::kWithGather, HbmUpload::kCopyEngine}) {
    HbmOptions options = GpuTestOptions();
    options.device_directory = true;
    options.upload = upload;
    Result<std::unique_ptr<HbmTier>> tier = HbmTier::Open(*store, options);
    ASSERT_TRUE(tier.ok()) << tier.status().ToString();
    Result<std::unique_ptr<DeviceHasher>> hasher =
        DeviceHasher::Create(store->hasher().recipe(), nullptr);
    ASSERT_TRUE(hasher.ok()) << hasher.status().ToString();
    GpuBatch batch;
    Prng prng(2);
    std::size_t found = 0;
    for (int round = 0; round < 60; ++round) {
      batch.tokens = made.RandomTokens(prng.Below(20), kTokensMax);  // Few, so that they repeat.
      batch.run = {.history = {}, .tokens = batch.tokens};
      GpuProbe probe(batch);
      for (const HbmOutput& output : batch.outputs) {
        const std::vector<DeviceMiss> missed =
            probe.Run(*tier.value(), *hasher.value(), output.layer_id, batch.stream);
        found += 3 * batch.tokens.size() - missed.size();
        const Result<HbmTicket> ticket = tier.value()->FetchMissesOnStream(
            {.places = probe.places.data(), .token_count = probe.token_count, .misses = missed},
            output, batch.stream);
        ASSERT_TRUE(ticket.ok()) << ticket.status().ToString();
        ASSERT_EQ(cudaStreamSynchronize(batch.stream), cudaSuccess);
      }
      batch.Check(*store, rows);
      ASSERT_TRUE(tier.value()->SyncDirectoryOnStream(batch.stream).ok());
      if (HasFailure()) return;
    }
    EXPECT_GT(found, 100U);
  }
}

}  // namespace
}  // namespace tiercel
