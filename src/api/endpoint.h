// The endpoint: every request of people's clients to control, on one address.
//
//   /v2 and below      the registry's handler       /metrics…   whatever was mounted there
//   GET / (no Action)  a line of text for people    all else    AWS's APIs
//
// For AWS: body (bounded) → which service → who signed → may they → the service → encode. Belongs
// to control's loop.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "api/routing.h"
#include "aws/service.h"
#include "base/http.h"
#include "base/ids.h"
#include "base/metrics.h"
#include "base/time.h"
#include "identity/directory.h"

namespace hob::api {

inline constexpr size_t kBodyBytesMax =
    6 * 1024 * 1024;  // of an API call; AWS's JSON services stop there, too
inline constexpr size_t kBodiesBytesMax =
    64 * 1024 * 1024;  // of all calls being read or answered; beyond: 503
inline constexpr size_t kUnsignedBodyBytesMax = 64 * 1024;  // of a request without any signature

class Endpoint {
 public:
  // All of these must outlive the endpoint and every request it was given.
  Endpoint(const identity::Directory& directory, const Clock& clock, Random& random,
           Metrics& metrics, std::string region);

  void add(std::unique_ptr<aws::Service> service);
  // Requests whose path is `prefix` or below it go to `handler` as they are, unauthenticated.
  // "/v2", "/metrics".
  void mount(std::string prefix, http::Handler handler);
  // For http::Server; this must outlive it.
  http::Handler handler();

 private:
  class BodyShare;
  struct Answer;
  Async<> answer(const http::Request& request, http::BodyReader& body, http::Responder& responder);
  Async<Answer> answer_aws(const http::Request& request, http::BodyReader& body,
                           std::string request_id);
  Answer encode_failure(const aws::ServiceModel* model, aws::Protocol protocol, const Error& error,
                        std::string_view operation, const std::string& request_id);
  const http::Handler* mounted(std::string_view path) const;

  const identity::Directory& directory_;
  const Clock& clock_;
  Random& random_;
  Metrics& metrics_;
  std::string region_;
  Services services_;
  std::vector<std::pair<std::string, http::Handler>> mounts_;
  size_t body_bytes_ = 0;
};

}  // namespace hob::api
