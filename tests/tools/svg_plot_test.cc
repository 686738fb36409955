// Goal: a plot is a well-formed SVG document that shows all it was given, whatever is in
// its texts, and values that cannot be drawn are refused by name.
// Method: documents are read by a small XML reader of the test's own, which accepts only
// what charts are made of; places of points are compared with each other, not with pixels
// that were copied from an earlier output.

#include "tools/svg_plot.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/svg_scale.h"
#include "tools/svg_text.h"

namespace tiercel::tools {
namespace {

struct Element {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::string text;
};

/// Turns the five entities of XML back. Nothing else may follow an '&'.
std::optional<std::string> Unescape(std::string_view text) {
  static const std::map<std::string_view, char> kEntities = {
      {"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}};
  std::string plain;
  while (!text.empty()) {
    if (text[0] == '<') return std::nullopt;
    if (text[0] != '&') {
      plain += text[0];
      text.remove_prefix(1);
      continue;
    }
    const std::size_t end = text.find(';');
    if (end == std::string_view::npos) return std::nullopt;
    const auto entity = kEntities.find(text.substr(1, end - 1));
    if (entity == kEntities.end()) return std::nullopt;
    plain += entity->second;
    text.remove_prefix(end + 1);
  }
  return plain;
}

/// Reads the name and the attributes between '<' and '>'.
std::optional<Element> ReadTag(std::string_view tag) {
  Element element;
  element.name = tag.substr(0, tag.find(' '));
  tag.remove_prefix(element.name.size());
  while (!tag.empty()) {
    const std::size_t equals = tag.find("=\"");
    if (tag[0] != ' ' || equals == std::string_view::npos) return std::nullopt;
    const std::size_t close = tag.find('"', equals + 2);
    if (close == std::string_view::npos) return std::nullopt;
    const auto value = Unescape(tag.substr(equals + 2, close - equals - 2));
    const std::string key(tag.substr(1, equals - 1));
    if (!value || !element.attributes.emplace(key, *value).second) return std::nullopt;
    tag.remove_prefix(close + 1);
  }
  return element;
}

/// All elements in order, or nothing if the document is not well-formed.
std::optional<std::vector<Element>> ReadXml(std::string_view xml) {
  std::vector<Element> elements;
  std::vector<std::size_t> open;
  while (!xml.empty()) {
    const std::size_t start = xml.find('<');
    const std::string_view between = xml.substr(0, start);
    const auto text = Unescape(between);
    if (!text) return std::nullopt;
    if (open.empty() && between.find_first_not_of('\n') != std::string_view::npos) {
      return std::nullopt;
    }
    if (!open.empty()) elements[open.back()].text += *text;
    if (start == std::string_view::npos) break;
    const std::size_t end = xml.find('>', start);
    if (end == std::string_view::npos) return std::nullopt;
    std::string_view tag = xml.substr(start + 1, end - start - 1);
    xml.remove_prefix(end + 1);
    if (tag.starts_with('/')) {
      if (open.empty() || elements[open.back()].name != tag.substr(1)) return std::nullopt;
      open.pop_back();
      continue;
    }
    const bool empty = tag.ends_with('/');
    if (empty) tag.remove_suffix(1);
    if (open.empty() && !elements.empty()) return std::nullopt;  // A second root.
    auto element = ReadTag(tag);
    if (!element) return std::nullopt;
    elements.push_back(std::move(*element));
    if (!empty) open.push_back(elements.size() - 1);
  }
  if (!open.empty()) return std::nullopt;
  return elements;
}

std::vector<Element> Parse(const Result<std::string>& svg) {
  if (!svg.ok()) {
    ADD_FAILURE() << "refused";
    return {};
  }
  auto elements = ReadXml(svg.value());
  EXPECT_TRUE(elements) << svg.value();
  if (!elements || elements->empty()) return {};
  EXPECT_EQ(elements->front().name, "svg");
  return *elements;
}

bool HasText(const std::vector<Element>& elements, std::string_view text) {
  for (const Element& element : elements) {
    if (element.name == "text" && element.text == text) return true;
  }
  return false;
}

std::size_t Count(const std::vector<Element>& elements, std::string_view name) {
  std::size_t count = 0;
  for (const Element& element : elements) count += element.name == name ? 1 : 0;
  return count;
}

LineChart DepthChart() {
  LineChart chart;
  chart.title = "Random reads";
  chart.subtitle = "a disk, io_uring";
  chart.x = {.label = "Reads in flight", .scale = PlotScale::kLog2, .unit = PlotUnit::kCount};
  chart.y = {.label = "Reads a second", .scale = PlotScale::kLinear, .unit = PlotUnit::kCount};
  chart.series = {{"4 KiB", {{1, 10000}, {2, 19000}, {4, 35000}, {8, 36000}}},
                  {"512 B", {{1, 12000}, {2, 21000}, {4, 39000}, {8, 41000}}}};
  return chart;
}

std::string Message(Result<std::string> result) {
  if (result.ok()) return "";
  const Status status = std::move(result).TakeStatus();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  return status.ToString();
}

TEST(SvgPlotTest, LineChartShowsAllItWasGiven) {
  const LineChart chart = DepthChart();
  const auto elements = Parse(LineChartSvg({&chart, 1}));
  for (const char* text : {"Random reads", "a disk, io_uring", "Reads in flight", "Reads a second",
                           "4 KiB", "512 B", "1", "2", "4", "8", "0", "10 k", "50 k"}) {
    EXPECT_TRUE(HasText(elements, text)) << text;
  }
  EXPECT_EQ(Count(elements, "polyline"), 2u);
  EXPECT_EQ(Count(elements, "circle"), 5u) << "four points and the legend";
}

TEST(SvgPlotTest, PointsLieInOrderWithinThePicture) {
  const LineChart chart = DepthChart();
  for (const Element& element : Parse(LineChartSvg({&chart, 1}))) {
    if (element.name != "polyline") continue;
    std::string_view points = element.attributes.at("points");
    double last_x = 0;
    double last_y = 451;
    std::size_t count = 0;
    while (!points.empty()) {
      std::size_t used = 0;
      const double x = std::stod(std::string(points), &used);
      points.remove_prefix(used + 1);
      const double y = std::stod(std::string(points), &used);
      points.remove_prefix(std::min(used + 1, points.size()));
      EXPECT_GT(x, last_x);
      EXPECT_LT(y, last_y) << "more reads a second lie higher";
      EXPECT_LT(x, 800);
      EXPECT_GT(y, 0);
      last_x = x;
      last_y = y;
      ++count;
    }
    EXPECT_EQ(count, 4u);
  }
}

TEST(SvgPlotTest, SameChartSameBytes) {
  const LineChart chart = DepthChart();
  EXPECT_EQ(LineChartSvg({&chart, 1}).value(), LineChartSvg({&chart, 1}).value());
}

TEST(SvgPlotTest, ChartsStandOneBelowTheOther) {
  const std::vector<LineChart> charts = {DepthChart(), DepthChart()};
  const auto elements = Parse(LineChartSvg(charts));
  ASSERT_FALSE(elements.empty());
  EXPECT_EQ(elements.front().attributes.at("height"), "900");
  EXPECT_EQ(Count(elements, "polyline"), 4u);
}

TEST(SvgPlotTest, TextIsEscaped) {
  LineChart chart = DepthChart();
  chart.title = R"(<script>alert("1 & '2'")</script>)";
  chart.series[0].name = "]]></text><b>";
  const auto elements = Parse(LineChartSvg({&chart, 1}));
  EXPECT_TRUE(HasText(elements, chart.title));
  EXPECT_TRUE(HasText(elements, chart.series[0].name));
  EXPECT_EQ(Count(elements, "script"), 0u);
}

TEST(SvgPlotTest, BytesThatAreNoTextAreReplaced) {
  EXPECT_EQ(XmlEscape("85 µs"), "85 µs");
  EXPECT_EQ(XmlEscape(std::string_view("a\0b", 3)), "a\uFFFDb");
  EXPECT_EQ(XmlEscape("\x1b[31m"), "\uFFFD[31m");
  EXPECT_EQ(XmlEscape("\xC0\xAF"), "\uFFFD\uFFFD") << "an overlong '/'";
  EXPECT_EQ(XmlEscape("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD") << "a surrogate";
  EXPECT_EQ(XmlEscape("end\xE2\x82"), "end\uFFFD\uFFFD") << "cut short";
  EXPECT_EQ(XmlEscape("\xF0\x9F\xA6\x85"), "\xF0\x9F\xA6\x85");
}

TEST(SvgPlotTest, EmptySeriesIsNamedAndNotDrawn) {
  LineChart chart = DepthChart();
  chart.series.push_back({"1 MiB", {}});
  const auto elements = Parse(LineChartSvg({&chart, 1}));
  EXPECT_TRUE(HasText(elements, "1 MiB (no data)"));
  EXPECT_EQ(Count(elements, "polyline"), 2u);
}

TEST(SvgPlotTest, ASinglePointIsDrawn) {
  LineChart chart = DepthChart();
  chart.series = {{"one", {{128, 5000}}}};
  for (const PlotScale scale : {PlotScale::kLinear, PlotScale::kLog2, PlotScale::kLog10}) {
    chart.x.scale = scale;
    chart.y.scale = scale;
    const auto elements = Parse(LineChartSvg({&chart, 1}));
    EXPECT_EQ(Count(elements, "circle"), 2u);
  }
}

TEST(SvgPlotTest, WhatCannotBeDrawnIsRefusedByName) {
  EXPECT_NE(Message(LineChartSvg({})).find("no chart"), std::string::npos);
  LineChart chart = DepthChart();
  chart.series[1].points[2].y = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(Message(LineChartSvg({&chart, 1})).find("y of series '512 B'"), std::string::npos);
  chart = DepthChart();
  chart.series[0].points[0].x = 0;
  EXPECT_NE(Message(LineChartSvg({&chart, 1})).find("x of series '4 KiB'"), std::string::npos);
  chart.series = {{"nothing", {}}};
  EXPECT_NE(Message(LineChartSvg({&chart, 1})).find("no point"), std::string::npos);
}

TEST(SvgPlotTest, BarsGrowWithTheirValues) {
  BarChart chart;
  chart.title = "Rows a second";
  chart.axis = {.label = "Rows a second", .unit = PlotUnit::kCount};
  chart.bars = {{"tiercel", 1'250'000, 1'200'000, 1'300'000},
                {"peer <1>", 400'000, 400'000, 400'000}};
  const auto elements = Parse(BarChartSvg(chart));
  std::vector<double> widths;
  for (const Element& element : elements) {
    if (element.name == "rect" && element.attributes.contains("x")) {
      widths.push_back(std::stod(element.attributes.at("width")));
    }
  }
  ASSERT_EQ(widths.size(), 2u);
  EXPECT_NEAR(widths[0] / widths[1], 3.125, 0.02);
  EXPECT_TRUE(HasText(elements, "1.25 M (1.2 M to 1.3 M)"));
  EXPECT_TRUE(HasText(elements, "400 k"));
  EXPECT_TRUE(HasText(elements, "peer <1>"));
}

TEST(SvgPlotTest, BarsWithFaultsAreRefusedByName) {
  BarChart chart;
  EXPECT_NE(Message(BarChartSvg(chart)).find("no bar"), std::string::npos);
  chart.bars = {{"outside", 5, 1, 4}};
  EXPECT_NE(Message(BarChartSvg(chart)).find("'outside'"), std::string::npos);
  chart.bars = {{"below", -1, -1, -1}};
  EXPECT_NE(Message(BarChartSvg(chart)).find("'below'"), std::string::npos);
  chart.bars = {{"zero", 0, 0, 0}};
  EXPECT_EQ(Count(Parse(BarChartSvg(chart)), "rect"), 2u);
  chart.axis.scale = PlotScale::kLog10;
  EXPECT_NE(Message(BarChartSvg(chart)).find("'zero'"), std::string::npos);
}

TEST(SvgPlotTest, ValuesAreWrittenAsPeopleDo) {
  EXPECT_EQ(HumanValue(PlotUnit::kCount, 0), "0");
  EXPECT_EQ(HumanValue(PlotUnit::kCount, 999.4), "999");
  EXPECT_EQ(HumanValue(PlotUnit::kCount, 999.6), "1 k");
  EXPECT_EQ(HumanValue(PlotUnit::kCount, 12'345), "12.3 k");
  EXPECT_EQ(HumanValue(PlotUnit::kCount, 2.5e18), "2500000 T");
  EXPECT_EQ(HumanValue(PlotUnit::kNanoseconds, 85'300), "85.3 µs");
  EXPECT_EQ(HumanValue(PlotUnit::kNanoseconds, 0.5), "0.5 ns");
  EXPECT_EQ(HumanValue(PlotUnit::kBytes, 4096), "4 KiB");
  EXPECT_EQ(HumanValue(PlotUnit::kBytes, 1000), "1000 B");
  EXPECT_EQ(HumanValue(PlotUnit::kBytesPerSecond, 3.2e9), "3.2 GB/s");
  EXPECT_EQ(HumanValue(PlotUnit::kPercent, 42.5), "42.5 %");
}

TEST(SvgScaleTest, RangesHoldTheirValuesWithFewRoundTicks) {
  for (const PlotScale scale : {PlotScale::kLinear, PlotScale::kLog2, PlotScale::kLog10}) {
    for (const double low : {1e-6, 0.3, 1.0, 7.0, 1e9}) {
      for (const double factor : {1.0, 1.001, 3.0, 512.0, 1e12}) {
        const std::vector<double> values = {low * factor, low};
        const AxisRange range = RangeOf(values, scale, PlotUnit::kCount, true);
        SCOPED_TRACE(fmt::format("{} to {}, scale {}", low, low * factor, static_cast<int>(scale)));
        ASSERT_GE(range.ticks.size(), 2u);
        EXPECT_LE(range.ticks.size(), 12u);
        for (const double value : values) {
          EXPECT_GE(range.Place(value), -1e-6);
          EXPECT_LE(range.Place(value), 1 + 1e-6);
        }
        for (std::size_t i = 1; i < range.ticks.size(); ++i) {
          EXPECT_GT(range.Place(range.ticks[i]), range.Place(range.ticks[i - 1]));
        }
        EXPECT_LE(range.Place(range.ticks.back()), 1 + 1e-9);
      }
    }
  }
}

}  // namespace
}  // namespace tiercel::tools
