// Hit rates of replacement policies on a real token trace, per n-gram order.
//
//   policy_sim --tokens T.u32.zst --offsets O.u64 --token-map M.u32
//              [--ngrams 65536,262144] [--policies lru,s3fifo,ours,cache] [--streams 32]
//
// Method: `streams` documents at a time are served round robin in chunks of 64 tokens;
// the first half of all accesses warms, the second half counts. An entry is one n-gram
// of order 2, 3 or 4: its 16 rows of 264 B in both tables of DeepSeek-V4.1, 4,224 B.
// `--ngrams` are the bytes of so many entries *with* the metadata of the cache, so that
// `ours` and `cache` get fewer slots. `lru` and `s3fifo` get them all, metadata free.
//   ours   Policy alone: the code that the cache runs, on keys without bytes.
//   cache  a real GroupCache with groups of 2,112 B, of one table and half the bytes;
//          every hit is copied.
//
// Not simulated: the delay between a miss and its insertion.

#include <fmt/format.h>
#include <zstd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/prng.h"
#include "cache/group_cache.h"
#include "cache/group_hash.h"
#include "cache/group_index.h"
#include "cache/policy.h"

namespace tiercel {
namespace {

constexpr std::uint32_t kOrders = 3;
constexpr std::uint64_t kEntryBytes = 2 * 8 * 264;
constexpr std::uint32_t kNone = ~std::uint32_t{0};

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

template <typename T>
std::vector<T> Numbers(const std::string& bytes) {
  std::vector<T> numbers(bytes.size() / sizeof(T));
  std::memcpy(numbers.data(), bytes.data(), numbers.size() * sizeof(T));
  return numbers;
}

std::string Decompress(const std::string& packed) {
  const std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream(ZSTD_createDStream(),
                                                                          ZSTD_freeDStream);
  std::string text;
  std::vector<char> chunk(1 << 20);
  ZSTD_inBuffer input{packed.data(), packed.size(), 0};
  for (;;) {
    ZSTD_outBuffer output{chunk.data(), chunk.size(), 0};
    const std::size_t result = ZSTD_decompressStream(stream.get(), &output, &input);
    if (ZSTD_isError(result)) throw std::runtime_error(ZSTD_getErrorName(result));
    text.append(chunk.data(), output.pos);
    if (input.pos == input.size && output.pos < output.size) return text;
  }
}

/// N-grams numbered in order of first use.
struct Trace {
  std::vector<std::uint32_t> ids;   ///< Access i is of order 2 + i % 3.
  std::vector<std::uint64_t> keys;  ///< Of each id.
};

/// Numbers 64-bit keys: open addressing.
class Numbering {
 public:
  explicit Numbering(Trace& trace) : trace_(trace), table_(std::size_t{1} << 26, kNone) {}
  std::uint32_t IdOf(std::uint64_t key) {
    for (std::size_t i = SplitMix64(key) >> 38;; i = (i + 1) % table_.size()) {
      if (table_[i] == kNone) {
        if (trace_.keys.size() * 10 > table_.size() * 9) throw std::runtime_error("long trace");
        table_[i] = static_cast<std::uint32_t>(trace_.keys.size());
        trace_.keys.push_back(key);
        return table_[i];
      }
      if (trace_.keys[table_[i]] == key) return table_[i];
    }
  }

 private:
  Trace& trace_;
  std::vector<std::uint32_t> table_;
};

struct Document {
  std::uint64_t first = 0;
  std::uint64_t end = 0;
};

Trace Serve(const std::vector<std::uint32_t>& tokens, std::vector<Document> documents,
            std::size_t stream_count) {
  constexpr std::uint64_t kChunk = 64;
  struct Stream {
    Document document;
    std::uint64_t next = 0;
  };
  Trace trace;
  trace.ids.reserve(tokens.size() * kOrders);
  Numbering numbering(trace);
  std::vector<Stream> streams;
  std::size_t started = 0;
  for (; started < std::min(stream_count, documents.size()); ++started) {
    streams.push_back({documents[started], documents[started].first});
  }
  while (!streams.empty()) {
    for (std::size_t s = 0; s < streams.size();) {
      Stream& stream = streams[s];
      const std::uint64_t end = std::min(stream.document.end, stream.next + kChunk);
      for (; stream.next < end; ++stream.next) {
        std::uint64_t key = tokens[stream.next];
        for (std::uint32_t back = 1; back <= kOrders; ++back) {
          const bool inside = stream.next >= stream.document.first + back;
          key = SplitMix64(key) + (inside ? tokens[stream.next - back] : kNone) + back;
          trace.ids.push_back(numbering.IdOf(key));
        }
      }
      if (stream.next < stream.document.end) {
        ++s;
      } else if (started < documents.size()) {
        stream = {documents[started], documents[started].first};
        ++started;
        ++s;
      } else {
        streams.erase(streams.begin() + static_cast<std::ptrdiff_t>(s));
      }
    }
  }
  return trace;
}

/// Least recently used, by links over ids.
class Lru {
 public:
  Lru(const Trace& trace, std::uint64_t slot_count) : room_(slot_count) {
    older_.assign(trace.keys.size(), kNone);
    newer_.assign(trace.keys.size(), kNone);
    resident_.assign(trace.keys.size(), false);
  }
  bool Access(std::uint32_t id, std::uint32_t /*order*/) {
    const bool hit = resident_[id];
    if (hit) {
      Unlink(id);
    } else if (room_ > 0) {
      --room_;
    } else {
      resident_[oldest_] = false;
      Unlink(oldest_);
    }
    resident_[id] = true;
    older_[id] = newest_;
    newer_[id] = kNone;
    (newest_ == kNone ? oldest_ : newer_[newest_]) = id;
    newest_ = id;
    return hit;
  }

