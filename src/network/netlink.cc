#include "network/netlink.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.h"

namespace hob::network {

namespace {

constexpr size_t kReceiveBytes = 64 * 1024;  // the kernel fills at most 32 KiB per dump message

std::unexpected<Error> netlink_error(int code, std::string_view doing) {
  Error error{.code = Code::kUnavailable,
              .message = fmt::format("{}: {}", doing, std::strerror(code))};
  if (code == EEXIST) error.code = Code::kExists;
  if (code == ENODEV || code == ENOENT || code == ESRCH) error.code = Code::kNotFound;
  if (code == EPERM || code == EACCES) error.code = Code::kDenied;
  return fail(std::move(error));
}

}  // namespace

void NetlinkRequest::append(const void* data, size_t size) {
  const size_t at = payload_.size();
  payload_.resize(at + NLMSG_ALIGN(size));
  if (size > 0) std::memcpy(payload_.data() + at, data, size);
  HOB_ASSERT(payload_.size() <= kNetlinkRequestBytesMax);
}

NetlinkRequest& NetlinkRequest::bytes(uint16_t attribute, std::span<const std::byte> value) {
  const nlattr header{.nla_len = static_cast<uint16_t>(NLA_HDRLEN + value.size()),
                      .nla_type = attribute};
  append(&header, sizeof(header));
  append(value.data(), value.size());
  return *this;
}

NetlinkRequest& NetlinkRequest::text(uint16_t attribute, std::string_view value) {
  std::string terminated(value);
  return bytes(attribute, std::as_bytes(std::span(terminated.c_str(), terminated.size() + 1)));
}

NetlinkRequest& NetlinkRequest::nest(uint16_t attribute,
                                     const std::function<void(NetlinkRequest&)>& fill,
                                     std::span<const std::byte> prefix) {
  const size_t start = payload_.size();
  nlattr header{.nla_len = 0, .nla_type = attribute};
  append(&header, sizeof(header));
  append(prefix.data(), prefix.size());
  fill(*this);
  header.nla_len = static_cast<uint16_t>(payload_.size() - start);
  std::memcpy(payload_.data() + start, &header, sizeof(header));
  return *this;
}

std::span<const std::byte> NetlinkReply::attribute(size_t header_size, uint16_t wanted) const {
  size_t at = NLMSG_ALIGN(header_size);
  while (at <= payload.size() && payload.size() - at >= sizeof(nlattr)) {
    nlattr header{};
    std::memcpy(&header, payload.data() + at, sizeof(header));
    if (header.nla_len < sizeof(header) || header.nla_len > payload.size() - at) return {};
    if ((header.nla_type & NLA_TYPE_MASK) == wanted) {
      return payload.subspan(at + sizeof(header), header.nla_len - sizeof(header));
    }
    at += NLA_ALIGN(header.nla_len);
  }
  return {};
}

std::string NetlinkReply::text(size_t header_size, uint16_t wanted) const {
  const auto found = attribute(header_size, wanted);
  std::string value(reinterpret_cast<const char*>(found.data()), found.size());
  return value.substr(0, value.find('\0'));
}

Result<Netlink> Netlink::open() {
  Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket) return fail_errno(errno, "opening a netlink socket");
  const timeval patience{.tv_sec = kNetlinkReplySecondsMax, .tv_usec = 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  return Netlink(std::move(socket));
}

Result<void> Netlink::call(const NetlinkRequest& request, std::string_view doing) {
  return query(request, doing, [](const NetlinkReply&) {});
}

Result<void> Netlink::query(const NetlinkRequest& request, std::string_view doing,
                            const std::function<void(const NetlinkReply&)>& each) {
  const bool dump = (request.flags() & NLM_F_DUMP) == NLM_F_DUMP;
  nlmsghdr header{};
  header.nlmsg_len = static_cast<uint32_t>(sizeof(header) + request.payload().size());
  header.nlmsg_type = request.type();
  header.nlmsg_flags =
      static_cast<uint16_t>(request.flags() | NLM_F_REQUEST | (dump ? 0 : NLM_F_ACK));
  header.nlmsg_seq = ++sequence_;
  std::vector<std::byte> message(header.nlmsg_len);
  std::memcpy(message.data(), &header, sizeof(header));
  std::ranges::copy(request.payload(), message.data() + sizeof(header));
  if (::send(socket_.get(), message.data(), message.size(), 0) < 0)
    return netlink_error(errno, doing);

  std::vector<std::byte> buffer(kReceiveBytes);
  while (true) {
    const ssize_t received = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (received < 0 && errno == EINTR) continue;
    if (received < 0) return netlink_error(errno, doing);
    std::span<const std::byte> rest(buffer.data(), static_cast<size_t>(received));
    while (rest.size() >= sizeof(nlmsghdr)) {
      nlmsghdr reply{};
      std::memcpy(&reply, rest.data(), sizeof(reply));
      if (reply.nlmsg_len < sizeof(reply) || reply.nlmsg_len > rest.size()) {
        return fail(Code::kInternal, "{}: the kernel's answer is cut short", doing);
      }
      const auto payload = rest.subspan(sizeof(reply), reply.nlmsg_len - sizeof(reply));
      rest = rest.subspan(std::min<size_t>(NLMSG_ALIGN(reply.nlmsg_len), rest.size()));
      if (reply.nlmsg_seq != sequence_) continue;  // left over from a request that timed out
      if (reply.nlmsg_type == NLMSG_ERROR || reply.nlmsg_type == NLMSG_DONE) {
        int code = 0;
        if (payload.size() >= sizeof(code)) std::memcpy(&code, payload.data(), sizeof(code));
        if (code != 0) return netlink_error(-code, doing);
        return {};
      }
      each(NetlinkReply{.type = reply.nlmsg_type, .payload = payload});
    }
  }
}

}  // namespace hob::network
