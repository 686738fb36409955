#include "io/read_errors.h"

#include <cerrno>

namespace tiercel {

ReadError DescribeReadError(int os_error) noexcept {
  using enum ReadErrorKind;
  switch (os_error) {
    case EIO:
      return {kPassing, "the disk reported a read error; look at the kernel's log (dmesg)"};
    case EREMOTEIO:
    case ETIMEDOUT:
    case ENOLINK:
      return {kPassing, "the disk did not answer in time or lost its link"};
    case EAGAIN:
    case EBUSY:
      return {kPassing, "the kernel had no room for the read for a second: lower the depth"};
    case ENOMEM:
    case ENOBUFS:
      return {kPassing, "the kernel had no memory for the read for a second"};
    case EINTR:
    case ECANCELED:
      return {kPassing, "the read was interrupted"};
    case ENODATA:
      // Of our own (see ReadCompletion), and the kernel's for a medium error.
      return {kDamaged, "the file ends before the row does (truncated?), or the disk has lost it"};
    case EBADMSG:
    case EILSEQ:
    case EUCLEAN:
      return {kDamaged, "a checksum does not hold, of the table, the disk or the file system"};
    case ENODEV:
    case ENXIO:
    case ENOMEDIUM:
      return {kLasting, "the disk is gone"};
    case ESTALE:
      return {kLasting, "the file was replaced on its server: open the store again"};
    case EACCES:
    case EPERM:
      return {kLasting, "the system took back its permission to read"};
    case EOPNOTSUPP:
      return {kLasting, "the file system cannot read this way: leave polling off, or use pread"};
    case EINVAL:
      return {kLasting, "the file system refuses reads of this alignment: name a larger block"};
    case EFBIG:
    case EOVERFLOW:
      return {kLasting, "the place is beyond what the file system can address"};
    case EBADF:
    case EFAULT:
      return {kLasting, "a file or buffer of the library was closed or unmapped by someone else"};
    default:
      return {kLasting, "unexpected: please report it with the kernel's version"};
  }
}

}  // namespace tiercel
