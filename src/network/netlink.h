// Netlink, typed just enough: build one request, send it, wait for its acknowledgement. A socket
// talks to the network namespace it was opened in for ever, whichever the calling thread is in.
// Private to this room; calls block, shortly.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"

struct nlmsghdr;

namespace hob::network {

inline constexpr size_t kNetlinkRequestBytesMax = 16 * 1024;
inline constexpr int kNetlinkReplySecondsMax = 10;  // the kernel answers at once or never

// One request: a fixed header, then attributes, some of which hold attributes.
class NetlinkRequest {
 public:
  // `type`: RTM_NEWLINK…; `flags`: NLM_F_CREATE…; NLM_F_REQUEST and NLM_F_ACK (not for dumps) are
  // added.
  template <class Header>
  NetlinkRequest(uint16_t type, uint16_t flags, const Header& header) : type_(type), flags_(flags) {
    append(&header, sizeof(header));
  }
  NetlinkRequest& bytes(uint16_t attribute, std::span<const std::byte> value);
  NetlinkRequest& text(uint16_t attribute, std::string_view value);
  template <class Number>
    requires std::is_arithmetic_v<Number>
  NetlinkRequest& number(uint16_t attribute, Number value) {
    return bytes(attribute, std::as_bytes(std::span(&value, 1)));
  }
  // What `fill` adds becomes the attribute's content. `prefix` comes before it (veth's peer has an
  // ifinfomsg there).
  NetlinkRequest& nest(uint16_t attribute, const std::function<void(NetlinkRequest&)>& fill,
                       std::span<const std::byte> prefix = {});

  uint16_t type() const { return type_; }
  uint16_t flags() const { return flags_; }
  const std::vector<std::byte>& payload() const { return payload_; }

 private:
  void append(const void* data, size_t size);
  uint16_t type_;
  uint16_t flags_;
  std::vector<std::byte> payload_{};
};

// A received message: its type, and what follows the netlink header.
struct NetlinkReply {
  uint16_t type = 0;
  std::span<const std::byte> payload{};

  // The fixed header at the start, zero where the message is shorter.
  template <class Header>
  Header header() const {
    Header value{};
    std::memcpy(&value, payload.data(), std::min(sizeof(value), payload.size()));
    return value;
  }
  // The content of the first such attribute after a fixed header of that size; empty: none.
  std::span<const std::byte> attribute(size_t header_size, uint16_t wanted) const;
  std::string text(size_t header_size, uint16_t wanted) const;
};

class Netlink {
 public:
  // For routes, links and addresses, in the calling thread's network namespace.
  static Result<Netlink> open();
  // Sends, and waits for the acknowledgement. The error's code: kExists (EEXIST), kNotFound
  // (ENODEV, ENOENT, ESRCH), kDenied (EPERM), else kUnavailable; `doing` says what we tried.
  Result<void> call(const NetlinkRequest& request, std::string_view doing);
  // Sends a query, and gives each answer to `each`. The request needs NLM_F_DUMP, or asks for one
  // object.
  Result<void> query(const NetlinkRequest& request, std::string_view doing,
                     const std::function<void(const NetlinkReply&)>& each);

 private:
  explicit Netlink(Fd socket) : socket_(std::move(socket)) {}
  Fd socket_;
  uint32_t sequence_ = 0;
};

}  // namespace hob::network
