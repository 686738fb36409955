// Goal: what a store says about itself is text that Prometheus takes, and says what
// Stats() says.
//
// Method: a small grammar of the exposition format 0.0.4 reads every line; the samples are
// compared with the counters.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/histogram.h"
#include "store/metrics_text.h"
#include "tests/support/made_checkpoint.h"
#include "tiercel/store.h"

namespace tiercel::testing {
namespace {

struct Sample {
  std::string name;
  std::map<std::string, std::string> labels;
  double value = 0;
};

struct Family {
  std::string type;
  std::vector<Sample> samples;
};

bool IsDigit(char c) {
  return c >= '0' && c <= '9';
}

/// A letter, _ or one of `more` first, then also digits.
bool IsName(std::string_view text, std::string_view more) {
  const auto may_begin = [more](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           more.find(c) != std::string_view::npos;
  };
  return !text.empty() && may_begin(text[0]) &&
         std::ranges::all_of(text, [&](char c) { return may_begin(c) || IsDigit(c); });
}

/// Takes the digits that `text` begins with; whether there were any.
bool TakeDigits(std::string_view& text) {
  const auto end = std::ranges::find_if_not(text, IsDigit);
  const auto count = static_cast<std::size_t>(end - text.begin());
  text.remove_prefix(count);
  return count > 0;
}

void TakeSign(std::string_view& text) {
  if (text.starts_with('+') || text.starts_with('-')) text.remove_prefix(1);
}

/// [sign] Inf, NaN, or digits[.digits][e[sign]digits].
bool IsNumber(std::string_view text) {
  TakeSign(text);
  if (text == "Inf" || text == "NaN") return true;
  if (!TakeDigits(text)) return false;
  if (text.starts_with('.')) {
    text.remove_prefix(1);
    if (!TakeDigits(text)) return false;
  }
  if (text.starts_with('e') || text.starts_with('E')) {
    text.remove_prefix(1);
    TakeSign(text);
    if (!TakeDigits(text)) return false;
  }
  return text.empty();
}

/// Reads labels `a="b",c="d"` up to the closing brace. Adds a failure where they are none.
std::map<std::string, std::string> ParseLabels(const std::string& line, std::size_t& at) {
  std::map<std::string, std::string> labels;
  while (line.at(at) != '}') {
    const std::size_t equals = line.find("=\"", at);
    const std::string name = line.substr(at, equals - at);
    EXPECT_TRUE(equals != std::string::npos && IsName(name, "")) << line;
    std::string value;
    for (at = equals + 2; line.at(at) != '"'; ++at) {
      if (line[at] == '\\') {
        ++at;
        EXPECT_TRUE(line.at(at) == '\\' || line[at] == '"' || line[at] == 'n') << line;
        value += line[at] == 'n' ? '\n' : line[at];
      } else {
        value += line[at];
      }
    }
    EXPECT_TRUE(labels.emplace(name, value).second) << "twice: " << line;
    ++at;
    if (line.at(at) == ',') ++at;
  }
  ++at;
  return labels;
}

Sample ParseSample(const std::string& line) {
  Sample sample;
  std::size_t at = line.find_first_of("{ ");
  sample.name = line.substr(0, at);
  EXPECT_TRUE(IsName(sample.name, ":")) << line;
  if (at != std::string::npos && line[at] == '{') sample.labels = ParseLabels(line, ++at);
  EXPECT_EQ(line.at(at), ' ') << line;
  const std::string value = line.substr(at + 1);
  EXPECT_TRUE(IsNumber(value)) << line;
  sample.value = std::stod(value);
  return sample;
}

/// The whole text: HELP, then TYPE, then the samples of that family, and no family twice.
std::map<std::string, Family> Parse(const std::string& text) {
  std::map<std::string, Family> families;
  EXPECT_TRUE(text.ends_with('\n'));
  std::string helped;
  std::string current;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    if (line.starts_with("# HELP ")) {
      helped = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_GT(line.size(), 7 + helped.size() + 1) << "no help: " << line;
      EXPECT_FALSE(families.contains(helped)) << "twice: " << line;
    } else if (line.starts_with("# TYPE ")) {
      current = line.substr(7, line.find(' ', 7) - 7);
      EXPECT_EQ(current, helped);
      Family& family = families[current];
      family.type = line.substr(8 + current.size());
      EXPECT_TRUE(family.type == "counter" || family.type == "gauge" || family.type == "histogram")
          << line;
      EXPECT_EQ(family.type == "counter", current.ends_with("_total")) << line;
      EXPECT_TRUE(current.starts_with("tiercel_")) << line;
    } else {
      Sample sample = ParseSample(line);
      if (families[current].type == "histogram") {
        EXPECT_TRUE(sample.name == current + "_bucket" || sample.name == current + "_sum" ||
                    sample.name == current + "_count")
            << line;
      } else {
        EXPECT_EQ(sample.name, current);
      }
      families[current].samples.push_back(std::move(sample));
    }
  }
  return families;
}

/// No two samples of a family are of the same name and labels; buckets rise to the count.
void CheckFamily(const std::string& name, const Family& family) {
  std::set<std::pair<std::string, std::map<std::string, std::string>>> seen;
  EXPECT_FALSE(family.samples.empty()) << name;
  double last_bound = 0;
  double last_count = 0;
  for (const Sample& sample : family.samples) {
    EXPECT_TRUE(seen.emplace(sample.name, sample.labels).second) << name;
    EXPECT_GE(sample.value, 0) << name;
    if (sample.name == name + "_bucket") {
      const std::string& le = sample.labels.at("le");
      const double bound = le == "+Inf" ? INFINITY : std::stod(le);
      EXPECT_GT(bound, last_bound);
      EXPECT_GE(sample.value, last_count);
      last_bound = bound;
      last_count = sample.value;
    } else if (sample.name == name + "_count") {
      EXPECT_TRUE(std::isinf(last_bound));
      EXPECT_EQ(sample.value, last_count);
    }
  }
}

TEST(MetricsTest, EveryLineIsRightAndSaysWhatStatsSays) {
  const MadeCheckpoint made({});
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{16} << 20;
  options.queue_depth = 32;
  Result<std::unique_ptr<Store>> opened = Store::Open(made.path(), options);
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  Store& store = *opened.value();
  (void)Parse(store.WriteMetrics());  // Before anything happened.
  const std::vector<std::int32_t> tokens = made.RandomTokens(1, 2500);
  const TokenRun run = {.history = {}, .tokens = tokens};
  for (int round = 0; round < 2; ++round) {
    LayerBuffers buffers(store, 1, tokens.size() * made.info().recipe.column_count(),
                         RowOutput::kStored);
    const LayerOutput output = buffers.Output();
    ASSERT_TRUE(store.Lookup({&run, 1}, {&output, 1}).ok());
  }
  const StoreStats stats = store.Stats();
  const std::map<std::string, Family> families = Parse(store.WriteMetrics());
  for (const auto& [name, family] : families) CheckFamily(name, family);

  const auto expect = [&](const std::string& name, std::uint64_t OrderStats::*field) {
    const Family& family = families.at(name);
    ASSERT_EQ(family.samples.size(), stats.orders.size()) << name;
    for (std::size_t i = 0; i < stats.orders.size(); ++i) {
      const Sample& sample = family.samples[i];
      EXPECT_EQ(sample.labels.at("layer"), std::to_string(stats.orders[i].layer_id));
      EXPECT_EQ(sample.labels.at("order"), std::to_string(stats.orders[i].order));
      EXPECT_EQ(sample.value, static_cast<double>(stats.orders[i].*field)) << name;
    }
  };
  expect("tiercel_groups_total", &OrderStats::groups);
  expect("tiercel_group_hits_total", &OrderStats::dram_hits);
  expect("tiercel_group_hit_bytes_total", &OrderStats::dram_hit_bytes);
  expect("tiercel_groups_joined_total", &OrderStats::joined);
  expect("tiercel_group_fetches_total", &OrderStats::fetches);
  expect("tiercel_group_fetched_bytes_total", &OrderStats::fetched_bytes);
  expect("tiercel_cache_admissions_total", &OrderStats::cache_insertions);
  expect("tiercel_cache_evictions_total", &OrderStats::cache_evictions);
  expect("tiercel_cache_ghost_hits_total", &OrderStats::cache_ghost_hits);
  expect("tiercel_cache_resident_groups", &OrderStats::cache_resident_groups);
  EXPECT_GT(families.at("tiercel_cache_evictions_total").samples[0].value, 0);
  EXPECT_EQ(families.at("tiercel_device_reads_total").samples[0].value,
            static_cast<double>(stats.device_reads));
  EXPECT_EQ(families.at("tiercel_device_reads_total").samples[0].labels.at("engine"), stats.engine);
  const Family& latency = families.at("tiercel_device_read_seconds");
  EXPECT_EQ(latency.samples.back().value,
            static_cast<double>(stats.device_reads - stats.device_read_retries -
                                stats.device_read_failures));
}

TEST(MetricsTest, LabelsAreEscapedAndBucketsHoldWhatLiesBelowTheirBounds) {
  MetricsText text;
  text.Family("tiercel_x_info", "gauge", "Odd labels.");
  text.Sample({{"path", "a\"b\\c\nd"}}, std::uint64_t{1});
  Histogram latency_ns;
  for (const std::uint64_t ns : {5'000ULL, 15'000ULL, 15'000ULL, 90'000ULL, 5'000'000'000ULL}) {
    latency_ns.Add(ns);
  }
  text.Family("tiercel_x_seconds", "histogram", "Some times.");
  text.LatencySamples({}, latency_ns);
  const std::map<std::string, Family> families = Parse(text.Take());
  EXPECT_EQ(families.at("tiercel_x_info").samples[0].labels.at("path"), "a\"b\\c\nd");
  CheckFamily("tiercel_x_seconds", families.at("tiercel_x_seconds"));
  std::map<std::string, double> buckets;
  for (const Sample& sample : families.at("tiercel_x_seconds").samples) {
    if (sample.labels.contains("le")) buckets[sample.labels.at("le")] = sample.value;
  }
  EXPECT_EQ(buckets.at("1e-05"), 1);
  EXPECT_EQ(buckets.at("2e-05"), 3);
  EXPECT_EQ(buckets.at("0.0001"), 4);
  EXPECT_EQ(buckets.at("1"), 4);
  EXPECT_EQ(buckets.at("+Inf"), 5);
}

}  // namespace
}  // namespace tiercel::testing
