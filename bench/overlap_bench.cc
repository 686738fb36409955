// What a table outside of the model's memory costs: decode and prefill loops of a model that
// computes by the clock, with the rows fetched in several ways.
//
// Arms: no Engram layers; all rows that the run asks for resident in DRAM; DRAM and NVMe
// through tickets, for each budget; and the same budgets with blocking lookups in front of
// the layers. Every arm serves the same sequences and, rows being what they are, must see the
// same bytes: the program fails where a digest differs.
//
// Goals: tokens a second of each arm, what they lose against the first two, and where the
// time went. Non-goals: the model's own speed. Blocks spin for a given time, as a host thread
// does that waits for a GPU: work of the store on other cores does not slow them down, so a
// machine whose cores are all busy with the model would lose more. Where other programs run,
// look at the cost, not at the loss: blocks that they make longer are in the latter.

#include "bench/overlap_arms.h"

int main(int argc, char** argv) {
  return tiercel::bench::OverlapMain(argc, argv, "overlap_bench", nullptr);
}