 private:
  void Unlink(std::uint32_t id) {
    (older_[id] == kNone ? oldest_ : newer_[older_[id]]) = newer_[id];
    (newer_[id] == kNone ? newest_ : older_[newer_[id]]) = older_[id];
  }
  std::uint64_t room_;
  std::uint32_t oldest_ = kNone;
  std::uint32_t newest_ = kNone;
  std::vector<std::uint32_t> older_, newer_;
  std::vector<bool> resident_;
};

/// S3-FIFO (Yang et al., SOSP 2023), small queue 10 %, exact ghosts.
class S3Fifo {
 public:
  S3Fifo(const Trace& trace, std::uint64_t slot_count)
      : slot_count_(slot_count),
        uses_(trace.keys.size()),
        state_(uses_.size()),
        ghost_(uses_.size()) {}
  bool Access(std::uint32_t id, std::uint32_t /*order*/) {
    if (state_[id] != 0) {
      uses_[id] = static_cast<std::uint8_t>(std::min(uses_[id] + 1, 3));
      return true;
    }
    while (small_.size() + main_.size() >= slot_count_) Evict();
    const bool ghost = ghost_[id] != 0 && dropped_ - ghost_[id] < slot_count_ * 9 / 10;
    state_[id] = 1;
    uses_[id] = 0;
    (ghost ? main_ : small_).push_back(id);
    return false;
  }

 private:
  void Evict() {
    const bool from_small = small_.size() * 10 > slot_count_ || main_.empty();
    std::deque<std::uint32_t>& queue = from_small ? small_ : main_;
    const std::uint32_t id = queue.front();
    queue.pop_front();
    if (uses_[id] > 0) {
      uses_[id] = static_cast<std::uint8_t>(from_small ? 0 : uses_[id] - 1);
      main_.push_back(id);
      return;
    }
    state_[id] = 0;
    if (from_small) ghost_[id] = ++dropped_;
  }
  std::uint64_t slot_count_;
  std::vector<std::uint8_t> uses_, state_;
  std::vector<std::uint32_t> ghost_;
  std::uint32_t dropped_ = 0;
  std::deque<std::uint32_t> small_, main_;
};

/// Policy, over keys without bytes.
class Ours {
 public:
  Ours(const Trace& trace, std::uint64_t entries)
      : trace_(trace), slot_of_id_(trace.keys.size(), kNone) {
    // What GroupPool spends on a slot, twice: the entry is a group in each table.
    const double metadata_bytes = 2 * (sizeof(SlotRecord) + 64.0 / 9 + 64.0 * 2.5 / 31);
    const auto slot_count = static_cast<std::uint64_t>(static_cast<double>(entries) * kEntryBytes /
                                                       (kEntryBytes + metadata_bytes));
    records_ = std::vector<SlotRecord>(slot_count);
    ghosts_.resize(Policy::GhostBuckets(slot_count));
    densities_ = std::vector<HitDensity::Cell>(Policy::DensityCells(slot_count, kOrders));
    id_of_slot_.reserve(slot_count);
    policy_ = std::make_unique<Policy>(
        Policy::Memory{.records = records_, .ghosts = ghosts_, .densities = densities_});
  }
  bool Access(std::uint32_t id, std::uint32_t order) {
    std::uint32_t slot = slot_of_id_[id];
    if (slot != kNone) {
      policy_->CountUse(records_[slot]);
      return true;
    }
    if (id_of_slot_.size() < records_.size()) {
      slot = static_cast<std::uint32_t>(id_of_slot_.size());
      id_of_slot_.push_back(id);
    } else {
      slot = policy_->Evict();
      slot_of_id_[id_of_slot_[slot]] = kNone;
      id_of_slot_[slot] = id;
    }
    slot_of_id_[id] = slot;
    records_[slot].key = trace_.keys[id];
    records_[slot].space = static_cast<std::uint8_t>(order);
    policy_->Add(slot, HashGroup(order, trace_.keys[id]));
    return false;
  }

