#include "certify/ocsp.h"

#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <memory>
#include <vector>

#include "base/certificate.h"
#include "base/pem.h"

namespace hob::certify {
namespace {

constexpr long kStatusRequest = 5;  // the TLS extension's number (RFC 7633 section 4.2.3.1)

template <auto Free>
struct Freer {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Certificate = std::unique_ptr<X509, Freer<X509_free>>;
using Memory = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using CertificateId = std::unique_ptr<OCSP_CERTID, Freer<OCSP_CERTID_free>>;
using Basic = std::unique_ptr<OCSP_BASICRESP, Freer<OCSP_BASICRESP_free>>;
using Trust = std::unique_ptr<X509_STORE, Freer<X509_STORE_free>>;

void free_texts(STACK_OF(OPENSSL_STRING) * texts) { X509_email_free(texts); }
using Texts = std::unique_ptr<STACK_OF(OPENSSL_STRING), Freer<free_texts>>;
void free_list(STACK_OF(X509) * list) { sk_X509_free(list); }
using List = std::unique_ptr<STACK_OF(X509), Freer<free_list>>;
void free_feature(TLS_FEATURE* feature) { TLS_FEATURE_free(feature); }
using Feature = std::unique_ptr<TLS_FEATURE, Freer<free_feature>>;

// A certificate and who issued it, as the chain has them.
struct Pair {
  Certificate leaf{};
  Certificate issuer{};  // nullptr: not there
};

Pair pair_in(std::string_view pem) {
  const Memory text(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  Pair pair{.leaf = Certificate(PEM_read_bio_X509(text.get(), nullptr, no_password, nullptr))};
  if (pair.leaf != nullptr)
    pair.issuer.reset(PEM_read_bio_X509(text.get(), nullptr, no_password, nullptr));
  if (pair.issuer != nullptr && X509_check_issued(pair.issuer.get(), pair.leaf.get()) != X509_V_OK)
    pair.issuer.reset();
  ERR_clear_error();
  return pair;
}

Instant instant_of(const ASN1_GENERALIZEDTIME* time) {
  tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return {};
  return Instant(std::chrono::seconds(::timegm(&parts)));
}

// Signed by who issued the certificate, or by one that it gave that right alone.
bool is_signed(OCSP_BASICRESP* basic, X509* issuer, Instant now) {
  const Trust trust(X509_STORE_new());
  const List others(sk_X509_new_null());
  if (trust == nullptr || others == nullptr || sk_X509_push(others.get(), issuer) <= 0)
    return false;
  X509_VERIFY_PARAM* parameters = X509_STORE_get0_param(trust.get());
  // The issuer need not be a root.
  X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_PARTIAL_CHAIN);
  X509_VERIFY_PARAM_set_time(
      parameters, std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count());
  return X509_STORE_add_cert(trust.get(), issuer) == 1 &&
         OCSP_basic_verify(basic, others.get(), trust.get(), 0) == 1;
}

}  // namespace

std::optional<OcspQuestion> ocsp_question(std::string_view chain) {
  const Pair pair = pair_in(chain);
  if (pair.leaf == nullptr || pair.issuer == nullptr) return std::nullopt;
  const Texts urls(X509_get1_ocsp(pair.leaf.get()));
  OcspQuestion question;
  for (int i = 0; i < sk_OPENSSL_STRING_num(urls.get()) && question.url.empty(); ++i) {
    const std::string_view url = sk_OPENSSL_STRING_value(urls.get(), i);
    if (url.size() <= kUrlBytesMax && (url.starts_with("http://") || url.starts_with("https://")))
      question.url = url;
  }
  if (question.url.empty()) return std::nullopt;
  const std::unique_ptr<OCSP_REQUEST, Freer<OCSP_REQUEST_free>> request(OCSP_REQUEST_new());
  // SHA-1 names here and proves nothing; responders that know no other are many (RFC 5019).
  CertificateId id(OCSP_cert_to_id(EVP_sha1(), pair.leaf.get(), pair.issuer.get()));
  if (request == nullptr || id == nullptr ||
      OCSP_request_add0_id(request.get(), id.get()) == nullptr)
    return std::nullopt;
  static_cast<void>(id.release());
  unsigned char* der = nullptr;
  const int size = i2d_OCSP_REQUEST(request.get(), &der);
  if (size <= 0) return std::nullopt;
  question.request.assign(reinterpret_cast<const char*>(der), static_cast<size_t>(size));
  OPENSSL_free(der);
  return question;
}

Result<OcspAnswer> check_ocsp(std::string_view chain, std::string_view response, Instant now) {
  if (response.size() > kOcspBytesMax)
    return fail(Code::kInvalid, "the answer has more than {} bytes", kOcspBytesMax);
  const Pair pair = pair_in(chain);
  if (pair.leaf == nullptr || pair.issuer == nullptr)
    return fail(Code::kInvalid, "the chain lacks who issued the certificate");
  const auto* at = reinterpret_cast<const unsigned char*>(response.data());
  const unsigned char* const end = at + response.size();
  const std::unique_ptr<OCSP_RESPONSE, Freer<OCSP_RESPONSE_free>> read(
      d2i_OCSP_RESPONSE(nullptr, &at, static_cast<long>(response.size())));
  const bool whole = read != nullptr && at == end;
  const int said = whole ? OCSP_response_status(read.get()) : -1;
  const Basic basic(said == OCSP_RESPONSE_STATUS_SUCCESSFUL ? OCSP_response_get1_basic(read.get())
                                                            : nullptr);
  ERR_clear_error();
  if (!whole) return fail(Code::kInvalid, "the answer is no OCSP response");
  if (basic == nullptr)
    return fail(Code::kInvalid, "the responder answers {}", OCSP_response_status_str(said));
  const bool is_theirs = is_signed(basic.get(), pair.issuer.get(), now);
  ERR_clear_error();
  if (!is_theirs)
    return fail(Code::kInvalid, "the answer is not signed by who issued the certificate");
  const CertificateId id(OCSP_cert_to_id(EVP_sha1(), pair.leaf.get(), pair.issuer.get()));
  int status = V_OCSP_CERTSTATUS_UNKNOWN;
  ASN1_GENERALIZEDTIME* this_update = nullptr;
  ASN1_GENERALIZEDTIME* next_update = nullptr;
  if (id == nullptr || OCSP_resp_find_status(basic.get(), id.get(), &status, nullptr, nullptr,
                                             &this_update, &next_update) != 1) {
    ERR_clear_error();
    return fail(Code::kInvalid, "the answer is about another certificate");
  }
  const Instant from = instant_of(this_update);
  const Instant until = next_update != nullptr ? instant_of(next_update) : from + kOcspLifeUnsaid;
  if (from > now + kOcspClockSlack) return fail(Code::kInvalid, "the answer is from the future");
  if (until <= now) return fail(Code::kInvalid, "the answer is old");
  if (status != V_OCSP_CERTSTATUS_GOOD)
    return fail(Code::kDenied, "its authority says that the certificate is {}",
                OCSP_cert_status_str(status));
  return OcspAnswer{.response = std::string(response), .until = until};
}

bool must_staple(std::string_view chain) {
  const Pair pair = pair_in(chain);
  if (pair.leaf == nullptr) return false;
  const Feature feature(static_cast<TLS_FEATURE*>(
      X509_get_ext_d2i(pair.leaf.get(), NID_tlsfeature, nullptr, nullptr)));
  ERR_clear_error();
  for (int i = 0; i < sk_ASN1_INTEGER_num(feature.get()); ++i) {
    if (ASN1_INTEGER_get(sk_ASN1_INTEGER_value(feature.get(), i)) == kStatusRequest) return true;
  }
  return false;
}

Async<Result<OcspAnswer>> ask_responder(Fetcher& fetcher, Clock& clock, std::string chain,
                                        OcspQuestion question, Responders allowed) {
  FetchRequest post{.url = question.url,
                    .https_only = false,  // the answer is signed, and authorities use http for it
                    .public_only = allowed == Responders::kPublic,
                    .method = "POST",
                    .content_type = "application/ocsp-request",
                    .body = std::move(question.request)};
  HOB_CO_TRY(const FetchAnswer answer, co_await fetcher.fetch(std::move(post)));
  if (answer.status != 200)
    co_return fail(Code::kUnavailable, "{} answers {}", question.url, answer.status);
  co_return context(check_ocsp(chain, answer.body, clock.now()), "{}", question.url);
}

}  // namespace hob::certify
