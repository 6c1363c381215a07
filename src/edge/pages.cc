#include "edge/pages.h"

#include <fmt/core.h>

#include "base/http.h"
#include "base/ids.h"
#include "edge/worker.h"

namespace hob::edge {
namespace {

struct Words {
  std::string title{};
  std::string text{};
  std::string_view side{};  // who failed: "client", "service", "hob"
};

Words words(const Page& page) {
  const std::string service =
      page.service.empty() ? "The service" : fmt::format("The service {}", page.service);
  switch (page.why) {
    case Refusal::kUnknownHost:
      return {"No service here",
              fmt::format("No service has the address {}. Check the spelling, or list the services "
                          "with: hob ps",
                          page.host.empty() ? "that was asked for" : page.host),
              "client"};
    case Refusal::kPaused:
      return {"The service is paused",
              fmt::format("{} is paused. Resume it with: hob resume {}", service,
                          page.service.empty() ? "NAME" : page.service),
              "service"};
    case Refusal::kNoTarget:
      return {
          "The service is not ready",
          fmt::format(
              "{} has no running instance that could take this request in time. Try again soon; "
              "hob ps shows its state, hob logs why.",
              service),
          "service"};
    case Refusal::kQueueFull:
      return {
          "The service is busy",
          fmt::format("{} has more requests waiting than it may hold. Try again soon.", service),
          "service"};
    case Refusal::kStopped:
      return {"The service is gone", fmt::format("{} was deleted.", service), "service"};
    case Refusal::kConnectFailed:
      return {
          "The service cannot be reached",
          fmt::format(
              "No instance of {} accepted a connection. Does it listen on the port it was given?",
              page.service.empty() ? "the service" : page.service),
          "service"};
    case Refusal::kConnectTimeout:
      return {"The service cannot be reached",
              fmt::format("{} did not accept a connection in time.", service), "service"};
    case Refusal::kTargetClosed:
      return {"The service broke off",
              fmt::format("{} closed the connection before it answered. hob logs may say why.",
                          service),
              "service"};
    case Refusal::kNotSwitched:
      return {
          "No WebSocket here",
          fmt::format("{} answered a WebSocket's request as any other, and did not switch to it.",
                      service),
          "service"};
    case Refusal::kNoWebSockets:
      return {"No WebSockets here",
              fmt::format("{} speaks HTTP/2 and does not offer WebSockets over it (RFC 8441: "
                          "SETTINGS_ENABLE_CONNECT_PROTOCOL).",
                          service),
              "service"};
    case Refusal::kBadResponse:
      return {"The service answered nonsense",
              fmt::format("{} sent something that is not valid HTTP.", service), "service"};
    case Refusal::kMisdirected:
      return {"Asked on another name's connection",
              "This connection was made for another host name, whose certificate does not have "
              "this one. A new connection will do.",
              "client"};
    case Refusal::kTimeout:
      return {"The service took too long",
              fmt::format("{} did not answer in the time it may take.", service), "service"};
    case Refusal::kClientTooSlow:
      return {"The request took too long", "The request did not arrive in the time it may take.",
              "client"};
    case Refusal::kBadRequest:
    case Refusal::kAcmeAnswer:
    case Refusal::kNone:
      break;
  }
  switch (page.status) {
    case 405:
      return {"Method not allowed", "CONNECT is not offered here.", "client"};
    case 414:
      return {"The address is too long", "The request line may have 16 KiB.", "client"};
    case 431:
      return {"The header is too large", "A request may have 128 header fields and 64 KiB of them.",
              "client"};
    case 501:
      return {"Not implemented",
              "The only transfer coding understood is chunked; the only protocol to connect to, "
              "websocket.",
              "client"};
    case 505:
      return {"HTTP version not supported", "HTTP/1.0 and HTTP/1.1 are spoken here.", "client"};
    default:
      return {"Bad request", "The request is not valid HTTP.", "client"};
  }
}

// gRPC's own table from statuses of HTTP (its doc/http-grpc-status-mapping.md), but for time-outs,
// which it has a status for.
int grpc_status(const Page& page) {
  if (page.why == Refusal::kTimeout || page.why == Refusal::kClientTooSlow)
    return 4;                                                 // DEADLINE_EXCEEDED
  if (page.status == 404) return 12;                          // UNIMPLEMENTED
  return page.status >= 500 && page.status != 501 ? 14 : 13;  // UNAVAILABLE, INTERNAL
}

// Percent-encoded where it is not printable ASCII.
std::string grpc_message(const Words& said) {
  std::string out;
  for (const char c : fmt::format("{}: {}", said.title, said.text)) {
    if (c >= ' ' && c <= '~' && c != '%') {
      out += c;
    } else {
      out += fmt::format("%{:02X}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    }
  }
  return out;
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string escape_json(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
    } else {
      out += c;
    }
  }
  return out;
}

}  // namespace

Asker asker_of(const http::RequestHead& head) {
  Asker asker{.head_method = head.method == "HEAD"};
  const http::Field* type = head.find("content-type");
  asker.grpc = type != nullptr && type->value.starts_with("application/grpc");
  if (const http::Field* accept = head.find("accept"); accept != nullptr) {
    const size_t json = accept->value.find("json");
    asker.json = json != std::string_view::npos && json < accept->value.find("text/html");
  }
  return asker;
}

std::string refusal_page(Worker& worker, const Exchange* exchange, Refusal why, int status,
                         Asker asker, Persistence persistence) {
  SystemRandom random;
  const std::string request_id = random_uuid(random);
  Page page{.status = status,
            .why = why,
            .request_id = request_id,
            .asker = asker,
            .persistence = persistence};
  if (exchange != nullptr && exchange->service() != nullptr)
    page.service = exchange->service()->route.name;
  if (why == Refusal::kUnknownHost) page.host = worker.request_head().host;
  if (why == Refusal::kAcmeAnswer) page.text = worker.acme_answer();
  return write_page(page);
}

std::string grpc_trailers(Refusal why) {
  const Page page{.why = why};
  return fmt::format("grpc-status: {}\r\ngrpc-message: {}\r\n", grpc_status(page),
                     grpc_message(words(page)));
}

std::string write_page(const Page& page) {
  const Words said = words(page);
  if (page.asker.grpc) {
    return fmt::format(
        "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n"
        "grpc-status: {}\r\ngrpc-message: {}\r\nx-amzn-requestid: {}\r\n{}\r\n",
        grpc_status(page), grpc_message(said), page.request_id,
        page.persistence == Persistence::kClose ? "Connection: close\r\n" : "");
  }
  std::string body;
  const char* type = page.asker.json ? "application/json" : "text/html; charset=utf-8";
  if (page.why == Refusal::kAcmeAnswer) {
    body = page.text;
    type = "application/octet-stream";  // RFC 8555 section 8.3
  } else if (page.asker.json) {
    body = fmt::format(
        "{{\"status\":{},\"error\":\"{}\",\"message\":\"{}\",\"side\":\"{}\",\"requestId\":\"{}\"}}"
        "\n",
        page.status, escape_json(said.title), escape_json(said.text), said.side, page.request_id);
  } else {
    body = fmt::format(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0} {1}</title>\n"
        "<style>body{{font:16px/1.5 sans-serif;max-width:38em;margin:15vh auto;padding:0 1em}}"
        "small{{color:#777}}</style></head>\n"
        "<body><h1>{1}</h1><p>{2}</p><p><small>{0} · {3} · request {4}</small></p></body></html>\n",
        page.status, escape_html(said.title), escape_html(said.text), said.side, page.request_id);
  }
  std::string out = fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n"
      "x-amzn-requestid: {}\r\n",
      page.status, http::reason_phrase(page.status), type, body.size(), page.request_id);
  if (page.status == 503) out += "Retry-After: 1\r\n";
  if (page.persistence == Persistence::kClose) {
    out += "Connection: close\r\n";
  } else if (page.persistence == Persistence::kKeepAlive) {
    out += "Connection: keep-alive\r\n";
  }
  out += "\r\n";
  if (!page.asker.head_method) out += body;
  return out;
}

}  // namespace hob::edge
