// The RocksDB arms of a build without RocksDB: they say so.

#include "bench/peers/arm.h"

namespace tiercel::peers {

bool HasRocksDb() noexcept {
  return false;
}

std::string RocksDbVersion() {
  return "not in this build: CMake found no RocksDB (librocksdb-dev)";
}

Status PrepareRocksDb(const PeerTable& /*table*/, const std::string& /*scratch_dir*/) {
  return Status(StatusCode::kUnavailable, "RocksDB is " + RocksDbVersion());
}

Result<std::unique_ptr<Arm>> OpenRocksDbArm(const PeerTable& /*table*/,
                                            const ArmOptions& /*options*/,
                                            std::uint32_t /*thread_count*/,
                                            bool /*verify_checksums*/) {
  return Status(StatusCode::kUnavailable, "RocksDB is " + RocksDbVersion());
}

}  // namespace tiercel::peers
