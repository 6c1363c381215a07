// How a request gets its exchange once its head has been read, whatever version of HTTP it came by:
// host, connection's name, service, trace, canonical form, access log.
#pragma once

#include <memory>
#include <string_view>

#include "base/http_parser.h"
#include "edge/exchange.h"
#include "edge/worker.h"

namespace hob::edge {

class TlsFilter;

// Where a request comes from.
struct Origin {
  std::string_view forwarded{};    // X-Forwarded-* lines, X-Forwarded-For first
  std::string_view version{};      // for the log: "HTTP/1.1"
  const TlsFilter* tls = nullptr;  // nullptr: none
  bool connect = false;            // its upgrade was asked for by extended CONNECT
};

struct Admission {
  std::unique_ptr<Exchange> exchange{};  // not started; nullptr: refused
  std::shared_ptr<Service> service{};
  RequestFacts facts{};
  Refusal why = Refusal::kNone;
  int status = 0;
};

// The head in the worker's scratch, whose bytes are `raw`.
Admission admit(Worker& worker, std::string_view raw, const Origin& origin);

}  // namespace hob::edge
