// One request to the registry while it is answered, and the distribution specification's error
// answers. Private to registry*.cc.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/http.h"
#include "image/registry.h"
#include "image/registry_request.h"

namespace hob::image {

struct Registry::Route : RegistryPath {};

struct Registry::Exchange {
  const http::Request& request;
  http::BodyReader& body;
  http::Responder& responder;
  RegistryCaller caller{};
  Registry::Route route{};
  std::vector<std::pair<std::string, std::string>> query{};

  bool reads() const { return request.method == "GET" || request.method == "HEAD"; }
  // Empty: not given.
  std::string parameter(std::string_view name) const {
    for (const auto& [key, value] : query) {
      if (key == name) return value;
    }
    return {};
  }
  bool has_parameter(std::string_view name) const {
    for (const auto& [key, value] : query) {
      if (key == name) return true;
    }
    return false;
  }
  Async<Result<void>> answer(int status, http::Headers headers = {}, std::string content = {});
  // An error of the specification: {"errors":[{"code":…,"message":…}]}.
  Async<Result<void>> refuse(int status, std::string_view code, std::string message,
                             http::Headers headers = {});
  // The answer to an Error of this room. An error without a place in the specification is logged
  // and is a 500.
  Async<Result<void>> refuse(Error error);
};

// JSON, made by hand where a library would be dearer: a quoted string.
std::string json_text(std::string_view text);

}  // namespace hob::image
