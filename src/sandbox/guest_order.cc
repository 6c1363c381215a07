#include "sandbox/guest_order.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "base/file.h"
#include "guest/frame.h"
#include "sandbox/microvm_layout.h"

namespace hob::sandbox {
namespace {

constexpr timeval kPatience{.tv_sec = 5, .tv_usec = 0};
constexpr size_t kLineBytesMax = 32;

// By the bundle's descriptor: a socket's path is short, a bundle's may be long.
Result<Fd> connect_to(const std::filesystem::path& bundle) {
  const Fd folder(::open(bundle.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!folder || !fd) return fail_errno(errno, "reaching the microVM");
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = fmt::format("/proc/self/fd/{}/{}", folder.get(), kVsockFile);
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED)
      return fail(Code::kNotFound, "the microVM is not there");
    return fail_errno(errno, "reaching the microVM");
  }
  return fd;
}

Result<void> send_all(const Fd& fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return fail(Code::kTimeout, "the microVM takes no order");
    if (sent <= 0) return fail(Code::kNotFound, "the microVM has ended");
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return {};
}

Result<size_t> receive(const Fd& fd, char* bytes, size_t count) {
  ssize_t got = 0;
  do {
    got = ::recv(fd.get(), bytes, count, 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return fail(Code::kTimeout, "the microVM does not answer");
  if (got <= 0) return fail(Code::kNotFound, "the microVM has ended");
  return static_cast<size_t>(got);
}

}  // namespace

Result<void> order_guest(const std::filesystem::path& bundle, const guest::Order& order) {
  HOB_TRY(const Fd fd, connect_to(bundle));
  HOB_CHECK(send_all(fd, fmt::format("CONNECT {}\n", guest::kOrderPort)));
  std::string line;
  while (!line.ends_with('\n') && line.size() < kLineBytesMax) {
    char byte = 0;
    HOB_CHECK(receive(fd, &byte, 1));
    line += byte;
  }
  std::string bytes;
  guest::append_frame(bytes, guest::FrameKind::kRecord, 0, guest::encode(order));
  HOB_CHECK(send_all(fd, bytes));
  guest::FrameReader reader(guest::kReportBytesMax);
  while (true) {
    HOB_TRY(const auto frame, reader.next());
    if (frame) {
      HOB_TRY(const guest::Report report, guest::decode_report(frame->body));
      if (report.event == guest::Event::kDone) return {};
      return fail(report.invalid ? Code::kInvalid : Code::kUnavailable, "{}", report.reason);
    }
    char piece[4'096];
    HOB_TRY(const size_t got, receive(fd, piece, sizeof piece));
    reader.feed({piece, got});
  }
}

}  // namespace hob::sandbox
