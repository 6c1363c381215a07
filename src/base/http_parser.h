// A strict HTTP/1 parser without I/O: heads of requests and responses, and chunked bodies.
//
// RFC 9110 and 9112, and stricter wherever two readers could disagree about where a message ends:
// there is no lenient mode. It allocates nothing: every view points into the caller's buffer. The
// answer does not depend on how the input was cut into reads. Used by our server and client
// (http.h); free for any other reader of HTTP/1.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace hob::http {

inline constexpr size_t kStartLineBytesMax = 16 * 1024;  // with its CRLF; beyond: 414
inline constexpr size_t kHeadBytesMax = 64 * 1024;       // start line and fields; beyond: 431
inline constexpr size_t kFieldsMax = 128;                // beyond: 431
inline constexpr int kEmptyLinesMax = 2;                 // before a start line; skipped
inline constexpr int kChunkSizeDigitsMax = 16;
inline constexpr size_t kChunkExtensionBytesMax = 256;        // of one chunk
inline constexpr size_t kChunkExtensionsBytesMax = 4 * 1024;  // of a whole body
inline constexpr size_t kTrailerBytesMax = 8 * 1024;  // of a whole body; checked, then dropped
static_assert(kStartLineBytesMax < kHeadBytesMax);
static_assert(kHeadBytesMax >= kFieldsMax * 64);

struct Field {
  std::string_view name{};
  std::string_view value{};  // without the blanks around it
};

// How the end of a body is found.
enum class Framing {
  kNone,    // there is none
  kLength,  // content_length bytes
  kChunked,
  kUntilClose,  // responses only
};

enum class Parsed { kDone, kMore, kBad };

// What both kinds of head have. Filled by parse(); the views are good for as long as the buffer
// given to the call that answered kDone stays as it is.
struct Head {
  int minor = 1;  // HTTP/1.<minor>: 0 or 1
  std::array<Field, kFieldsMax> fields{};
  size_t field_count = 0;
  size_t bytes = 0;  // of the buffer that the head takes; the body, if any, begins there
  Framing framing = Framing::kNone;
  uint64_t content_length = 0;  // for kLength
  bool keep_alive = true;       // what version and Connection say together
  bool upgrade = false;         // Connection names "upgrade" and there is an Upgrade field

  // For kBad. `status`: the answer to give (a response that is bad: 502). `error`: what is wrong,
  // for a log.
  int status = 0;
  const char* error = "";

  // The first of that name, compared without case; nullptr: none.
  const Field* find(std::string_view name) const;

  // Where parse() goes on when more bytes have come.
  size_t scanned = 0;  // no line ends between line_start and here
  size_t line_start = 0;
  size_t head_start = 0;  // after the empty lines
  int lines = 0;
  int empty_lines = 0;
};

struct RequestHead : Head {
  std::string_view method{};
  std::string_view target{};  // as sent
  std::string_view path{};    // before '?'; of the absolute form too, "/" if that has none; "*"
  std::string_view query{};   // after '?'
  std::string_view
      host{};  // name and port; the absolute form's, else Host's; empty only in HTTP/1.0
  bool expect_continue = false;
};

struct ResponseHead : Head {
  int code = 0;
  std::string_view reason{};
  bool ignore_content_length = false;  // it came with Transfer-Encoding, which overrides it
};

// Reads a head from the start of `buffer`, which grows from call to call; call with the same `head`
// until it is not kMore, and give a fresh one for the next message.
Parsed parse(std::string_view buffer, RequestHead& head);
// `request_method`: what was asked ("HEAD" has no body).
Parsed parse(std::string_view buffer, ResponseHead& head, std::string_view request_method);

// Takes a chunked body apart.
class ChunkedDecoder {
 public:
  struct Step {
    Parsed parsed =
        Parsed::kMore;    // kMore: feed what follows `consumed`; kDone: the body has ended; kBad
    size_t consumed = 0;  // bytes of the input that were used
    std::string_view data{};  // of the body, into the input; may be empty
  };
  // Call again with the input after `consumed` while that is not empty.
  Step decode(std::string_view input);
  const char* error() const { return error_; }

 private:
  enum class State {
    kSize,
    kExtension,
    kSizeLf,
    kData,
    kDataCr,
    kDataLf,
    kTrailerStart,
    kTrailerLine,
    kTrailerLf,
    kEndLf,
    kDone,
    kBad
  };
  Parsed bad(const char* why);
  Parsed step(char c);

  State state_ = State::kSize;
  uint64_t left_ = 0;  // of this chunk
  int digits_ = 0;
  size_t extension_bytes_ = 0;
  size_t extensions_bytes_ = 0;
  size_t trailer_bytes_ = 0;
  bool trailer_colon_ = false;
  const char* error_ = "";
};

bool is_token(std::string_view text);
bool equal_without_case(std::string_view a, std::string_view b);
// Digits only, at most 2^63 - 1; nullopt: anything else.
std::optional<uint64_t> parse_content_length(std::string_view text);
// True if the comma-separated list `value` has `token` (without case).
bool list_has(std::string_view value, std::string_view token);

}  // namespace hob::http
