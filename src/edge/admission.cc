#include "edge/admission.h"

#include <array>
#include <string>
#include <utility>

#include "base/time.h"
#include "edge/acme_answers.h"
#include "edge/rewrite.h"
#include "edge/tls.h"
#include "edge/websocket.h"

namespace hob::edge {
namespace {

bool idempotent(std::string_view method) {
  return method == "GET" || method == "HEAD" || method == "PUT" || method == "DELETE" ||
         method == "OPTIONS" || method == "TRACE";
}

// "1-5f84c7a5-0123456789abcdef01234567": by hand, as snprintf showed in the profile.
std::array<char, 35> new_trace(uint32_t seconds, uint64_t a, uint64_t b) {
  std::array<char, 35> out;
  out[0] = '1';
  out[1] = out[10] = '-';
  const auto hex = [&](size_t at, uint64_t value, size_t digits) {
    for (size_t i = digits; i-- > 0; value >>= 4) out[at + i] = "0123456789abcdef"[value & 15];
  };
  hex(2, seconds, 8);
  hex(11, a, 16);
  hex(27, b, 8);
  return out;
}

// A target that switched to it would leave the client a tunnel past every rule of heads.
bool asks_for_h2c(const http::RequestHead& head) {
  for (size_t i = 0; i < head.field_count; ++i) {
    const http::Field& field = head.fields[i];
    if (http::equal_without_case(field.name, "upgrade") && http::list_has(field.value, "h2c"))
      return true;
  }
  return false;
}

// Whether a request's upgrade is passed on, and what is to be known of it.
struct Switch {
  bool asked = false;
  std::string key{};  // ours; empty: none is needed
  // The one that opens it, if it is a WebSocket: ours to check where the client does not, and to
  // tell where the target does not. What the target speaks is not known yet.
  std::string accept{};
};

Switch switch_of(Worker& worker, const http::RequestHead& head, const Origin& origin) {
  Switch result;
  if (!head.upgrade || head.minor != 1 || asks_for_h2c(head)) return result;
  if (origin.connect) {
    result.key = websocket_key(worker.random(), worker.random());
    result.accept = websocket_accept(result.key);
  } else if (const std::string_view key = websocket_key_of(head); !key.empty()) {
    result.accept = websocket_accept(key);
  }
  result.asked = true;
  return result;
}

void write_log_prefix(const http::RequestHead& head, const Origin& origin, std::string_view trace,
                      std::string& line) {
  const size_t line_end = origin.forwarded.find('\r');
  const http::Field* agent = head.find("user-agent");
  line = iso8601(SystemClock().now());
  line += ' ';
  line += origin.forwarded.substr(17, line_end - 17);
  line += " \"";
  line += head.method;
  line += ' ';
  line += head.host;
  line += ' ';
  line += head.target;
  line += ' ';
  line += origin.version;
  line += "\" \"";
  for (const char c : agent != nullptr ? agent->value.substr(0, 256) : std::string_view("-")) {
    line += c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20 ? '_' : c;
  }
  line += "\" Root=";
  line += trace;
}

}  // namespace

Admission admit(Worker& worker, std::string_view raw, const Origin& origin) {
  const http::RequestHead& head = worker.request_head();
  Admission admission;
  const auto refuse = [&](Refusal why, int status) {
    worker.mutable_counts().refused.add();
    admission.exchange.reset();
    admission.why = why;
    admission.status = status;
  };
  if (head.host.empty() || !connection_is_valid(head)) {
    refuse(Refusal::kBadRequest, 400);
    return admission;
  }
  std::array<char, 256> host_room;
  const std::string_view host = normal_host(head.host, host_room);
  if (origin.tls != nullptr && !origin.tls->covers(host)) {
    refuse(Refusal::kMisdirected, 421);
    return admission;
  }
  // By plain HTTP alone, as RFC 8555 has it; what is not asked by an authority is the service's.
  if (origin.tls == nullptr && head.path.starts_with(kAcmePath) &&
      worker.find_acme_answer(host, head.path)) {
    admission.why = Refusal::kAcmeAnswer;
    admission.status = 200;
    return admission;
  }
  const Destination* destination = worker.find(host);
  if (destination == nullptr) {
    refuse(Refusal::kUnknownHost, 404);
    return admission;
  }
  admission.service = destination->service;
  admission.exchange = worker.take_exchange();
  Exchange& exchange = *admission.exchange;
  if (destination->pool != nullptr) exchange.pin(destination->pool);
  if (admission.service->sticky) worker.recall(exchange, *destination);
  const std::array<char, 35> trace =
      new_trace(worker.unix_seconds(), worker.random(), worker.random());
  Switch to = switch_of(worker, head, origin);
  const RequestRewrite how{.forwarded = origin.forwarded,
                           .new_trace = {trace.data(), trace.size()},
                           .upgrade = to.asked,
                           .websocket_key = to.key};
  if (!rewrite_request(head, raw, how, worker.buffers(), exchange.head())) {
    worker.give_back(std::move(admission.exchange));
    refuse(Refusal::kQueueFull, 503);
    return admission;
  }
  if (worker.context().access_log != nullptr)
    write_log_prefix(head, origin, how.new_trace, exchange.log_prefix());
  exchange.expect_websocket(std::move(to.accept));
  admission.facts = {.framing = head.framing,
                     .head_method = head.method == "HEAD",
                     .idempotent = idempotent(head.method),
                     .upgrade = to.asked,
                     .connect = origin.connect,
                     .expect_continue = head.expect_continue,
                     .secure = origin.tls != nullptr};
  return admission;
}

}  // namespace hob::edge
