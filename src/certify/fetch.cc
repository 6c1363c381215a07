#include "certify/fetch.h"

#include <curl/curl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <mutex>

#include "base/assert.h"
#include "certify/public_address.h"

namespace hob::certify {
namespace {

struct CurlFree {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

struct Receiving {
  FetchAnswer answer{};
  size_t header_bytes = 0;
  bool over = false;
};

size_t on_body(char* data, size_t size, size_t count, void* self) {
  auto& receiving = *static_cast<Receiving*>(self);
  if (size * count > kAnswerBytesMax - receiving.answer.body.size()) {
    receiving.over = true;
    return 0;
  }
  receiving.answer.body.append(data, size * count);
  return size * count;
}

// As libcurl's own, but to no address of this machine or its networks. After the name was looked up:
// a name may lead anywhere.
curl_socket_t open_public(void*, curlsocktype, curl_sockaddr* address) {
  if (!is_public(address->addr)) return CURL_SOCKET_BAD;
  return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front())))
    text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())))
    text.remove_suffix(1);
  return text;
}

size_t on_header(char* data, size_t size, size_t count, void* self) {
  auto& receiving = *static_cast<Receiving*>(self);
  receiving.header_bytes += size * count;
  if (receiving.header_bytes > kAnswerHeaderBytesMax) {
    receiving.over = true;
    return 0;
  }
  const std::string_view line(data, size * count);
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return size * count;
  std::string name(line.substr(0, colon));
  std::ranges::transform(name, name.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  receiving.answer.headers[std::move(name)] = trim(line.substr(colon + 1));
  return size * count;
}

Result<FetchAnswer> fetch_blocking(const FetchRequest& request) {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
  if (request.url.size() > kUrlBytesMax)
    return fail(Code::kInvalid, "a URL of {} bytes, at most {}", request.url.size(), kUrlBytesMax);
  const std::unique_ptr<CURL, CurlFree> owned(curl_easy_init());
  HOB_ASSERT(owned != nullptr);
  CURL* easy = owned.get();
  Receiving receiving;
  char error_text[CURL_ERROR_SIZE] = {};
  std::unique_ptr<curl_slist, CurlFree> headers;
  if (!request.content_type.empty())
    headers.reset(
        curl_slist_append(nullptr, ("Content-Type: " + request.content_type).c_str()));
  curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, request.https_only ? "https" : "http,https");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  if (request.public_only) curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_public);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "hob");
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(kConnectWithin.count()));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(kFetchWithin.count()));
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, error_text);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &receiving);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &receiving);
  if (headers) curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());
  if (!request.ca_file.empty()) curl_easy_setopt(easy, CURLOPT_CAINFO, request.ca_file.c_str());
  if (request.method == "HEAD") {
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  } else if (request.method == "POST") {
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(request.body.size()));
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.c_str());
  }
  const CURLcode code = curl_easy_perform(easy);
  if (receiving.over) return fail(Code::kLimit, "the answer of {} is too long", request.url);
  if (code != CURLE_OK) {
    const char* text = error_text[0] != '\0' ? error_text : curl_easy_strerror(code);
    Code kind = Code::kUnavailable;
    if (code == CURLE_OPERATION_TIMEDOUT) kind = Code::kTimeout;
    if (code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT) kind = Code::kInvalid;
    return fail(kind, "{}: {}", request.url, text);
  }
  long status = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  receiving.answer.status = static_cast<int>(status);
  return std::move(receiving.answer);
}

}  // namespace

std::string_view FetchAnswer::header(std::string_view lower_case_name) const {
  const auto found = headers.find(lower_case_name);
  return found == headers.end() ? std::string_view() : std::string_view(found->second);
}

Async<Result<FetchAnswer>> CurlFetcher::fetch(FetchRequest request) {
  co_return co_await on_pool(pool_, [request] { return fetch_blocking(request); });
}

}  // namespace hob::certify
