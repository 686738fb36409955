#include "tests/store/shared_cache_parts.h"

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/prng.h"

namespace tiercel::testing {

StoreOptions SharedStoreOptions() {
  StoreOptions options;
  options.dram_budget_bytes = std::uint64_t{16} << 20;
  options.queue_depth = 16;
  options.io_thread_count = 1;
  options.prefetch.tokens_max = 1024;
  options.memory.shared = true;
  options.log = [](std::string_view /*line*/) {};
  return options;
}

std::vector<std::int32_t> SharedRunTokens(const CheckpointInfo& checkpoint, std::uint64_t number) {
  Prng prng(number * 77 + 1);
  std::vector<std::int32_t> tokens(kSharedRunTokens);
  for (std::int32_t& token : tokens) {
    token =
        static_cast<std::int32_t>(prng.Below(checkpoint.recipe.parameters.compressed_vocab_size));
  }
  return tokens;
}

bool LookUpRun(Store& store, std::uint64_t number) {
  const std::vector<std::int32_t> tokens = SharedRunTokens(store.checkpoint(), number);
  const TokenRun run = {.history = {}, .tokens = tokens};
  std::vector<LayerBuffers> buffers;
  std::vector<LayerOutput> outputs;
  const std::size_t rows = tokens.size() * store.checkpoint().recipe.column_count();
  for (const LayerTable& layer : store.checkpoint().layers) {
    buffers.emplace_back(store, layer.layer_id, rows, RowOutput::kStored);
  }
  for (LayerBuffers& buffer : buffers) outputs.push_back(buffer.Output());
  const Status status = store.Lookup({&run, 1}, outputs);
  if (!status.ok()) std::fprintf(stderr, "lookup: %s\n", status.ToString().c_str());
  return status.ok();
}

bool SendDescriptor(int socket, int descriptor) {
  char byte = '+';
  iovec data = {.iov_base = &byte, .iov_len = 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* const head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(head), &descriptor, sizeof(descriptor));
  return sendmsg(socket, &message, 0) == 1;
}

int ReceiveDescriptor(int socket) {
  char byte = 0;
  iovec data = {.iov_base = &byte, .iov_len = 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1) return -1;
  const cmsghdr* const head = CMSG_FIRSTHDR(&message);
  if (head == nullptr || head->cmsg_type != SCM_RIGHTS) return -1;
  int descriptor = -1;
  std::memcpy(&descriptor, CMSG_DATA(head), sizeof(descriptor));
  return descriptor;
}

SharedCacheWriter::SharedCacheWriter(const std::string& checkpoint) {
  int ends[2] = {-1, -1};
  TIERCEL_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  child_ = fork();
  if (child_ == 0) {
    dup2(ends[1], STDIN_FILENO);
    execl(TIERCEL_SHARED_CACHE_DRIVER, TIERCEL_SHARED_CACHE_DRIVER, checkpoint.c_str(), nullptr);
    _exit(127);
  }
  close(ends[1]);
  socket_ = ends[0];
}

bool SharedCacheWriter::Kill() {
  if (child_ <= 0) return false;
  kill(child_, SIGKILL);
  int status = 0;
  TIERCEL_CHECK(waitpid(std::exchange(child_, -1), &status, 0) > 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

SharedCacheWriter::~SharedCacheWriter() {
  (void)Kill();
  close(socket_);
}

}  // namespace tiercel::testing
