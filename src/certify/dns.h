// What the DNS says of a host name: a port, and libc's resolver behind it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/async.h"
#include "base/result.h"

namespace hob::certify {

inline constexpr int kDnsTries = 2;          // each resolver is asked so often
inline constexpr int kDnsPatienceSeconds = 2;  // each time

class Dns {
 public:
  virtual ~Dns() = default;
  // What the name is an alias for, in lower case and without a last dot; nullopt: it is none.
  // kUnavailable: no resolver answers, or theirs do not.
  virtual Async<Result<std::optional<std::string>>> alias_of(std::string name) = 0;
  // Whether it has an address, IPv4 or IPv6.
  virtual Async<Result<bool>> has_address(std::string name) = 0;
};

// Asks `resolver` ("192.0.2.1", "127.0.0.1:8053"; IPv4), or those of /etc/resolv.conf as it is then,
// on threads of `pool`, which must outlive it.
class ResolverDns final : public Dns {
 public:
  // kInvalid: `resolver` is not empty and not like that.
  static Result<void> check(const std::string& resolver);
  ResolverDns(BlockingPool& pool, std::string resolver)
      : pool_(pool), resolver_(std::move(resolver)) {}
  Async<Result<std::optional<std::string>>> alias_of(std::string name) override;
  Async<Result<bool>> has_address(std::string name) override;

 private:
  BlockingPool& pool_;
  std::string resolver_;
};

}  // namespace hob::certify
