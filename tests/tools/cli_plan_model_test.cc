// Goal: `tiercel plan-model` tells people and scripts the published sizes, and refuses what
// makes no model with the exit code of a usage error.
//
// Method: the built program.

#include <gtest/gtest.h>

#include <string>

#include "tests/tools/run_tiercel.h"

namespace tiercel::testing {
namespace {

TEST(CliPlanModelTest, ByBudgetAndRatio) {
  const nlohmann::json plan =
      RunTiercel({"plan-model", "--total-params", "26.7B", "--active-params", "3.8B", "--ratio",
                  "0.257", "--layers", "1,14", "--dim", "2560", "--json"})
          .Json();
  EXPECT_EQ(plan.at("slots"), 2'262'400);
  EXPECT_EQ(plan.at("backbone").at("routed_experts"), 55);
  EXPECT_EQ(plan.at("layers").size(), 2U);
  EXPECT_EQ(plan.at("layers")[0].at("head_sizes").size(), 16U);
  EXPECT_EQ(plan.at("rows_per_token"), 32);
  EXPECT_LT(plan.at("reads_per_token"), 32);
  EXPECT_EQ(plan.at("nvme_bytes").get<std::uint64_t>(),
            plan.at("row_count").get<std::uint64_t>() * 160);
  EXPECT_EQ(plan.at("hbm_bytes"), 2048 * 32 * 80 * 2);
}

TEST(CliPlanModelTest, V41ForPeople) {
  const ProgramRun run = RunTiercel({"plan-model", "--like", "deepseek-v4.1-flash"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
  for (const char* const text : {"384,006,168 rows", "384,016,682 rows", "203 GB",
                                 "48 rows a token", "16000057", "4-grams"}) {
    EXPECT_NE(run.out.find(text), std::string::npos) << text << " is not in\n" << run.out;
  }
}

TEST(CliPlanModelTest, WhatMakesNoModel) {
  EXPECT_EQ(RunTiercel({"plan-model"}).exit_code, 2);
  EXPECT_EQ(RunTiercel({"plan-model", "--total-params", "lots"}).exit_code, 2);
  EXPECT_EQ(RunTiercel({"plan-model", "--like", "gpt"}).exit_code, 2);
  const ProgramRun run = RunTiercel({"plan-model", "--total-params", "1B"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_NE(run.err.find("every token needs"), std::string::npos) << run.err;
}

}  // namespace
}  // namespace tiercel::testing
