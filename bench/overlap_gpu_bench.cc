// What a table outside of the GPU's memory costs: overlap_bench with a GPU that computes.
//
// A block is as many products of matrices as take --block-ms alone: they stand in for
// attention and experts. An Engram layer is the real one (cuda/layer/), its weights random and
// as wide as the model's. The host queues blocks ahead of the GPU; a step ends when the GPU is
// done, as it must before a token is sampled. Arms beside those of overlap_bench, whose
// rows are copied from pinned memory in front of the layer on the model's stream:
//
// - rows that are on the device already, which no arm can beat: the others are compared with it;
// - the table in device memory, where it fits (--hbm-table), or pinned in host memory
//   (--pinned-table), gathered on a stream of their own, and once more in front of the layer;
// - the HBM tier over DRAM and disk (--hbm-budgets): it writes to the addresses that the
//   layer reads, the host neither waits for rows nor copies any.
//
// Times are those between events on the model's stream; Start() alone is the host's. In
// every arm with rows, this first one included, a kernel sums up the rows that the layer is
// about to read: a few microseconds of "use", which no Engram does not have. The sums must be
// the same in all arms whose rows are the table's.
//
// Not measured: more than one GPU, graphs.

#include "bench/overlap_gpu.h"

int main(int argc, char** argv) {
  const std::unique_ptr<tiercel::bench::OverlapDevice> gpu = tiercel::bench::NewOverlapGpu();
  return tiercel::bench::OverlapMain(argc, argv, "overlap_gpu_bench", gpu.get());
}
