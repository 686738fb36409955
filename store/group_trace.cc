#include "store/group_trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "base/prng.h"
#include "cache/group_hash.h"

namespace tiercel {
namespace {

/// Slices of a sample: seven degrees of freedom for the standard error.
constexpr std::uint32_t kSlices = 8;
constexpr std::size_t kRunTokensMax = 65536;
constexpr double kSampledUses = 12e6;
/// The highest number of an access is kept free: it stands for "never".
constexpr std::size_t kUsesMax = std::numeric_limits<std::uint32_t>::max() - 1;

}  // namespace

double SuggestedSampleFraction(std::uint64_t ngram_use_count) noexcept {
  const auto uses = static_cast<double>(ngram_use_count);
  return uses <= kSampledUses ? 1.0 : std::sqrt(kSampledUses / uses) / 2.0;
}

std::uint32_t ItemTable::Number(AccessTrace& trace, std::uint64_t hash, std::uint64_t key,
                                std::uint8_t space) {
  if (2 * std::size_t{trace.item_count()} >= numbers_.size()) Grow(trace);
  std::size_t at = hash & (numbers_.size() - 1);
  for (; numbers_[at] != 0; at = (at + 1) & (numbers_.size() - 1)) {
    const std::uint32_t number = numbers_[at] - 1;
    if (trace.keys[number] == key && trace.classes[number] == space) return number;
  }
  const std::uint32_t number = trace.item_count();
  numbers_[at] = number + 1;
  trace.keys.push_back(key);
  trace.classes.push_back(space);
  return number;
}

void ItemTable::Grow(const AccessTrace& trace) {
  numbers_.assign(std::max<std::size_t>(2 * numbers_.size(), 1024), 0);
  for (std::uint32_t number = 0; number < trace.item_count(); ++number) {
    std::size_t at = HashGroup(trace.classes[number], trace.keys[number]) & (numbers_.size() - 1);
    while (numbers_[at] != 0) at = (at + 1) & (numbers_.size() - 1);
    numbers_[at] = number + 1;
  }
}

GroupTraceImpl::GroupTraceImpl(Hasher hasher_in, const GroupTraceOptions& options_in)
    : hasher(std::move(hasher_in)),
      options(options_in),
      slices(options.sample_fraction < 1.0 ? kSlices : 1) {
  const double two64 = std::exp2(64.0);
  sample_limit = options.sample_fraction < 1.0
                     ? static_cast<std::uint64_t>(options.sample_fraction * two64)
                     : std::numeric_limits<std::uint64_t>::max();
  slice_scale = static_cast<double>(slices.size()) / (options.sample_fraction * two64);
  for (TraceSlice& slice : slices) slice.trace.class_count = hasher.recipe().order_count();
  if (options.warm_token_count == 0) BeginCounting();
}

void GroupTraceImpl::BeginCounting() noexcept {
  counting = true;
  for (TraceSlice& slice : slices) slice.trace.counted_begin = slice.trace.items.size();
}

Status GroupTraceImpl::AddTokens(const TokenRun& run) {
  const std::size_t order_count = hasher.recipe().order_count();
  mixes.resize(run.tokens.size() * order_count);
  dead.resize(run.tokens.size());
  if (Status status = hasher.Mixes(0, run, mixes, dead); !status.ok()) return status;
  const std::uint64_t seed = SplitMix64(options.seed);
  const auto slice_last = static_cast<double>(slices.size() - 1);
  for (std::size_t t = 0; t < run.tokens.size(); ++t) {
    if (!counting && warm_token_count == options.warm_token_count) BeginCounting();
    ++(counting ? token_count : warm_token_count);
    if (dead[t] != 0) {
      dead_token_count += counting ? 1 : 0;
      continue;
    }
    for (std::uint32_t order = 0; order < order_count; ++order) {
      const std::uint64_t key = hasher.GroupKey(0, order, mixes[t * order_count + order]);
      const std::uint64_t hash = HashGroup(order, key);
      // Mixed anew: what a policy sees of the hash must not be what it was chosen by.
      const std::uint64_t chance = SplitMix64(hash ^ seed);
      if (chance > sample_limit) continue;
      TraceSlice& slice = slices[static_cast<std::size_t>(
          std::min(static_cast<double>(chance) * slice_scale, slice_last))];
      slice.trace.items.push_back(
          slice.table.Number(slice.trace, hash, key, static_cast<std::uint8_t>(order)));
    }
  }
  for (const TraceSlice& slice : slices) {
    if (slice.trace.items.size() < kUsesMax - kRunTokensMax * order_count) continue;
    return Status(StatusCode::kResourceExhausted,
                  fmt::format("a trace of more than {} n-gram uses: take a smaller sample than {}",
                              kUsesMax, options.sample_fraction));
  }
  return {};
}

GroupTrace::GroupTrace(std::unique_ptr<GroupTraceImpl> impl) noexcept : impl_(std::move(impl)) {}
GroupTrace::GroupTrace(GroupTrace&&) noexcept = default;
GroupTrace& GroupTrace::operator=(GroupTrace&&) noexcept = default;
GroupTrace::~GroupTrace() = default;

Result<GroupTrace> GroupTrace::Create(Hasher hasher, const GroupTraceOptions& options) {
  if (!(options.sample_fraction > 0.0 && options.sample_fraction <= 1.0)) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("a sample of {}; it must be above 0 and at most 1", options.sample_fraction));
  }
  return GroupTrace(std::make_unique<GroupTraceImpl>(std::move(hasher), options));
}

Status GroupTrace::Add(const TokenRun& run) {
  if (run.tokens.size() > kRunTokensMax) {
    return Status(
        StatusCode::kInvalidArgument,
        fmt::format("a run of {} tokens; at most {} at a time", run.tokens.size(), kRunTokensMax));
  }
  return impl_->AddTokens(run);
}

}  // namespace tiercel