 private:
  const Trace& trace_;
  std::vector<std::uint32_t> slot_of_id_, id_of_slot_;
  std::vector<SlotRecord> records_;
  std::vector<GhostTable::Bucket> ghosts_;
  std::vector<HitDensity::Cell> densities_;
  std::unique_ptr<Policy> policy_;
};

/// A real GroupCache.
class RealCache {
 public:
  RealCache(const Trace& trace, std::uint64_t entries) : trace_(trace), bytes_(kEntryBytes / 2) {
    Result<std::unique_ptr<GroupCache>> cache =
        GroupCache::Create({.budget_bytes = entries * kEntryBytes / 2,
                            .group_size_bytes = std::vector<std::uint32_t>(
                                kOrders, static_cast<std::uint32_t>(kEntryBytes / 2))});
    if (!cache.ok()) throw std::runtime_error(cache.status().ToString());
    cache_ = std::move(cache).value();
  }
  bool Access(std::uint32_t id, std::uint32_t order) {
    const GroupTarget target{.key = trace_.keys[id], .destination = bytes_.data()};
    std::uint8_t hit = 0;
    cache_->Lookup(order, std::span(&target, 1), std::span(&hit, 1));
    if (hit == 0) cache_->Insert(order, trace_.keys[id], bytes_);
    return hit != 0;
  }

 private:
  const Trace& trace_;
  std::vector<std::byte> bytes_;
  std::unique_ptr<GroupCache> cache_;
};

template <typename Simulated>
void Run(const std::string& name, const Trace& trace, std::uint64_t entries) {
  Simulated simulated(trace, entries);
  std::array<std::uint64_t, kOrders> hits{};
  const std::size_t first_counted = trace.ids.size() / 2 / kOrders * kOrders;
  for (std::size_t i = 0; i < trace.ids.size(); ++i) {
    const auto order = static_cast<std::uint32_t>(i % kOrders);
    const bool hit = simulated.Access(trace.ids[i], order);
    if (hit && i >= first_counted) ++hits[order];
  }
  const double counted = static_cast<double>(trace.ids.size() - first_counted) / kOrders;
  const auto rate = [&](std::uint64_t count) { return static_cast<double>(count) / counted; };
  fmt::print("{:>8}  {:<8} {:.4f}  [{:.3f} {:.3f} {:.3f}]\n", entries, name,
             rate(hits[0] + hits[1] + hits[2]) / kOrders, rate(hits[0]), rate(hits[1]),
             rate(hits[2]));
  std::fflush(stdout);
}

}  // namespace
}  // namespace tiercel

int main(int argc, char** argv) try {
  using namespace tiercel;
  CLI::App app{"Hit rates of replacement policies on a token trace"};
  std::string tokens_path, offsets_path, map_path;
  std::vector<std::uint64_t> sizes = {65536, 262144, 1048576, 4194304};
  std::vector<std::string> policies = {"lru", "s3fifo", "ours"};
  std::size_t stream_count = 32;
  app.add_option("--tokens", tokens_path, "Token ids, u32, zstd")->required();
  app.add_option("--offsets", offsets_path, "Document boundaries, u64")->required();
  app.add_option("--token-map", map_path, "Class of each token, u32")->required();
  app.add_option("--ngrams", sizes, "Sizes in n-grams of 4,224 B")->delimiter(',');
  app.add_option("--policies", policies, "lru, s3fifo, ours, cache")->delimiter(',');
  app.add_option("--streams", stream_count, "Documents served at a time");
  CLI11_PARSE(app, argc, argv);

  std::vector<std::uint32_t> tokens = Numbers<std::uint32_t>(Decompress(ReadFile(tokens_path)));
  const auto offsets = Numbers<std::uint64_t>(ReadFile(offsets_path));
  const auto map = Numbers<std::uint32_t>(ReadFile(map_path));
  for (std::uint32_t& token : tokens) token = map.at(token);
  std::vector<Document> documents;
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i) {
    documents.push_back({offsets[i], std::min<std::uint64_t>(offsets[i + 1], tokens.size())});
  }
  const Trace trace = Serve(tokens, std::move(documents), stream_count);
  fmt::print("{} tokens, {} n-grams\n", tokens.size(), trace.keys.size());
  for (const std::uint64_t size : sizes) {
    for (const std::string& policy : policies) {
      if (policy == "lru") Run<Lru>(policy, trace, size);
      if (policy == "s3fifo") Run<S3Fifo>(policy, trace, size);
      if (policy == "ours") Run<Ours>(policy, trace, size);
      if (policy == "cache") Run<RealCache>(policy, trace, size);
    }
  }
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "policy_sim: {}\n", error.what());
  return 3;
}
