#include "sandbox/guest_order.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string>

#include "base/file.h"
#include "base/time.h"
#include "guest/frame.h"
#include "sandbox/microvm_layout.h"

namespace hob::sandbox {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kLineBytesMax = 32;

// The socket's next call waits no longer than that. kTimeout: it is over.
Result<void> allow(const Fd& fd, int option, Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::microseconds>(deadline - Clock::now());
  if (left.count() <= 0) return fail(Code::kTimeout, "the microVM does not answer");
  const timeval wait{.tv_sec = left.count() / 1'000'000, .tv_usec = left.count() % 1'000'000};
  if (::setsockopt(fd.get(), SOL_SOCKET, option, &wait, sizeof wait) != 0)
    return fail_errno(errno, "limiting a wait");
  return {};
}

// By the bundle's descriptor: a socket's path is short, a bundle's may be long.
Result<Fd> connect_to(const std::filesystem::path& bundle) {
  const Fd folder(::open(bundle.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!folder || !fd) return fail_errno(errno, "reaching the microVM");
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

Result<void> send_all(const Fd& fd, std::string_view bytes, Clock::time_point deadline) {
  while (!bytes.empty()) {
    HOB_CHECK(allow(fd, SO_SNDTIMEO, deadline));
    const ssize_t sent = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return fail(Code::kTimeout, "the microVM takes no order");
    if (sent <= 0) return fail(Code::kNotFound, "the microVM has ended");
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return {};
}

Result<size_t> receive(const Fd& fd, char* bytes, size_t count, Clock::time_point deadline) {
  HOB_CHECK(allow(fd, SO_RCVTIMEO, deadline));
  ssize_t got = 0;
  do {
    got = ::recv(fd.get(), bytes, count, 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) return fail(Code::kTimeout, "the microVM does not answer");
  if (got <= 0) return fail(Code::kNotFound, "the microVM has ended");
  return static_cast<size_t>(got);
}

}  // namespace

Result<void> order_guest(const std::filesystem::path& bundle, const guest::Order& order,
                         Duration patience) {
  const Clock::time_point deadline = Clock::now() + patience;
  HOB_TRY(const Fd fd, connect_to(bundle));
  HOB_CHECK(send_all(fd, fmt::format("CONNECT {}\n", guest::kOrderPort), deadline));
  std::string line;
  while (!line.ends_with('\n') && line.size() < kLineBytesMax) {
    char byte = 0;
    HOB_CHECK(receive(fd, &byte, 1, deadline));
    line += byte;
  }
  std::string bytes;
  guest::append_frame(bytes, guest::FrameKind::kRecord, 0, guest::encode(order));
  HOB_CHECK(send_all(fd, bytes, deadline));
  guest::FrameReader reader(guest::kReportBytesMax);
  while (true) {
    HOB_TRY(const auto frame, reader.next());
    if (frame) {
      HOB_TRY(const guest::Report report, guest::decode_report(frame->body));
      if (report.event == guest::Event::kDone) return {};
      return fail(report.invalid ? Code::kInvalid : Code::kUnavailable, "{}", report.reason);
    }
    char piece[4'096];
    HOB_TRY(const size_t got, receive(fd, piece, sizeof piece, deadline));
    reader.feed({piece, got});
  }
}

}  // namespace hob::sandbox
