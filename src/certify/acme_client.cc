#include "certify/acme_client.h"

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>

namespace hob::certify {
namespace {

namespace json = boost::json;

// RFC 8555 section 6.5.1: base64url; it goes into what we sign.
bool is_nonce(std::string_view text) {
  return !text.empty() && text.size() <= kUrlBytesMax && text.find_first_of("\"\\") == text.npos;
}

// In seconds; a date is left alone, as no server of these sends one.
Duration retry_after_of(const FetchAnswer& answer) {
  const std::string_view text = answer.header("retry-after");
  long seconds = 0;
  std::from_chars(text.data(), text.data() + text.size(), seconds);
  const auto most = std::chrono::duration_cast<std::chrono::seconds>(kAcmeRetryAfterMax).count();
  return std::chrono::seconds(std::clamp(seconds, 0L, static_cast<long>(most)));
}

std::string words(const AcmeProblem& problem) {
  if (problem.type.empty()) return problem.detail;
  return fmt::format("{} ({})", problem.detail, problem.type);
}

// Waits longer and longer, or as long as the server says.
class Poll {
 public:
  // False: that was the last one.
  Async<bool> wait(const FetchAnswer& answer) {
    if (++count_ > kAcmePollsMax) co_return false;
    const Duration asked = std::min(retry_after_of(answer), kAcmePollMax);
    co_await sleep_for(std::max(asked, delay_));
    delay_ = std::min(2 * delay_, kAcmePollMax);
    co_return true;
  }

