#include "image/registry_client.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <thread>

#include "base/async.h"
#include "base/digest.h"
#include "base/http.h"
#include "base/ids.h"
#include "image/content_digest.h"
#include "image/limits.h"

namespace hob::image {

namespace {

constexpr size_t kErrorBodyBytesMax = 64 * 1024;
constexpr size_t kTokenBytesMax = 256 * 1024;
constexpr Duration kRetrySlice{50};

bool is_passing(const Error& error) {
  return error.code == Code::kUnavailable || error.code == Code::kTimeout;
}

// The error a registry's refusal is; kUnavailable when asking again may help.
Error refusal(Transfer& answer) {
  const int status = answer.status();
  std::string text = registry_error_text(answer.read_all(kErrorBodyBytesMax).value_or(""));
  std::string message =
      fmt::format("the registry answered {}{}{}", status, text.empty() ? "" : ": ", text);
  if (status == 404) return {.code = Code::kNotFound, .message = std::move(message)};
  if (status == 401 || status == 403) return {.code = Code::kDenied, .message = std::move(message)};
  if (status == 429 || status >= 500)
    return {.code = Code::kUnavailable, .message = std::move(message)};
  return {.code = Code::kInvalid, .message = std::move(message)};
}

}  // namespace

std::string RegistryLogin::authorization() const {
  const std::scoped_lock lock(mutex_);
  return authorization_;
}

void RegistryLogin::set(std::string authorization) {
  const std::scoped_lock lock(mutex_);
  authorization_ = std::move(authorization);
}

Challenge parse_challenge(std::string_view text) {
  Challenge challenge;
  const auto lower = [](std::string_view word) {
    std::string low(word);
    std::ranges::transform(low, low.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return low;
  };
  const size_t space = text.find(' ');
  challenge.scheme = lower(text.substr(0, space));
  if (space == std::string_view::npos) return challenge;
  text.remove_prefix(space);
  while (!text.empty()) {
    const size_t start = text.find_first_not_of(" ,\t");
    if (start == std::string_view::npos) break;
    text.remove_prefix(start);
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) break;
    const std::string name = lower(text.substr(0, equals));
    text.remove_prefix(equals + 1);
    std::string value;
    if (text.starts_with('"')) {
      size_t at = 1;
      for (; at < text.size() && text[at] != '"'; ++at) {
        if (text[at] == '\\' && at + 1 < text.size()) ++at;
        value.push_back(text[at]);
      }
      text.remove_prefix(std::min(at + 1, text.size()));
    } else {
      const size_t end = std::min(text.find(','), text.size());
      value = text.substr(0, end);
      text.remove_prefix(end);
    }
    challenge.parameters.emplace(name, std::move(value));
  }
  return challenge;
}

RegistryClient::RegistryClient(const PullRequest& request, const RegistryTimeouts& timeouts,
                               RegistryLogin& login, const std::atomic<bool>& abort)
    : request_(request), timeouts_(timeouts), login_(login), abort_(abort), session_(abort) {}

Result<void> RegistryClient::wait_to_retry(int attempt) {
  SystemRandom random;
  uint32_t draw = 0;
  random.fill(&draw, sizeof draw);
  Backoff backoff{.min = timeouts_.retry_min, .max = timeouts_.retry_max};
  Duration delay{0};
  for (int i = 0; i < attempt; ++i) delay = backoff.next(static_cast<double>(draw) / 4294967296.0);
  for (; delay > Duration(0); delay -= kRetrySlice) {
    if (abort_.load(std::memory_order_relaxed)) return fail(Code::kCancelled, "given up");
    std::this_thread::sleep_for(std::min(delay, kRetrySlice));
  }
  return {};
}

Result<std::unique_ptr<Transfer>> RegistryClient::open(const std::string& path,
                                                       const std::string& accept, uint64_t from) {
  bool challenged = false;
  for (int attempt = 0;;) {
    TransferRequest get;
    get.url = fmt::format("{}://{}/v2/{}/{}", request_.plain_http ? "http" : "https",
                          request_.registry, request_.repository, path);
    get.https_only = !request_.plain_http;
    get.timeouts = timeouts_.transfer;
    if (!accept.empty()) get.headers.push_back("Accept: " + accept);
    if (from > 0) get.headers.push_back(fmt::format("Range: bytes={}-", from));
    if (std::string value = login_.authorization(); !value.empty())
      get.headers.push_back("Authorization: " + value);
    auto transfer = std::make_unique<Transfer>(session_, std::move(get));
    Result<void> started = transfer->start();
    const int status = started ? transfer->status() : 0;
    if (status == 200 || status == 206) return transfer;
    if (status == 401 && !challenged) {
      challenged = true;
      HOB_CHECK(answer_challenge(*transfer));
      continue;
    }
    Error error = started ? refusal(*transfer) : started.error();
    error.message = request_.registry + ": " + error.message;
    if (!is_passing(error) || ++attempt >= kAttemptsMax) return fail(std::move(error));
    transfer.reset();
    HOB_CHECK(wait_to_retry(attempt));
  }
}

Result<void> RegistryClient::answer_challenge(const Transfer& refused) {
  const std::vector<std::string> challenges = refused.challenges();
  // A token is the better of two offers: it is for this repository only.
  for (const std::string& challenge : challenges) {
    if (parse_challenge(challenge).scheme == "bearer") return fetch_token(challenge);
  }
  for (const std::string& challenge : challenges) {
    if (parse_challenge(challenge).scheme != "basic") continue;
    if (request_.username.empty()) {
      return fail(Code::kDenied,
                  "{} wants a login, and none is known for it: hob registry login {}",
                  request_.registry, request_.registry);
    }
    login_.set("Basic " + base64(request_.username + ":" + request_.password));
    return {};
  }
  return fail(Code::kDenied, "{} refused without saying how to log in", request_.registry);
}

Result<void> RegistryClient::fetch_token(std::string_view text) {
  const Challenge challenge = parse_challenge(text);
  const auto parameter = [&](const char* name) {
    const auto found = challenge.parameters.find(name);
    return found == challenge.parameters.end() ? std::string() : found->second;
  };
  const std::string realm = parameter("realm");
  if (!realm.starts_with("https://") && !(request_.plain_http && realm.starts_with("http://"))) {
    return fail(Code::kDenied, "{} names a token service that is not at an https address",
                request_.registry);
  }
  TransferRequest get;
  const std::string scope = fmt::format("repository:{}:pull", request_.repository);
  get.url = fmt::format("{}{}service={}&scope={}", realm,
                        realm.find('?') == std::string::npos ? "?" : "&",
                        http::percent_encode(parameter("service"), http::Slash::kEscape),
                        http::percent_encode(scope, http::Slash::kEscape));
  get.https_only = !request_.plain_http;
  get.timeouts = timeouts_.transfer;
  if (!request_.username.empty()) {
    get.headers.push_back("Authorization: Basic " +
                          base64(request_.username + ":" + request_.password));
  }
  Session session(abort_);
  Transfer transfer(session, std::move(get));
  HOB_CHECK(context(transfer.start(), "asking {}'s token service", request_.registry));
  if (transfer.status() != 200) {
    Error error = refusal(transfer);
    error.message = fmt::format("{}'s token service: {}", request_.registry, error.message);
    return fail(std::move(error));
  }
  HOB_TRY(const std::string body, transfer.read_all(kTokenBytesMax));
  const std::string token = registry_token(body);
  if (token.empty())
    return fail(Code::kDenied, "{}'s token service answered without a token", request_.registry);
  login_.set("Bearer " + token);
  return {};
}

Result<FetchedManifest> RegistryClient::manifest(const std::string& reference) {
  static const std::string accept =
      fmt::format("{}, {}, {}, {}", kOciManifest, kOciIndex, kDockerManifest, kDockerList);
  FetchedManifest fetched;
  std::string media_type;
  for (int attempt = 0;;) {
    HOB_TRY(const std::unique_ptr<Transfer> transfer, open("manifests/" + reference, accept, 0));
    Result<std::string> text = transfer->read_all(kManifestBytesMax);
    if (text) {
      fetched.text = std::move(*text);
      fetched.digest = digest_of(fetched.text);
      media_type = transfer->header("content-type");
      const std::string told = transfer->header("docker-content-digest");
      if (told.starts_with(kDigestPrefix) && told != fetched.digest) {
        return fail(Code::kCorrupt, "the manifest has digest {}, but the registry calls it {}",
                    fetched.digest, told);
      }
      break;
    }
    if (!is_passing(text.error()) || ++attempt >= kAttemptsMax) return fail(text.error());
    HOB_CHECK(wait_to_retry(attempt));
  }
  if (is_digest(reference) && fetched.digest != reference) {
    return fail(Code::kCorrupt, "the manifest asked for as {} has digest {}", reference,
                fetched.digest);
  }
  media_type = media_type.substr(0, media_type.find(';'));
  while (media_type.ends_with(' ')) media_type.pop_back();
  // Static file servers do not know the types; the document itself does.
  if (media_type == "application/json" || media_type == "text/plain" ||
      media_type == "application/octet-stream") {
    media_type.clear();
  }
  HOB_TRY(fetched.manifest, parse_manifest(fetched.text, media_type));
  return fetched;
}

// Goes on by a range request where a connection broke.
class BlobSource final : public ByteSource {
 public:
  BlobSource(RegistryClient& client, Descriptor descriptor)
      : client_(client), descriptor_(std::move(descriptor)) {}

