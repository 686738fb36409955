#include <new>
#include <utility>

#include "cuda/hbm_cache.h"
#include "cuda/hbm_cuda_device.h"
#include "tiercel/cuda.h"

namespace tiercel {
namespace {

/// Of Open() and OpenLane(), which take it.
Status NoHostMemory() {
  return Status(StatusCode::kResourceExhausted,
                "no host memory for the directory, tickets or lanes of the HBM tier");
}

}  // namespace

HbmTier::HbmTier(std::shared_ptr<HbmCache> cache) noexcept : cache_(std::move(cache)) {}

HbmTier::~HbmTier() {
  cache_->Close();
}

Result<std::unique_ptr<HbmTier>> HbmTier::Open(Store& store, const HbmOptions& options) try {
  Result<std::unique_ptr<HbmDevice>> device = OpenCudaHbmDevice(options.flag_wait);
  if (!device.ok()) return std::move(device).TakeStatus();
  Result<std::shared_ptr<HbmCache>> cache =
      HbmCache::Create(store, std::move(device).value(), options);
  if (!cache.ok()) return std::move(cache).TakeStatus();
  return std::unique_ptr<HbmTier>(new HbmTier(std::move(cache).value()));
} catch (const std::bad_alloc&) {
  return NoHostMemory();
}

Result<HbmTicket> HbmTier::StartOnStream(std::span<const TokenRun> runs,
                                         std::span<const HbmOutput> outputs, cudaStream_t stream) {
  return cache_->StartOnStream(runs, outputs, HbmStream{stream});
}

Status HbmTier::WaitOnStream(const HbmTicket& ticket, std::uint32_t layer_id, cudaStream_t stream) {
  return cache_->WaitOnStream(ticket, layer_id, HbmStream{stream});
}

Result<HbmTicket> HbmTier::OpenLane(std::uint32_t token_capacity,
                                    std::span<const HbmOutput> outputs) try {
  return cache_->OpenLane(token_capacity, outputs);
} catch (const std::bad_alloc&) {
  return NoHostMemory();
}

Status HbmTier::EnqueueOnStream(const HbmTicket& lane, cudaStream_t stream) {
  return cache_->EnqueueOnStream(lane, HbmStream{stream});
}

Status HbmTier::Restart(const HbmTicket& lane, std::span<const TokenRun> runs) {
  return cache_->Restart(lane, runs);
}

Status HbmTier::Cancel(const HbmTicket& ticket) {
  return cache_->Cancel(ticket);
}

Status HbmTier::SyncDirectoryOnStream(cudaStream_t stream) {
  return cache_->SyncDirectoryOnStream(HbmStream{stream});
}

Result<HbmTicket> HbmTier::FetchMissesOnStream(const ProbedTokens& probed, const HbmOutput& output,
                                               cudaStream_t stream) {
  return cache_->FetchMissesOnStream(probed, output, HbmStream{stream});
}

HbmStats HbmTier::Stats() const {
  return cache_->Stats();
}

}  // namespace tiercel