 private:
  int count_ = 0;
  Duration delay_ = kAcmePollMin;
};

const AcmeQuestion* choose(const AcmeAuthorization& authorization, AcmeWay way) {
  const char* wanted = way == AcmeWay::kHttp ? "http-01" : "tls-alpn-01";
  const char* other = way == AcmeWay::kHttp ? "tls-alpn-01" : "http-01";
  for (const char* type : {wanted, other}) {
    const auto found = std::ranges::find(authorization.questions, type, &AcmeQuestion::type);
    if (found != authorization.questions.end()) return &*found;
  }
  return nullptr;
}

std::string why_of(const AcmeAuthorization& authorization) {
  for (const AcmeQuestion& question : authorization.questions) {
    if (!question.error.detail.empty()) return words(question.error);
  }
  return "the authorization is " + authorization.status;
}

}  // namespace

Async<AcmeOutcome> AcmeClient::obtain(AcmeTask task) {
  AcmeOutcome outcome;
  Result<CertifiedKey> certificate = co_await follow(std::move(task), outcome);
  outcome.certificate = std::move(certificate);
  co_return outcome;
}

Async<Result<AcmeDirectory>> AcmeClient::directory_of_server() {
  FetchRequest get{.url = settings_.directory,
                   .https_only = settings_.directory.starts_with("https://"),
                   .ca_file = settings_.ca_file};
  HOB_CO_TRY(const FetchAnswer answer, co_await fetcher_.fetch(std::move(get)));
  if (answer.status != 200)
    co_return fail(Code::kUnavailable, "{} answered {}", settings_.directory, answer.status);
  co_return parse_acme_directory(answer.body, settings_.directory);
}

Async<Result<std::string>> AcmeClient::new_nonce(std::string url) {
  FetchRequest head{.url = std::move(url),
                    .https_only = settings_.directory.starts_with("https://"),
                    .method = "HEAD",
                    .ca_file = settings_.ca_file};
  HOB_CO_TRY(const FetchAnswer answer, co_await fetcher_.fetch(std::move(head)));
  std::string nonce(answer.header("replay-nonce"));
  if (!is_nonce(nonce)) co_return fail(Code::kInvalid, "the server gives no nonce");
  co_return nonce;
}

Async<Result<FetchAnswer>> AcmeClient::post(const AcmeDirectory& directory, const Account& account,
                                            std::string url, std::string payload,
                                            AcmeOutcome& outcome) {
  for (int attempt = 0; attempt < kNonceTriesMax; ++attempt) {
    std::string nonce = std::exchange(nonce_, {});
    if (nonce.empty()) {
      HOB_CO_TRY(nonce, co_await new_nonce(directory.new_nonce));
    }
    json::object header = {{"alg", "ES256"}, {"nonce", nonce}, {"url", url}};
    if (account.url.empty())
      header["jwk"] = json::parse(account.key.jwk());
    else
      header["kid"] = account.url;
    HOB_CO_TRY(std::string body, account.key.sign(json::serialize(header), payload));
    FetchRequest request{.url = url,
                         .https_only = settings_.directory.starts_with("https://"),
                         .method = "POST",
                         .content_type = "application/jose+json",
                         .body = std::move(body),
                         .ca_file = settings_.ca_file};
    HOB_CO_TRY(FetchAnswer answer, co_await fetcher_.fetch(std::move(request)));
    if (std::string fresh(answer.header("replay-nonce")); is_nonce(fresh)) nonce_ = fresh;
    if (answer.status >= 200 && answer.status < 300) co_return answer;
    const AcmeProblem problem = parse_acme_problem(answer.body);
    if (problem.type == "badNonce") continue;
    outcome.retry_after = retry_after_of(answer);
    const bool later = answer.status >= 500 || answer.status == 429;
    co_return fail(later ? Code::kUnavailable : Code::kDenied, "{}", words(problem));
  }
  co_return fail(Code::kUnavailable, "the server accepts no nonce of its own");
}

Async<Result<void>> AcmeClient::find_account(const AcmeDirectory& directory, Account& account,
                                             AcmeOutcome& outcome) {
  json::object payload = {{"termsOfServiceAgreed", true}};
  if (!settings_.contact.empty())
    payload["contact"] = json::array{"mailto:" + settings_.contact};
  if (!settings_.external_key_id.empty()) {
    const auto mac_key = unbase64url(settings_.external_mac_key);
    if (!mac_key) co_return fail(Code::kInvalid, "the external account's key is not base64url");
    payload["externalAccountBinding"] =
        json::parse(sign_external_binding(account.key.jwk(), settings_.external_key_id, *mac_key,
                                          directory.new_account));
  } else if (directory.external_account_required) {
    co_return fail(Code::kDenied,
                   "the authority takes only accounts made with it before (external account binding)");
  }
  // For a key that the server knows, this answers the account it has.
  std::string text = json::serialize(payload);
  HOB_CO_TRY(const FetchAnswer answer,
             co_await post(directory, account, directory.new_account, std::move(text), outcome));
  account.url = answer.header("location");
  if (account.url.empty()) co_return fail(Code::kInvalid, "the server names no account");
  co_return Result<void>{};
}

Async<Result<void>> AcmeClient::authorize(const AcmeDirectory& directory, const Account& account,
                                          const AcmeTask& task, std::string url,
                                          AcmeOutcome& outcome) {
  bool answered = false;
  Poll poll;
  for (;;) {
    HOB_CO_TRY(const FetchAnswer answer, co_await post(directory, account, url, "", outcome));
    HOB_CO_TRY(const AcmeAuthorization authorization,
               parse_acme_authorization(answer.body, settings_.directory));
    if (authorization.status == "valid") co_return Result<void>{};
    if (authorization.status != "pending") {
      outcome.order_over = true;
      co_return fail(Code::kDenied, "{}: {}", authorization.host_name, why_of(authorization));
    }
    if (!answered) {
      if (std::ranges::find(task.host_names, authorization.host_name) == task.host_names.end())
        co_return fail(Code::kInvalid, "the server asks about {}", authorization.host_name);
      const AcmeQuestion* question = choose(authorization, task.way);
      if (question == nullptr) {
        co_return fail(Code::kDenied, "the authority asks about {} neither by HTTP nor by TLS",
                       authorization.host_name);
      }
      if (question->status == "pending") {
        std::string key_authorization = question->token + "." + account.key.thumbprint();
        HOB_CO_CHECK(co_await task.answer(authorization.host_name, question->token,
                                          std::move(key_authorization)));
        HOB_CO_CHECK(co_await post(directory, account, question->url, "{}", outcome));
      }
      answered = true;
    }
    if (!co_await poll.wait(answer))
      co_return fail(Code::kTimeout, "{}: the authority has not come to a decision",
                     authorization.host_name);
  }
}

Async<Result<CertifiedKey>> AcmeClient::follow(AcmeTask task, AcmeOutcome& outcome) {
  HOB_CO_TRY(AccountKey key, AccountKey::read(task.account_key));
  Account account{.key = std::move(key)};
  HOB_CO_TRY(const AcmeDirectory directory, co_await directory_of_server());
  HOB_CO_CHECK(co_await find_account(directory, account, outcome));

  AcmeOrderState state;
  if (task.resume) {
    state = *task.resume;
  } else {
    json::array identifiers;
    for (const std::string& host : task.host_names)
      identifiers.push_back({{"type", "dns"}, {"value", host}});
    std::string text = json::serialize(json::object{{"identifiers", std::move(identifiers)}});
    HOB_CO_TRY(const FetchAnswer made,
               co_await post(directory, account, directory.new_order, std::move(text), outcome));
    state.url = made.header("location");
    if (state.url.empty()) co_return fail(Code::kInvalid, "the server names no order");
    HOB_CO_TRY(state.key, make_private_key());
    HOB_CO_CHECK(co_await task.keep(state));
  }
  Poll poll;
  bool finalized = false;
  for (;;) {
    auto answer = co_await post(directory, account, state.url, "", outcome);
    if (!answer) {
      // Gone, or another account's: a new one will do.
      outcome.order_over = answer.error().code == Code::kDenied;
      co_return fail(std::move(answer).error());
    }
    HOB_CO_TRY(const AcmeOrder order, parse_acme_order(answer->body, settings_.directory));
    if (order.status == "pending") {
      for (const std::string& url : order.authorizations)
        HOB_CO_CHECK(co_await authorize(directory, account, task, url, outcome));
    } else if (order.status == "ready" && !finalized) {
      HOB_CO_TRY(const std::string request, make_signing_request(state.key, task.host_names));
      std::string text = json::serialize(json::object{{"csr", base64url(request)}});
      HOB_CO_CHECK(co_await post(directory, account, order.finalize, std::move(text), outcome));
      finalized = true;
    } else if (order.status == "valid") {
      HOB_CO_TRY(FetchAnswer chain,
                 co_await post(directory, account, order.certificate, "", outcome));
      outcome.order_over = true;
      CertifiedKey issued{.certificate = std::move(chain.body), .key = std::move(state.key)};
      HOB_CO_CHECK(context(check_chain(issued, clock_.now()), "the authority's certificate"));
      co_return issued;
    } else if (order.status == "invalid") {
      outcome.order_over = true;
      co_return fail(Code::kDenied, "{}",
                     order.error.detail.empty() ? "the order is invalid" : words(order.error));
    }
    if (!co_await poll.wait(*answer))
      co_return fail(Code::kTimeout, "the authority has not issued the certificate yet");
  }
}

}  // namespace hob::certify
