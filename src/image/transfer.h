// One HTTP GET from a registry, read piece by piece, on a thread that may block.
//
// A Session keeps connections between Transfers; both belong to one thread. Redirects are followed
// (a registry sends blobs from elsewhere), credentials go to the first host only. HTTPS peers are
// verified by the system's certificates.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace hob::image {

inline constexpr long kRedirectsMax = 5;
inline constexpr size_t kAnswerHeaderBytesMax = 64 * 1024;
inline constexpr uint64_t kBytesPerSecondMin =
    512;  // slower than this over a whole stall time-out is a stall

struct TransferTimeouts {
  Duration connect{10'000};
  Duration stall{20'000};  // without a byte, or below kBytesPerSecondMin
};

class Session {
 public:
  // `abort`, once true, ends every transfer soon with kCancelled. It must outlive the session.
  explicit Session(const std::atomic<bool>& abort);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  friend class Transfer;
  struct State;
  std::unique_ptr<State> state_;
};

struct TransferRequest {
  std::string url{};
  std::vector<std::string> headers{};  // "Name: value"
  bool https_only = true;              // redirects included
  TransferTimeouts timeouts{};
};

class Transfer {
 public:
  // At most one at a time for a session, which must outlive it.
  Transfer(Session& session, TransferRequest request);
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // Until the status and headers are here. kUnavailable: no connection, or broken off. kTimeout:
  // stalled.
  Result<void> start();
  int status() const;
  // Of the last answer; names in lower case, the last of a name wins. Empty: none.
  std::string header(std::string_view lower_case_name) const;
  // Of all `www-authenticate` fields.
  const std::vector<std::string>& challenges() const;
  // The next piece, valid until the next call; empty at the end. kUnavailable: broken off before
  // the end.
  Result<std::string_view> read();
  // All of it; kLimit: over `bytes_max`.
  Result<std::string> read_all(size_t bytes_max);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace hob::image
