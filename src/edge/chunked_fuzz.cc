// A chunked body: read whole and byte by byte alike; what is passed on as trailers is whole lines.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "edge/chunked.h"

using hob::edge::ChunkedBody;

namespace {

struct Seen {
  std::string data{};
  std::string trailers{};
  int outcome = 0;  // 0: more wanted, 1: ended, 2: bad
  bool operator==(const Seen&) const = default;
};

Seen read(std::string_view input, size_t piece) {
  Seen seen;
  ChunkedBody body;
  while (!input.empty()) {
    std::string_view part = input.substr(0, piece);
    input.remove_prefix(part.size());
    while (!part.empty()) {
      const ChunkedBody::Step step = body.next(part);
      if (step.skip > part.size() || step.data > part.size() - step.skip) std::abort();
      if (step.outcome == ChunkedBody::Outcome::kMore) break;
      if (step.outcome == ChunkedBody::Outcome::kBad) {
        seen.outcome = 2;
        return seen;
      }
      if (step.outcome == ChunkedBody::Outcome::kEnd) {
        seen.outcome = 1;
        seen.trailers = body.trailers();
        return seen;
      }
      seen.data += part.substr(step.skip, step.data);
      part.remove_prefix(step.skip + step.data);
    }
  }
  return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const Seen whole = read(input, size == 0 ? 1 : size);
  if (!(whole == read(input, 1)) || !(whole == read(input, 7))) std::abort();
  if (!whole.trailers.empty() && !whole.trailers.ends_with("\r\n")) std::abort();
  return 0;
}
