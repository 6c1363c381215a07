#include "image/transfer.h"

#include <curl/curl.h>
#include <netdb.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <mutex>

#include "base/assert.h"

namespace hob::image {

namespace {

using Steady = std::chrono::steady_clock;

constexpr int kAbortPollMs = 100;

void init_curl() {
  static std::once_flag once;
  std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

std::string_view trim(std::string_view text) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

Code code_of(CURLcode error) {
  switch (error) {
    case CURLE_OPERATION_TIMEDOUT:
      return Code::kTimeout;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
      return Code::kInvalid;
    default:
      return Code::kUnavailable;  // of some hundred kinds, all of them the network's or the peer's
  }
}

// The host that the transfer came to last, redirects included.
std::string host_of(CURL* easy) {
  char* url = nullptr;
  curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &url);
  CURLU* const parts = curl_url();
  char* host = nullptr;
  std::string found;
  if (url != nullptr && curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
      curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
    found = host;
    curl_free(host);
  }
  curl_url_cleanup(parts);
  return found;
}

// DNS answered, and knows no such name; curl does not tell that from a DNS that is not there.
bool is_unknown(const std::string& host) {
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, nullptr, &found);
  if (error == 0) freeaddrinfo(found);
  return error == EAI_NONAME;
}

}  // namespace

struct Session::State {
  const std::atomic<bool>& abort;
  CURLM* multi = nullptr;
};

Session::Session(const std::atomic<bool>& abort)
    : state_(std::make_unique<State>(State{.abort = abort})) {
  init_curl();
  state_->multi = curl_multi_init();
  HOB_ASSERT(state_->multi != nullptr);
}

Session::~Session() { curl_multi_cleanup(state_->multi); }

struct Transfer::State {
  Session::State& session;
  TransferRequest request;
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  char error_text[CURL_ERROR_SIZE] = {};
  std::map<std::string, std::string, std::less<>> answer_headers{};
  std::vector<std::string> challenges{};
  size_t header_bytes = 0;
  std::string
      arriving{};  // what came and was not read; curl hands over some MiB at most between two waits
  std::string reading{};  // what read() gave
  bool done = false;
  Result<void> outcome{};  // once done
  // A window of waiting, to find transfers that stall or drip.
  Duration waited{0};
  uint64_t arrived_in_window = 0;

  static size_t on_body(char* data, size_t size, size_t count, void* self) {
    auto& state = *static_cast<State*>(self);
    state.arriving.append(data, size * count);
    state.arrived_in_window += size * count;
    return size * count;
  }

  static size_t on_header(char* data, size_t size, size_t count, void* self) {
    auto& state = *static_cast<State*>(self);
    const std::string_view line = trim(std::string_view(data, size * count));
    state.header_bytes += size * count;
    state.arrived_in_window += size * count;
    if (state.header_bytes > kAnswerHeaderBytesMax) return 0;  // ends the transfer
    if (line.starts_with(
            "HTTP/")) {  // an answer begins: what a redirect said before does not count
      state.answer_headers.clear();
      state.challenges.clear();
      return size * count;
    }
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return size * count;
    std::string name(line.substr(0, colon));
    std::ranges::transform(name, name.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    std::string value(trim(line.substr(colon + 1)));
    if (name == "www-authenticate") state.challenges.push_back(value);
    state.answer_headers[std::move(name)] = std::move(value);
    return size * count;
  }

  // Moves the transfer on and waits for more, a little at most.
  Result<void> step() {
    if (session.abort.load(std::memory_order_relaxed)) return fail(Code::kCancelled, "given up");
    int running = 0;
    CURLMcode code = curl_multi_perform(session.multi, &running);
    if (code != CURLM_OK) return fail(Code::kUnavailable, "{}", curl_multi_strerror(code));
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(session.multi, &left)) {
      if (message->msg != CURLMSG_DONE || message->easy_handle != easy) continue;
      done = true;
      if (message->data.result == CURLE_OK) continue;
      const char* text =
          error_text[0] != '\0' ? error_text : curl_easy_strerror(message->data.result);
      outcome = fail(code_of(message->data.result), "{}", text);
      if (message->data.result != CURLE_COULDNT_RESOLVE_HOST) continue;
      if (const std::string host = host_of(easy); is_unknown(host))
        outcome = fail(Code::kNotFound, "DNS knows no host {}; is it spelt right?", host);
    }
    if (done || !arriving.empty()) return {};
    const auto before = Steady::now();
    code = curl_multi_poll(session.multi, nullptr, 0, kAbortPollMs, nullptr);
    if (code != CURLM_OK) return fail(Code::kUnavailable, "{}", curl_multi_strerror(code));
    waited += std::chrono::duration_cast<Duration>(Steady::now() - before);
    return check_speed();
  }

