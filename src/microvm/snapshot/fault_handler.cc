// Memory by a userfaultfd: made, registered, handed over.
#include <fcntl.h>
#include <fmt/core.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "microvm/machine/machine.h"
#include "microvm/snapshot/memory_file.h"

namespace hob::microvm {
namespace {

constexpr uint64_t kHugePageBytes = 2 << 20;

// Faults of KVM's, too, which the kernel takes for us: so no UFFD_USER_MODE_ONLY.
Result<Fd> open_userfaultfd() {
  const Fd device(::open("/dev/userfaultfd", O_RDWR | O_CLOEXEC));
  Fd faults(device ? ioctl(device.get(), USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK)
                   : static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  if (!faults)
    return fail_errno(errno,
                      "making a userfaultfd (/dev/userfaultfd must be ours to open, or "
                      "vm.unprivileged_userfaultfd 1)");
  return faults;
}

Result<void> register_memory(int faults, const GuestMemory& memory, bool huge) {
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_EVENT_REMOVE | (huge ? UFFD_FEATURE_MISSING_HUGETLBFS : 0);
  if (ioctl(faults, UFFDIO_API, &api) < 0) return fail_errno(errno, "UFFDIO_API");
  for (const GuestMemory::Region& region : memory.regions()) {
    uffdio_register range{};
    range.range = {.start = reinterpret_cast<uint64_t>(region.host), .len = region.bytes};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    if (ioctl(faults, UFFDIO_REGISTER, &range) < 0) return fail_errno(errno, "UFFDIO_REGISTER");
  }
  return {};
}

std::string describe(const GuestMemory& memory, uint64_t page_bytes) {
  std::string list = "[";
  uint64_t offset = 0;
  for (const GuestMemory::Region& region : memory.regions()) {
    if (list.size() > 1) list += ',';
    list += fmt::format(
        R"({{"base_host_virt_addr":{},"size":{},"offset":{},"page_size":{},"page_size_kib":{}}})",
        reinterpret_cast<uint64_t>(region.host), region.bytes, offset, page_bytes, page_bytes);
    offset += region.bytes;
  }
  return list + "]";
}

Result<Fd> connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return fail(Code::kInvalid, "the handler's socket must have a path of 1 to {} bytes",
                sizeof address.sun_path - 1);
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd handler(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!handler) return fail_errno(errno, "making a socket");
  // A handler whose queue is full is refused rather than waited for.
  if (fcntl(handler.get(), F_SETFL, O_NONBLOCK) < 0 ||
      connect(handler.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0)
    return fail_errno(errno, "connecting to the handler at " + path);
  return handler;
}

Result<void> send_with(int socket, std::string text, int descriptor) {
  iovec bytes{.iov_base = text.data(), .iov_len = text.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
  if (sendmsg(socket, &message, MSG_NOSIGNAL) != static_cast<ssize_t>(text.size()))
    return fail_errno(errno, "sending the userfaultfd to the handler");
  return {};
}

}  // namespace

Result<HandledMemory> handled_memory(const std::string& socket_path, uint64_t bytes,
                                     GuestMemory::Pages pages, bool track_dirty) {
  const bool huge = pages == GuestMemory::Pages::kHuge;
  HOB_TRY(GuestMemory memory, GuestMemory::create(memory_ranges(bytes), pages, track_dirty));
  memory.filled_by_another();
  HOB_TRY(Fd faults, open_userfaultfd());
  HOB_CHECK(register_memory(faults.get(), memory, huge));
  HOB_TRY(Fd handler, connect_to(socket_path));
  HOB_CHECK(
      send_with(handler.get(), describe(memory, huge ? kHugePageBytes : kPageBytes), faults.get()));
  return HandledMemory{
      .memory = std::move(memory), .faults = std::move(faults), .handler = std::move(handler)};
}

}  // namespace hob::microvm
