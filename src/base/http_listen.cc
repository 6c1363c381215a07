#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/http.h"

namespace hob::http {

namespace {
constexpr int kBacklog = 4096;  // the kernel lowers it to net.core.somaxconn
}

Result<Fd> listen_tcp(const std::string& address, uint16_t port) {
  const std::string doing = fmt::format("listening on {}:{}", address, port);
  sockaddr_storage storage{};
  socklen_t size = 0;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
  if (inet_pton(AF_INET, address.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    size = sizeof *v4;
  } else if (inet_pton(AF_INET6, address.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    size = sizeof *v6;
  } else {
    return fail(Code::kInvalid, "{}: not an IP address", doing);
  }
  Fd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, doing);
  const int one = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    if (errno == EADDRINUSE) return fail(Code::kExists, "{}: another program listens there", doing);
    return fail_errno(errno, doing);
  }
  return fd;
}

Result<Fd> listen_unix(const std::string& path, unsigned mode) {
  const std::string doing = "listening on " + path;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(Code::kInvalid, "{}: a unix socket's path has at most {} bytes", doing,
                sizeof address.sun_path - 1);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, doing);
  {
    // A socket whose owner was killed stays in the file system and refuses connections: it may be
    // replaced.
    const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe) return fail_errno(errno, doing);
    const bool answered = ::connect(probe.get(), generic, sizeof address) == 0 || errno == EAGAIN;
    if (answered) return fail(Code::kExists, "{}: another program listens there", doing);
    struct stat status{};
    if (::lstat(path.c_str(), &status) == 0) {
      if (!S_ISSOCK(status.st_mode))
        return fail(Code::kExists, "{}: a file that is no socket is there", doing);
      ::unlink(path.c_str());
    }
  }
  if (::bind(fd.get(), generic, sizeof address) != 0) return fail_errno(errno, doing);
  // Nobody can connect before listen(): the mode is in force from the first connection on.
  if (::chmod(path.c_str(), mode) != 0) return fail_errno(errno, doing);
  if (::listen(fd.get(), kBacklog) != 0) return fail_errno(errno, doing);
  return fd;
}

}  // namespace hob::http
