// What the operations of the API have in common: how they answer, refuse and word it.
#pragma once

#include <fmt/core.h>

#include <chrono>
#include <string_view>

#include "base/result.h"
#include "microvm/api/http.h"
#include "microvm/api/json.h"

namespace hob::microvm {

inline HttpResponse done() { return {}; }
inline HttpResponse shown(const Json& json) { return {.status = 200, .body = json.text()}; }

// Names the part whose error it is, as Firecracker prefixes it.
template <class T>
Result<T> prefixed(Result<T> result, std::string_view prefix) {
  if (!result) result.error().message = fmt::format("{}: {}", prefix, result.error().message);
  return result;
}

// A body that is no such thing: kCorrupt, so that it can be told from one whose values are refused.
template <class T>
Result<T> body_of(Result<T> result) {
  if (!result) result.error().code = Code::kCorrupt;
  return prefixed(std::move(result),
                  "An error occurred when deserializing the json body of a request");
}

// The id of "/drives/ID"; empty for "/drives".
inline std::string_view id_of(std::string_view path) {
  const size_t slash = path.find('/', 1);
  return slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
}

class Stopwatch {
 public:
  std::chrono::microseconds elapsed() const {
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() -
                                                                 begun_);
  }

 private:
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

// Devices are added to a running machine on PCI alone, which there is none of.
inline std::unexpected<Error> no_hot_plug(bool id_in_use) {
  return fail(Code::kInvalid, "{}", id_in_use ? "Device ID in use" : "PCI is not enabled");
}

}  // namespace hob::microvm
