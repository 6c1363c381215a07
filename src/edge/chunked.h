// Takes a chunked body (RFC 9112 §7.1) apart, trailers too. Strict: exactly CRLF, bounded sizes and
// extensions.
//
// Unlike base/http_parser.h's, it keeps the trailers, since a proxy passes them on. The answer does
// not depend on how the input was cut into reads.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace hob::edge {

class ChunkedBody {
 public:
  enum class Outcome { kMore, kData, kEnd, kBad };
  struct Step {
    Outcome outcome = Outcome::kMore;  // kMore: all of the input was used
    size_t skip = 0;                   // of the input, before the data
    size_t data = 0;                   // bytes of the body that follow
  };
  // Call again with what follows skip + data, while it answers kData.
  Step next(std::string_view input);
  // Once it has ended: the trailer fields that may be passed on, as lines, without the last empty
  // one.
  const std::string& trailers() const { return trailers_; }
  void reset() { *this = ChunkedBody(); }

 private:
  enum class State : uint8_t {
    kSize,
    kExtension,
    kSizeLf,
    kData,
    kDataCr,
    kDataLf,
    kTrailer,
    kEnd,
    kBad
  };
  bool control(char c);
  bool finish_trailer();

  State state_ = State::kSize;
  uint8_t digits_ = 0;
  uint64_t left_ = 0;  // of this chunk
  uint32_t extension_ = 0;
  uint32_t extensions_ = 0;
  uint32_t trailer_count_ = 0;
  std::string line_;  // of the trailers, being read
  std::string trailers_;
  uint32_t trailer_bytes_ = 0;
};

// Whether a trailer field of this name may be passed on: none that frames, routes, authenticates or
// controls (RFC 9110 §6.5.1).
bool trailer_allowed(std::string_view name);

}  // namespace hob::edge
