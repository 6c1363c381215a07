// One HTTP request to somebody outside, whole and bounded: a port, and libcurl behind it.
//
// No redirect is followed and no cookie kept. HTTPS peers are verified.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/async.h"
#include "base/result.h"
#include "base/time.h"

namespace hob::certify {

inline constexpr size_t kAnswerBytesMax = 256 * 1024;       // a body; beyond: kLimit
inline constexpr size_t kAnswerHeaderBytesMax = 64 * 1024;  // likewise
inline constexpr size_t kUrlBytesMax = 2'048;
inline constexpr Duration kConnectWithin{10'000};
inline constexpr Duration kFetchWithin{30'000};

struct FetchRequest {
  std::string url{};
  bool https_only = true;
  bool public_only = false;  // kUnavailable where its host has no address that everybody reaches
  std::string method = "GET";  // GET, HEAD, POST
  std::string content_type{};
  std::string body{};
  std::string ca_file{};  // PEM; empty: the system's authorities
};

struct FetchAnswer {
  int status = 0;
  std::map<std::string, std::string, std::less<>> headers{};  // names in lower case; the last wins
  std::string body{};
  std::string_view header(std::string_view lower_case_name) const;
};

class Fetcher {
 public:
  virtual ~Fetcher() = default;
  // kUnavailable: no connection, or broken off. kTimeout: not done within kFetchWithin. kLimit: too
  // much. kInvalid: that is no such URL.
  virtual Async<Result<FetchAnswer>> fetch(FetchRequest request) = 0;
};

// By libcurl, on threads of `pool`, which must outlive it.
class CurlFetcher final : public Fetcher {
 public:
  explicit CurlFetcher(BlockingPool& pool) : pool_(pool) {}
  Async<Result<FetchAnswer>> fetch(FetchRequest request) override;

 private:
  BlockingPool& pool_;
};

}  // namespace hob::certify
