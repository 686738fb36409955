// What a gather moves a second: out of HBM against the device's own copy, out of pinned
// memory against the copy engine's, each beside the same bytes row by row.

#include <string>
#include <vector>

#include "base/prng.h"
#include "bench/gpu/report.h"
#include "bench/gpu/rig.h"

namespace tiercel::bench {
namespace {

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

void BenchFrom(GatherRig& rig, GroupsFrom from, std::uint32_t repeats, cudaStream_t stream,
               Report& report) {
  const bool hbm = from == GroupsFrom::kHbm;
  const double limit_gbps = hbm ? report.limits().copy_gbps : report.limits().pinned_copy_gbps;
  const std::string name = hbm ? "gather_hbm" : "gather_pinned";
  for (const std::uint32_t tokens : {1U, 2U, 4U, 64U, 512U, 2048U}) {
    const double stored_bytes =
        static_cast<double>(tokens) * GatherRig::kOrders * GatherRig::kGroupBytes;
    for (const HbmFormat format :
         {HbmFormat::kStored, HbmFormat::kRowsAndScales, HbmFormat::kBf16}) {
      rig.Draw(tokens, format, from);
      const double written = format == HbmFormat::kBf16 ? stored_bytes / 264 * 512 : stored_bytes;
      // Over PCIe what is read counts alone, as for the copy that is the limit.
      const double bytes = hbm ? stored_bytes + written : stored_bytes;
      const Timing timing = Time(stream, repeats, [&](std::uint32_t i) { rig.Gather(i, stream); });
      const double gbps = bytes / timing.median_us / 1e3;
      report.Add(name, timing,
                 {{"format", NameOf(format)},
                  {"tokens", tokens},
                  {"gbps", gbps},
                  {"of_limit", gbps / limit_gbps}});
    }
    rig.Draw(tokens, HbmFormat::kStored, from);
    const Timing timing =
        Time(stream, repeats, [&](std::uint32_t i) { rig.GatherRows(i, stream); });
    const double gbps = (hbm ? 2 : 1) * stored_bytes / timing.median_us / 1e3;
    report.Add(name + "_by_row", timing,
               {{"tokens", tokens}, {"gbps", gbps}, {"of_limit", gbps / limit_gbps}});
  }
}

}  // namespace

void BenchGather(const GpuBenchOptions& options, Report& report) {
  cudaStream_t stream = nullptr;
  Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  GatherRig rig(options.hbm_slab_bytes, options.pinned_slab_bytes);
  BenchFrom(rig, GroupsFrom::kHbm, options.repeats, stream, report);
  BenchFrom(rig, GroupsFrom::kPinned, options.repeats, stream, report);
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
    add("copy_engine", Time(stream, options.repeats / 4, [&](std::uint32_t i) {
          const Status status =
              rig.device().Copy(sets[i % sets.size()], GatherRig::kGroupBytes, HbmStream{stream});
          if (!status.ok()) Check(cudaErrorUnknown, status.ToString().c_str());
        }));
    // The gather that fills: what the upload costs beside it is the difference to one
    // that does not.
    rig.Draw(groups / GatherRig::kOrders, HbmFormat::kStored, GroupsFrom::kPinned, /*fill=*/true);
    add("gather_with_fill",
        Time(stream, options.repeats, [&](std::uint32_t i) { rig.Gather(i, stream); }));
    rig.Draw(groups / GatherRig::kOrders, HbmFormat::kStored, GroupsFrom::kPinned);
    add("gather_without_fill",
        Time(stream, options.repeats, [&](std::uint32_t i) { rig.Gather(i, stream); }));
  }
  Check(cudaStreamDestroy(stream), "cudaStreamDestroy");
}

}  // namespace tiercel::bench
