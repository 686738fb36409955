// Goal: whatever a caller of the C API does wrong gives a code and a message that names it,
// on the thread that did it, and no crash; codes, names and the version are those of C++.
//
// Method: each function with each pointer missing; wrong sizes and constants; messages are
// searched for what must be named.

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/capi/c_store.h"
#include "tests/support/scratch_dir.h"
#include "tiercel/status.h"

namespace tiercel::testing {
namespace {

/// Fails unless `code` is INVALID_ARGUMENT and the thread's message has `part`.
void ExpectInvalid(tiercel_code code, const std::string& part) {
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT, code);
  EXPECT_NE(std::string(tiercel_last_error()).find(part), std::string::npos)
      << "no \"" << part << "\" in: " << tiercel_last_error();
}

TEST(CErrors, NamesAreThoseOfCxx) {
  for (int code = 0; code < static_cast<int>(StatusCode::kCount); ++code) {
    EXPECT_EQ(tiercel_code_name(code), Name(static_cast<StatusCode>(code)));
  }
  EXPECT_STREQ(tiercel_code_name(TIERCEL_OK), "OK");
  EXPECT_STREQ(tiercel_code_name(TIERCEL_PARTIAL), "PARTIAL");
  EXPECT_STREQ(tiercel_code_name(-1), "UNKNOWN");
  EXPECT_STREQ(tiercel_code_name(11), "UNKNOWN");
  EXPECT_STREQ(tiercel_code_name(256), "UNKNOWN");
  EXPECT_STREQ(tiercel_row_status_name(TIERCEL_ROW_CORRUPTION), "CORRUPTION");
  EXPECT_STREQ(tiercel_row_status_name(200), "UNKNOWN");
}

TEST(CErrors, TheVersionIsTheHeaders) {
  const std::string version = std::to_string(TIERCEL_VERSION_MAJOR) + "." +
                              std::to_string(TIERCEL_VERSION_MINOR) + "." +
                              std::to_string(TIERCEL_VERSION_PATCH);
  EXPECT_EQ(tiercel_version(), version);
  EXPECT_EQ(tiercel_version_number(), TIERCEL_VERSION_MAJOR * 1000000U +
                                          TIERCEL_VERSION_MINOR * 1000U + TIERCEL_VERSION_PATCH);
}

TEST(CErrors, TheMessageIsOfTheThreadAndStays) {
  tiercel_checkpoint* checkpoint = nullptr;
  EXPECT_CODE(TIERCEL_NOT_FOUND, tiercel_inspect("/nowhere/at/all", &checkpoint));
  EXPECT_EQ(checkpoint, nullptr);
  const std::string message = tiercel_last_error();
  EXPECT_NE(message.find("tiercel_inspect: "), std::string::npos) << message;
  EXPECT_NE(message.find("/nowhere/at/all"), std::string::npos) << message;
  std::thread([] {
    EXPECT_STREQ(tiercel_last_error(), "");
    EXPECT_EQ(tiercel_last_os_error(), 0);
    ExpectInvalid(tiercel_inspect(nullptr, nullptr), "`checkpoint` is NULL");
  }).join();
  tiercel_store_options options;
  EXPECT_CODE(TIERCEL_OK, tiercel_store_options_init(&options, sizeof(options)));
  EXPECT_EQ(tiercel_last_error(), message);
}

TEST(CErrors, TheErrnoIsKept) {
  tiercel_token_map* map = nullptr;
  EXPECT_CODE(TIERCEL_NOT_FOUND, tiercel_token_map_load_tokenizer("/nowhere/tokenizer.json", &map));
  EXPECT_EQ(tiercel_last_os_error(), ENOENT);
  EXPECT_NE(std::strstr(tiercel_last_error(), "/nowhere/tokenizer.json"), nullptr);
  ExpectInvalid(tiercel_token_map_load(nullptr, &map), "path");
  EXPECT_EQ(tiercel_last_os_error(), 0);
}

TEST(CErrors, ClosingNothingDoesNothing) {
  tiercel_token_map_close(nullptr);
  tiercel_checkpoint_close(nullptr);
  tiercel_hasher_close(nullptr);
  tiercel_store_close(nullptr);
  tiercel_ticket_drop(nullptr);
  tiercel_string_free(nullptr);
  EXPECT_EQ(tiercel_store_checkpoint(nullptr), nullptr);
  EXPECT_EQ(tiercel_store_hasher(nullptr), nullptr);
}

TEST(CErrors, MissingHandlesAreNamed) {
  ExpectInvalid(tiercel_token_map_save(nullptr, "x"), "`map` is NULL");
  ExpectInvalid(tiercel_token_map_get_counts(nullptr, nullptr, nullptr), "`map` is NULL");
  ExpectInvalid(tiercel_checkpoint_get_info(nullptr, nullptr), "`checkpoint` is NULL");
  ExpectInvalid(tiercel_checkpoint_get_recipe(nullptr, nullptr), "`checkpoint` is NULL");
  ExpectInvalid(tiercel_checkpoint_get_layer(nullptr, 0, nullptr), "`checkpoint` is NULL");
  char* text = nullptr;
  ExpectInvalid(tiercel_checkpoint_get_json(nullptr, &text, nullptr), "`checkpoint` is NULL");
  tiercel_hasher* hasher = nullptr;
  ExpectInvalid(tiercel_hasher_open(nullptr, nullptr, &hasher), "`checkpoint` is NULL");
  ExpectInvalid(tiercel_hasher_get_recipe(nullptr, nullptr), "`hasher` is NULL");
  ExpectInvalid(tiercel_hasher_mixes(nullptr, 1, nullptr, nullptr, 0, nullptr), "`hasher`");
  ExpectInvalid(tiercel_hasher_row_ids(nullptr, 1, nullptr, nullptr, 0, nullptr), "`hasher`");
  ExpectInvalid(tiercel_store_open("x", nullptr, nullptr), "`store` is NULL");
  ExpectInvalid(tiercel_store_get_row_size(nullptr, 1, 0, nullptr), "`store` is NULL");
  ExpectInvalid(tiercel_store_lookup(nullptr, nullptr, 0, nullptr, 0, 0), "`store` is NULL");
  ExpectInvalid(tiercel_store_lookup_rows(nullptr, nullptr, 0, nullptr, 0), "`store` is NULL");
  ExpectInvalid(tiercel_store_get_stats(nullptr, nullptr, nullptr, 0, nullptr), "`store` is NULL");
  ExpectInvalid(tiercel_store_get_metrics(nullptr, &text, nullptr), "`store` is NULL");
  ExpectInvalid(tiercel_store_get_description(nullptr, &text, nullptr), "`store` is NULL");
  ExpectInvalid(tiercel_store_save_hot_set(nullptr, "x", nullptr, nullptr), "`store` is NULL");
  ExpectInvalid(tiercel_store_load_hot_set(nullptr, "x", nullptr), "`store` is NULL");
  ExpectInvalid(tiercel_store_get_hot_set(nullptr, nullptr), "`store` is NULL");
  ExpectInvalid(tiercel_store_wait_hot_set(nullptr), "`store` is NULL");
  ExpectInvalid(tiercel_store_cancel_hot_set(nullptr), "`store` is NULL");
  EXPECT_EQ(text, nullptr);
}

TEST(CErrors, MissingTicketsAreNamed) {
  tiercel_ticket* ticket = nullptr;
  ExpectInvalid(tiercel_store_start(nullptr, nullptr, 0, nullptr, 0, nullptr, &ticket), "`store`");
  ExpectInvalid(tiercel_store_start_rows(nullptr, nullptr, 0, nullptr, nullptr, &ticket),
                "`store`");
  ExpectInvalid(tiercel_store_start(nullptr, nullptr, 0, nullptr, 0, nullptr, nullptr),
                "`ticket` is NULL");
  std::int32_t done = 7;
  ExpectInvalid(tiercel_ticket_wait(nullptr, 1), "`ticket` is NULL");
  ExpectInvalid(tiercel_ticket_wait_all(nullptr), "`ticket` is NULL");
  ExpectInvalid(tiercel_ticket_wait_for(nullptr, 1, 0, &done), "`ticket` is NULL");
  EXPECT_EQ(done, 0);
  ExpectInvalid(tiercel_ticket_try_wait(nullptr, 1, &done), "`ticket` is NULL");
  ExpectInvalid(tiercel_ticket_try_wait(nullptr, 1, nullptr), "`done` is NULL");
  ExpectInvalid(tiercel_ticket_promote(nullptr), "`ticket` is NULL");
  ExpectInvalid(tiercel_ticket_cancel(nullptr), "`ticket` is NULL");
  ExpectInvalid(tiercel_ticket_get_rows(nullptr, 1, nullptr), "`ticket` is NULL");
  ExpectInvalid(tiercel_ticket_get_stats(nullptr, 1, nullptr), "`ticket` is NULL");
}

TEST(CErrors, OptionsOutOfRangeAreNamed) {
  const MadeCheckpoint made({});
  tiercel_store* store = nullptr;
  const auto open = [&](auto change) {
    tiercel_store_options options = SmallCOptions();
    change(options);
    return tiercel_store_open(made.path().c_str(), &options, &store);
  };
  ExpectInvalid(open([](auto& options) { options.engine = 3; }), "`engine` is 3");
  ExpectInvalid(open([](auto& options) { options.scales = 9; }), "`scales` is 9");
  ExpectInvalid(open([](auto& options) { options.pages = 3; }), "`pages`");
  ExpectInvalid(open([](auto& options) { options.numa = 3; }), "`numa`");
  ExpectInvalid(open([](auto& options) { options.io_poll = 2; }), "`io_poll`");
  ExpectInvalid(open([](auto& options) { options.submission_poll = 2; }), "`submission_poll`");
  ExpectInvalid(open([](auto& options) { options.layer_id_count = 2; }), "`layer_ids` is NULL");
  ExpectInvalid(open([](auto& options) { options.read_attempts_max = 0; }), "read_attempts_max");
  EXPECT_EQ(store, nullptr);
  const std::uint32_t absent = 77;
  EXPECT_CODE(TIERCEL_NOT_FOUND, open([&](auto& options) {
                options.layer_ids = &absent;
                options.layer_id_count = 1;
              }));
}

TEST(CErrors, LookupsNameWhatIsWrong) {
  const CStore store;
  const std::uint32_t layer_id = store.layer_ids()[0];
  const std::vector<std::int32_t> tokens = store.made().RandomTokens(1, 4);
  const tiercel_token_run run = RunOf(tokens);
  CLayer layer(store, layer_id, tokens.size() * store.columns(), TIERCEL_OUTPUT_STORED);
  const tiercel_layer_output good = layer.Output();
  const auto lookup = [&](const tiercel_token_run& tried, const tiercel_layer_output& output,
                          std::uint32_t format) {
    return tiercel_store_lookup(store.get(), &tried, 1, &output, 1, format);
  };
  ExpectInvalid(lookup(run, good, 2), "`output` is 2");
  tiercel_layer_output output = good;
  output.reserved = 1;
  ExpectInvalid(lookup(run, output, 0), "`reserved` of `tiercel_layer_output` is 1");
  output = good;
  output.rows = nullptr;
  ExpectInvalid(lookup(run, output, 0), "`rows` is NULL");
  output = good;
  output.row_status = nullptr;
  ExpectInvalid(lookup(run, output, 0), "`row_status` is NULL");
  output = good;
  output.rows_bytes -= 1;
  ExpectInvalid(lookup(run, output, 0), "tiercel_store_lookup: ");
  output = good;
  output.layer_id = 77;
  EXPECT_CODE(TIERCEL_NOT_FOUND, lookup(run, output, 0));
  tiercel_token_run wrong = run;
  wrong.history_count = 2;
  ExpectInvalid(lookup(wrong, good, 0), "`history` is NULL, but its count is 2");
  wrong = run;
  wrong.tokens = nullptr;
  ExpectInvalid(lookup(wrong, good, 0), "`tokens` is NULL");
  ExpectInvalid(tiercel_store_lookup(store.get(), nullptr, 1, &good, 1, 0), "`runs` is NULL");
  ExpectInvalid(tiercel_store_lookup(store.get(), &run, 1, nullptr, 1, 0), "`outputs` is NULL");
  ExpectInvalid(tiercel_store_lookup_rows(store.get(), nullptr, 2, &good, 0), "`rows` is NULL");
  ExpectInvalid(tiercel_store_lookup_rows(store.get(), nullptr, 0, nullptr, 0), "`layer` is NULL");
  EXPECT_CODE(TIERCEL_OK, lookup(run, good, 0));
}

TEST(CErrors, HasherNamesWhatIsWrong) {
  const CStore store;
  const tiercel_hasher* hasher = tiercel_store_hasher(store.get());
  const std::uint32_t layer_id = store.layer_ids()[0];
  const std::vector<std::int32_t> tokens = {1, 2, std::numeric_limits<std::int32_t>::max()};
  const tiercel_token_run run = RunOf(tokens);
  std::vector<std::uint64_t> rows(tokens.size() * store.columns());
  EXPECT_CODE(TIERCEL_NOT_FOUND,
              tiercel_hasher_row_ids(hasher, 77, &run, rows.data(), rows.size(), nullptr));
  EXPECT_NE(std::strstr(tiercel_last_error(), "layer 77"), nullptr);
  ExpectInvalid(tiercel_hasher_row_ids(hasher, layer_id, &run, rows.data(), rows.size(), nullptr),
                "2147483647");
  ExpectInvalid(
      tiercel_hasher_row_ids(hasher, layer_id, &run, rows.data(), rows.size() - 1, nullptr),
      "tiercel_hasher_row_ids: ");
  ExpectInvalid(tiercel_hasher_row_ids(hasher, layer_id, &run, nullptr, rows.size(), nullptr),
                "`rows` is NULL");
  ExpectInvalid(tiercel_hasher_mixes(hasher, layer_id, nullptr, rows.data(), 1, nullptr),
                "`run` is NULL");
}

TEST(CErrors, TokenMapsAreChecked) {
  tiercel_token_map* map = nullptr;
  const std::vector<std::uint32_t> unordered = {1, 0};
  EXPECT_CODE(TIERCEL_INVALID_ARGUMENT,
              tiercel_token_map_from_classes(unordered.data(), unordered.size(), &map));
  ExpectInvalid(tiercel_token_map_from_classes(nullptr, 2, &map), "`classes` is NULL");
  EXPECT_EQ(map, nullptr);
  const ScratchDir scratch;
  const std::string path = scratch.Write("tokenizer.json", "{}");
  ExpectInvalid(tiercel_token_map_load_tokenizer(path.c_str(), &map), path);
}

}  // namespace
}  // namespace tiercel::testing
