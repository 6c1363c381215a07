// HTTP as Firecracker's API socket speaks it: a subset of 1.1 with its own bounds and wording.
// Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace hob::microvm {

inline constexpr size_t kHttpLineBytesMax =
    1024;  // request line, and each header, without their ends
inline constexpr size_t kHttpHeadersMax = 128;
inline constexpr size_t kHttpBodyBytesDefault = 51200;

struct HttpRequest {
  std::string method{};               // GET, PUT, PATCH, DELETE
  std::string path{};                 // begins with one slash, ends without; "/" alone is the root
  std::optional<std::string> body{};  // none without a Content-Length, or with 0
};

struct HttpResponse {
  int status = 204;
  std::string body{};  // JSON; none with 204
  bool deprecated = false;
};

// Without regard to the case of ASCII's letters, as names of headers are compared.
bool same_word(std::string_view a, std::string_view b);
// Without blanks and tabs at either end.
std::string_view trimmed(std::string_view text);

std::string encode(const HttpResponse& response);
// `{"fault_message":"…"}`
HttpResponse fault(int status, std::string_view message);
// For what is below JSON: the connection goes on with the next request, if it can.
std::string encode_refusal(std::string_view reason);
// To one connection too many, which is then closed.
std::string encode_too_many_connections();

// Takes a connection's bytes as they come.
class HttpParser {
 public:
  explicit HttpParser(size_t body_bytes_max) : body_bytes_max_(body_bytes_max) {}

  void feed(std::string_view bytes) { buffer_ += bytes; }
  enum class Step {
    kMore,      // nothing whole yet
    kRequest,   // take `request`
    kContinue,  // the client waits for "100 Continue"; more is to come
    kRefused,   // `reason` tells why; everything received so far is forgotten
  };
  Step next();
  HttpRequest request{};
  std::string reason{};
  // What waits for its end; the caller bounds its reading by it.
  size_t buffered() const { return buffer_.size(); }

 private:
  enum class State { kRequestLine, kHeaders, kBody };
  Step refuse(std::string why);
  bool take_line(std::string& line, bool& too_long);
  bool parse_request_line(std::string_view line, std::string& why);
  bool parse_header(std::string_view line, std::string& why);

  const size_t body_bytes_max_;
  std::string buffer_;
  State state_ = State::kRequestLine;
  size_t headers_ = 0;
  uint64_t content_length_ = 0;
  bool expects_continue_ = false;
};

}  // namespace hob::microvm
