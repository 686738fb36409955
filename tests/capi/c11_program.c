/* Goal: the header is C11, and a program in C can use what it declares.
 *
 * Method: compiled with -std=c11 -pedantic, warnings as errors; calls what needs no
 * checkpoint, and takes the address of the rest. Exits with 0 where all is as expected. */

#include <stdio.h>
#include <string.h>

#include "tiercel/tiercel.h"

static int g_failures = 0;

static void Expect(int good, const char* what) {
  if (good) return;
  fprintf(stderr, "c11_program: %s; the last error: %s\n", what, tiercel_last_error());
  ++g_failures;
}

/* The constants can be switched on, and are distinct. */
static const char* Sentence(tiercel_code code) {
  switch (code) {
    case TIERCEL_OK:
      return "done";
    case TIERCEL_NOT_FOUND:
      return "not there";
    case TIERCEL_PARTIAL:
      return "done in part";
    default:
      return "failed";
  }
}

static void TestDefaults(void) {
  tiercel_store_options options;
  tiercel_start_options start;
  tiercel_prefetch_layer layer;
  Expect(tiercel_store_options_init(&options, sizeof options) == TIERCEL_OK, "store options");
  Expect(options.struct_size == sizeof options, "the size is kept");
  Expect(options.dram_budget_bytes == (uint64_t)1 << 30, "the budget's default");
  Expect(tiercel_start_options_init(&start, sizeof start) == TIERCEL_OK, "start options");
  Expect(start.event_fd == -1, "no eventfd");
  Expect(tiercel_prefetch_layer_init(&layer, sizeof layer) == TIERCEL_OK, "prefetch layer");
  Expect(layer.rows == NULL && layer.needed_after_ns == 0, "an empty layer");
}

static void TestErrors(void) {
  tiercel_store* store = NULL;
  const tiercel_code code = tiercel_store_open("/nowhere", NULL, &store);
  Expect(code == TIERCEL_NOT_FOUND, "opens nothing");
  Expect(strcmp(Sentence(code), "not there") == 0, "the sentence");
  Expect(strstr(tiercel_last_error(), "/nowhere") != NULL, "names the path");
  Expect(store == NULL, "no store");
  Expect(strcmp(tiercel_code_name(code), "NOT_FOUND") == 0, "names the code");
}

static void TestTokenMap(void) {
  static const uint32_t classes[] = {0, 1, 0, 2};
  tiercel_token_map* map = NULL;
  uint64_t entry_count = 0;
  uint32_t class_count = 0;
  Expect(tiercel_token_map_from_classes(classes, 4, &map) == TIERCEL_OK, "makes a map");
  Expect(tiercel_token_map_get_counts(map, &entry_count, &class_count) == TIERCEL_OK, "counts");
  Expect(entry_count == 4 && class_count == 3, "the counts");
  tiercel_token_map_close(map);
}

/* Prototypes as C sees them: an initialiser of another type would not compile. */
static void TestPrototypes(void) {
  tiercel_code (*start)(tiercel_store*, const tiercel_token_run*, size_t,
                        const tiercel_prefetch_layer*, size_t, const tiercel_start_options*,
                        tiercel_ticket**) = tiercel_store_start;
  tiercel_code (*wait)(tiercel_ticket*, uint32_t) = tiercel_ticket_wait;
  tiercel_code (*metrics)(const tiercel_store*, char**, size_t*) = tiercel_store_get_metrics;
  Expect(start(NULL, NULL, 0, NULL, 0, NULL, NULL) == TIERCEL_INVALID_ARGUMENT, "start");
  Expect(wait(NULL, 1) == TIERCEL_INVALID_ARGUMENT, "wait");
  Expect(metrics(NULL, NULL, NULL) == TIERCEL_INVALID_ARGUMENT, "metrics");
}

int main(void) {
  Expect(strlen(tiercel_version()) > 0, "a version");
  TestDefaults();
  TestErrors();
  TestTokenMap();
  TestPrototypes();
  return g_failures == 0 ? 0 : 1;
}
