// What a gather moves a second: out of HBM against the device's own copy, out of pinned
// memory against the copy engine's, each beside the same bytes row by row.

#include <string>
#include <vector>

#include "base/prng.h"
#include "bench/gpu/report.h"
#include "bench/gpu/rig.h"

namespace tiercel::bench {
namespace {

/// Gathers in a graph, twice the input sets.
constexpr std::uint32_t kInGraph = 2 * GatherRig::kSets;

const char* NameOf(HbmFormat format) {
  switch (format) {
    case HbmFormat::kStored:
      return "stored";
    case HbmFormat::kRowsAndScales:
      return "rows_and_scales";
    case HbmFormat::kBf16:
      break;
  }
  return "bf16";
}

/// The device's own copies of `size_bytes` each: what a launch of that size can do at most.
double CopyGbps(const GatherRig& rig, std::uint64_t size_bytes, std::uint32_t repeats,
                cudaStream_t stream) {
  const Timing timing = TimeInGraph(stream, repeats, kInGraph, [&](std::uint32_t i) {
    Check(cudaMemcpyAsync(rig.output(), rig.slots() + i % GatherRig::kSets * size_bytes, size_bytes,
                          cudaMemcpyDeviceToDevice, stream),
          "copy");
  });
  return 2 * static_cast<double>(size_bytes) / timing.median_us / 1e3;
}

void BenchFrom(GatherRig& rig, GroupsFrom from, std::uint32_t repeats, cudaStream_t stream,
               Report& report) {
  const bool hbm = from == GroupsFrom::kHbm;
  const double limit_gbps = hbm ? report.limits().copy_gbps : report.limits().pinned_copy_gbps;
  const std::string name = hbm ? "gather_hbm" : "gather_pinned";
  for (const std::uint32_t tokens : {1U, 64U, 512U, 2048U, 8192U}) {
    const std::uint64_t group_count = std::uint64_t{tokens} * GatherRig::kOrders;
    const auto stored_bytes = static_cast<double>(group_count * GatherRig::kGroupBytes);
    const double copy_gbps =
        hbm ? CopyGbps(rig, group_count * GatherRig::kGroupBytes, repeats, stream) : limit_gbps;
    rig.Draw(tokens, HbmFormat::kStored, from);
    const Timing by_row =
        TimeInGraph(stream, repeats, kInGraph, [&](std::uint32_t i) { rig.GatherRows(i, stream); });
    const double row_gbps = (hbm ? 2 : 1) * stored_bytes / by_row.median_us / 1e3;
    report.Add(name + "_by_row", by_row,
               {{"tokens", tokens}, {"gbps", row_gbps}, {"of_limit", row_gbps / limit_gbps}});
    for (const HbmFormat format :
         {HbmFormat::kStored, HbmFormat::kRowsAndScales, HbmFormat::kBf16}) {
      rig.Draw(tokens, format, from);
      const double written = format == HbmFormat::kBf16 ? stored_bytes / 264 * 512 : stored_bytes;
      // Over PCIe what is read counts alone, as for the copy that is the limit.
      const double bytes = hbm ? stored_bytes + written : stored_bytes;
      const Timing timing = TimeInGraph(stream, repeats, kInGraph, [&](std::uint32_t i) {
        rig.Gather(i, stream, /*lane=*/false);
      });
      const double gbps = bytes / timing.median_us / 1e3;
      report.Add(name, timing,
                 {{"format", NameOf(format)},
                  {"tokens", tokens},
                  {"gbps", gbps},
                  {"of_limit", gbps / limit_gbps},
                  {"of_same_copy", gbps / copy_gbps},
                  {"of_by_row", by_row.median_us / timing.median_us}});
    }
  }
}

/// The same, held to few multiprocessors.
void BenchOnFew(GatherRig& rig, std::uint32_t repeats, cudaStream_t stream, Report& report) {
  constexpr std::uint32_t kTokens = 2048;
  for (const HbmFormat format : {HbmFormat::kStored, HbmFormat::kBf16}) {
    rig.Draw(kTokens, format, GroupsFrom::kPinned);
    for (const std::uint32_t multiprocessors : {1U, 2U, 4U, 8U, 16U}) {
      const Timing timing = TimeInGraph(stream, repeats / 4, kInGraph, [&](std::uint32_t i) {
        GatherArguments arguments = rig.Arguments(i, /*lane=*/false);
        arguments.multiprocessors_max = multiprocessors;
        const Status status = rig.device().Gather({&arguments, 1}, HbmStream{stream});
        if (!status.ok()) Check(cudaErrorUnknown, status.ToString().c_str());
      });
      const double gbps = static_cast<double>(kTokens) * GatherRig::kOrders *
                          GatherRig::kGroupBytes / timing.median_us / 1e3;
      report.Add("gather_pinned_on_few", timing,
                 {{"format", NameOf(format)},
                  {"multiprocessors", multiprocessors},
                  {"gbps", gbps},
                  {"of_limit", gbps / report.limits().pinned_copy_gbps}});
    }
  }
}

}  // namespace

void BenchGather(const GpuBenchOptions& options, Report& report) {
  cudaStream_t stream = nullptr;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  GatherRig rig(options.hbm_slab_bytes, options.pinned_slab_bytes);
  BenchFrom(rig, GroupsFrom::kHbm, options.repeats, stream, report);
  BenchFrom(rig, GroupsFrom::kPinned, options.repeats / 4, stream, report);
  BenchOnFew(rig, options.repeats / 4, stream, report);
  Check(cudaStreamDestroy(stream), "cudaStreamDestroy");
}

void BenchUpload(const GpuBenchOptions& options, Report& report) {
  cudaStream_t stream = nullptr;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  GatherRig rig(std::uint64_t{1} << 30, std::uint64_t{1} << 30);
  const double limit_gbps = report.limits().pinned_copy_gbps;
  for (const std::uint32_t groups : {6U, 192U, 6144U}) {
    Prng prng(groups);
    std::vector<std::vector<HbmCopy>> sets(GatherRig::kSets);
    for (auto& copies : sets) {
      const std::uint64_t first = prng.Below(rig.pinned_count() - groups);
      for (std::uint32_t i = 0; i < groups; ++i) {
        copies.push_back(
            {.source = rig.pinned().host + (first + i) * GatherRig::kGroupBytes,
             .target = rig.slots() + prng.Below(rig.slot_count()) * GatherRig::kGroupBytes});
      }
    }
    const double bytes = static_cast<double>(groups) * GatherRig::kGroupBytes;
    const auto add = [&](const char* how, const Timing& timing) {
      const double gbps = bytes / timing.median_us / 1e3;
      report.Add(
          "upload", timing,
          {{"by", how}, {"groups", groups}, {"gbps", gbps}, {"of_limit", gbps / limit_gbps}});
    };
    // Not in graphs: they come one by one, and what the host takes is part of it.
    add("copy_engine", Time(stream, options.repeats / 4, [&](std::uint32_t i) {
          const Status status =
              rig.device().Copy(sets[i % sets.size()], GatherRig::kGroupBytes, HbmStream{stream});
          if (!status.ok()) Check(cudaErrorUnknown, status.ToString().c_str());
        }));
    // The gather that fills: what the upload costs beside it is the difference to one
    // that does not.
    rig.Draw(groups / GatherRig::kOrders, HbmFormat::kStored, GroupsFrom::kPinned, /*fill=*/true);
    add("gather_with_fill", Time(stream, options.repeats,
                                 [&](std::uint32_t i) { rig.Gather(i, stream, /*lane=*/false); }));
    rig.Draw(groups / GatherRig::kOrders, HbmFormat::kStored, GroupsFrom::kPinned);
    add("gather_without_fill", Time(stream, options.repeats, [&](std::uint32_t i) {
          rig.Gather(i, stream, /*lane=*/false);
        }));
  }
  Check(cudaStreamDestroy(stream), "cudaStreamDestroy");
}

}  // namespace tiercel::bench
