#include <memory>
#include <span>
#include <utility>

#include "base/file.h"
#include "store/file_writer.h"
#include "store/make_checkpoint_plan.h"
#include "store/work_directory.h"
#include "tiercel/synthetic.h"

namespace tiercel {

Result<MakeCheckpointReport> MakeCheckpoint(const MakeCheckpointOptions& options) {
  Result<CheckpointPlan> planned = PlanCheckpoint(options);
  if (!planned.ok()) return std::move(planned).TakeStatus();
  const CheckpointPlan& plan = planned.value();
  Result<std::unique_ptr<WorkDirectory>> directory =
      WorkDirectory::Make(options.out_dir, plan.size_bytes);
  if (!directory.ok()) return std::move(directory).TakeStatus();
  Result<std::unique_ptr<FileWriter>> writer = FileWriter::Make();
  if (!writer.ok()) return std::move(writer).TakeStatus();
  std::uint64_t done_bytes = 0;
  const auto wrote = [&](std::uint64_t bytes) {
    done_bytes += bytes;
    return !options.progress || options.progress(done_bytes, plan.size_bytes);
  };
  for (const PlannedFile& file : plan.files) {
    PlannedFileStream stream(file);
    Status status = writer.value()->Write({.path = directory.value()->File(file.name),
                                           .size_bytes = file.size_bytes,
                                           .fill =
                                               [&stream](std::span<std::byte> bytes) {
                                                 stream.Next(bytes);
                                                 return Status();
                                               },
                                           .wrote = wrote});
    if (!status.ok()) return status;
  }
  for (const PlannedText& text : plan.texts) {
    Status status = WriteFileAtomically(directory.value()->File(text.name), text.text);
    if (!status.ok()) return status;
    if (!wrote(text.text.size())) return Status(StatusCode::kCancelled, "stopped at the end");
  }
  if (Status status = directory.value()->Publish(); !status.ok()) return status;
  return MakeCheckpointReport{.file_count = plan.files.size() + plan.texts.size(),
                              .bytes_written = done_bytes,
                              .row_count = plan.row_count,
                              .direct_io = writer.value()->direct_io()};
}

}  // namespace tiercel
