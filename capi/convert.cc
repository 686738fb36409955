#include "capi/convert.h"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>

#include "capi/errors.h"
#include "capi/structs.h"

namespace tiercel::capi {
namespace {

constexpr int Of(RowOutput output) noexcept {
  return static_cast<int>(output);
}
static_assert(TIERCEL_OUTPUT_STORED == Of(RowOutput::kStored));
static_assert(TIERCEL_OUTPUT_BF16 == Of(RowOutput::kBf16));
static_assert(sizeof(RowId) == sizeof(std::uint64_t));

}  // namespace

Status CheckChoice(std::uint32_t value, std::uint32_t last, const char* name) {
  if (value <= last) return {};
  return {StatusCode::kInvalidArgument,
          fmt::format("`{}` is {}; its constants are 0 to {}", name, value, last)};
}

Status ToFlag(std::uint32_t value, const char* name, bool* flag) {
  Status status = CheckChoice(value, 1, name);
  if (status.ok()) *flag = value == 1;
  return status;
}

Status ToRowOutput(std::uint32_t output, RowOutput* format) {
  return ToEnum(output, RowOutput::kBf16, "output", format);
}

Status CheckArray(const void* pointer, std::size_t count, const char* name) {
  if (pointer != nullptr || count == 0) return {};
  return {StatusCode::kInvalidArgument,
          fmt::format("`{}` is NULL, but its count is {}", name, count)};
}

Status CheckReserved(std::uint32_t reserved, const char* name) {
  if (reserved == 0) return {};
  return {StatusCode::kInvalidArgument,
          fmt::format("`reserved` of `{}` is {}; it must be 0", name, reserved)};
}

Status ToRun(const tiercel_token_run& run, TokenRun* result) {
  Status status = CheckArray(run.history, run.history_count, "history");
  if (status.ok()) status = CheckArray(run.tokens, run.token_count, "tokens");
  if (!status.ok()) return status;
  *result = {.history = {run.history, run.history_count}, .tokens = {run.tokens, run.token_count}};
  return {};
}

Status ToRuns(const tiercel_token_run* runs, std::size_t run_count, Runs* result) {
  Status status = CheckArray(runs, run_count, "runs");
  for (std::size_t i = 0; status.ok() && i < run_count; ++i) status = ToRun(runs[i], &(*result)[i]);
  return status;
}

Status ToOutput(const tiercel_layer_output& output, LayerOutput* result) {
  Status status = CheckReserved(output.reserved, "tiercel_layer_output");
  if (status.ok()) status = CheckArray(output.rows, output.rows_bytes, "rows");
  if (status.ok()) status = CheckArray(output.row_status, output.row_status_count, "row_status");
  if (!status.ok()) return status;
  *result = {
      .layer_id = output.layer_id,
      .rows = {static_cast<std::byte*>(output.rows), output.rows_bytes},
      .row_status = {reinterpret_cast<RowStatus*>(output.row_status), output.row_status_count}};
  return {};
}

Status ToRowUpdate(const tiercel_row_update& update, RowUpdate* result) {
  Status status = CheckReserved(update.reserved, "tiercel_row_update");
  if (status.ok()) status = CheckArray(update.bytes, update.byte_count, "bytes");
  if (!status.ok()) return status;
  *result = {.layer_id = update.layer_id,
             .row = RowId{update.row},
             .bytes = {static_cast<const std::byte*>(update.bytes), update.byte_count}};
  return {};
}

Status ToPrefetchLayer(const tiercel_prefetch_layer& layer, PrefetchLayer* result) {
  Status status = CheckReserved(layer.reserved, "tiercel_prefetch_layer");
  if (status.ok()) status = CheckArray(layer.rows, layer.rows_bytes, "rows");
  if (status.ok()) status = CheckArray(layer.row_status, layer.row_status_count, "row_status");
  if (!status.ok()) return status;
  result->layer_id = layer.layer_id;
  result->needed_after = std::chrono::nanoseconds(layer.needed_after_ns);
  result->rows = {static_cast<std::byte*>(layer.rows), layer.rows_bytes};
  result->row_stride_bytes = layer.row_stride_bytes;
  result->row_status = {reinterpret_cast<RowStatus*>(layer.row_status), layer.row_status_count};
  return {};
}

Status GiveString(std::string_view text, char** copy, std::size_t* length) {
  auto* bytes = static_cast<char*>(std::malloc(text.size() + 1));
  if (bytes == nullptr) return {StatusCode::kResourceExhausted, "out of memory"};
  std::memcpy(bytes, text.data(), text.size());
  bytes[text.size()] = '\0';
  *copy = bytes;
  if (length != nullptr) *length = text.size();
  return {};
}

}  // namespace tiercel::capi