  Result<void> check_speed() {
    const Duration stall = request.timeouts.stall;
    if (waited < stall) return {};
    const auto seconds = static_cast<uint64_t>(std::max<Duration::rep>(1, stall.count() / 1000));
    const bool stalled = arrived_in_window < kBytesPerSecondMin * seconds;
    waited = Duration(0);
    arrived_in_window = 0;
    if (stalled)
      return fail(Code::kTimeout, "the registry sent nothing, or next to nothing, for {} ms",
                  stall.count());
    return {};
  }
};

Transfer::Transfer(Session& session, TransferRequest request)
    : state_(new State{.session = *session.state_, .request = std::move(request)}) {
  State& state = *state_;
  state.easy = curl_easy_init();
  HOB_ASSERT(state.easy != nullptr);
  CURL* easy = state.easy;
  for (const std::string& header : state.request.headers) {
    state.headers = curl_slist_append(state.headers, header.c_str());
  }
  const char* protocols = state.request.https_only ? "https" : "http,https";
  curl_easy_setopt(easy, CURLOPT_URL, state.request.url.c_str());
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, state.headers);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, protocols);
  curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, protocols);
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(easy, CURLOPT_MAXREDIRS, kRedirectsMax);
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "hob");
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(state.request.timeouts.connect.count()));
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, state.error_text);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &State::on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &state);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &State::on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &state);
  HOB_ASSERT(curl_multi_add_handle(session.state_->multi, easy) == CURLM_OK);
}

Transfer::~Transfer() {
  curl_multi_remove_handle(state_->session.multi, state_->easy);
  curl_easy_cleanup(state_->easy);
  curl_slist_free_all(state_->headers);
}

Result<void> Transfer::start() {
  while (!state_->done && state_->arriving.empty()) HOB_CHECK(state_->step());
  if (state_->done && state_->arriving.empty()) return state_->outcome;
  return {};
}

int Transfer::status() const {
  long status = 0;
  curl_easy_getinfo(state_->easy, CURLINFO_RESPONSE_CODE, &status);
  return static_cast<int>(status);
}

std::string Transfer::header(std::string_view lower_case_name) const {
  const auto found = state_->answer_headers.find(lower_case_name);
  return found == state_->answer_headers.end() ? std::string() : found->second;
}

const std::vector<std::string>& Transfer::challenges() const { return state_->challenges; }

Result<std::string_view> Transfer::read() {
  while (state_->arriving.empty()) {
    if (state_->done) {
      if (!state_->outcome) return fail(state_->outcome.error());
      return std::string_view();
    }
    HOB_CHECK(state_->step());
  }
  state_->reading.clear();
  std::swap(state_->reading, state_->arriving);
  return std::string_view(state_->reading);
}

Result<std::string> Transfer::read_all(size_t bytes_max) {
  std::string all;
  for (;;) {
    HOB_TRY(const std::string_view piece, read());
    if (piece.empty()) return all;
    if (piece.size() > bytes_max - all.size())
      return fail(Code::kLimit, "the answer is over {} bytes", bytes_max);
    all.append(piece);
  }
}

}  // namespace hob::image