  Result<std::string_view> read() override {
    for (;;) {
      if (given_ == descriptor_.size) return std::string_view();
      if (!transfer_) HOB_CHECK(reopen());
      Result<std::string_view> piece = transfer_->read();
      if (piece && !piece->empty()) {
        if (skip_ >= piece->size()) {
          skip_ -= piece->size();
          continue;
        }
        piece->remove_prefix(static_cast<size_t>(std::exchange(skip_, 0)));
        if (piece->size() > descriptor_.size - given_) {
          return fail(Code::kCorrupt, "the registry sends more than the {} bytes of {}",
                      descriptor_.size, descriptor_.digest);
        }
        given_ += piece->size();
        failures_ = 0;
        return *piece;
      }
      transfer_.reset();
      if (piece) {
        return fail(Code::kCorrupt, "the registry sent {} of the {} bytes of {}", given_,
                    descriptor_.size, descriptor_.digest);
      }
      if (!is_passing(piece.error()) || ++failures_ >= kAttemptsMax) return fail(piece.error());
      HOB_CHECK(client_.wait_to_retry(failures_));
    }
  }

 private:
  Result<void> reopen() {
    HOB_TRY(transfer_, client_.open("blobs/" + descriptor_.digest, {}, given_));
    // A server without ranges begins again.
    const bool ranged = transfer_->status() == 206;
    skip_ = ranged ? 0 : given_;
    const std::string expected = fmt::format("bytes {}-", given_);
    if (ranged && !transfer_->header("content-range").starts_with(expected)) {
      return fail(Code::kCorrupt, "the registry answered another range of {} than was asked for",
                  descriptor_.digest);
    }
    return {};
  }

  RegistryClient& client_;
  Descriptor descriptor_;
  std::unique_ptr<Transfer> transfer_;
  uint64_t given_ = 0;
  uint64_t skip_ = 0;
  int failures_ = 0;
};

std::unique_ptr<ByteSource> RegistryClient::open_blob(const Descriptor& descriptor) {
  return std::make_unique<BlobSource>(*this, descriptor);
}

Result<std::string> RegistryClient::blob(const Descriptor& descriptor) {
  const std::unique_ptr<ByteSource> source = open_blob(descriptor);
  std::string all;
  for (;;) {
    HOB_TRY(const std::string_view piece, source->read());
    if (piece.empty()) break;
    all.append(piece);
  }
  if (digest_of(all) != descriptor.digest) {
    return fail(Code::kCorrupt, "the blob asked for as {} has digest {}", descriptor.digest,
                digest_of(all));
  }
  return all;
}

}  // namespace hob::image
