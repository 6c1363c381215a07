// An OCSP responder's answer, and the chain that it is about, from any bytes: an error, or an
// answer that holds.
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "certify/ocsp.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::certify;
  // testdata/ocsp/chain.pem, which the corpus has answers about; its keys are forgotten.
  static constexpr std::string_view kChain = R"(-----BEGIN CERTIFICATE-----
MIIBozCCAUmgAwIBAgICEAAwCgYIKoZIzj0EAwIwDDEKMAgGA1UEAwwBYzAeFw0y
NjExMjUwODA1NTRaFw0zNjExMjIwODA1NTRaMAwxCjAIBgNVBAMMAWwwWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAARiEXY1ADGSw8UPIVB0gu6WgW+O29xeuW6dVJ65
on8HstFp6Pibswwyc7J/QL59x1AaUR0IE2x3hwj9ZPynP3+mo4GaMIGXMBEGA1Ud
EQQKMAiCBmEudGVzdDAvBggrBgEFBQcBAQQjMCEwHwYIKwYBBQUHMAGGE2h0dHA6
Ly8xMjcuMC4wLjE6MS8wEQYIKwYBBQUHARgEBTADAgEFMB0GA1UdDgQWBBRL5JeW
V2yQcNk6eYVvPSBwMWvGbzAfBgNVHSMEGDAWgBQzYl+RH0O8HMQKlqQqSeqqACNC
yzAKBggqhkjOPQQDAgNIADBFAiEA0pSQuuSvLqVEmWH9VN17NH+U0MFRL5nnbcBz
Ve9vPhgCIDRf+8jhpMX6aDj1Z1ZP8UmRzOMmnf3aypLrCtEOqbTA
-----END CERTIFICATE-----
-----BEGIN CERTIFICATE-----
MIIBbDCCAROgAwIBAgIUHFns82FeUl/3YcAgLW5VhKj8f84wCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBYzAeFw0yNjExMjUwODA1NTRaFw0zNjExMjIwODA1NTRaMAwx
CjAIBgNVBAMMAWMwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAARRlpEx29busw8j
QiW5ScUgyvstbbE3NngaMLJpLRe9A3opHu6udN29nLPRB65O0nN1oC1CSro/gwO9
eo52TEL3o1MwUTAdBgNVHQ4EFgQUM2JfkR9DvBzECpakKknqqgAjQsswHwYDVR0j
BBgwFoAUM2JfkR9DvBzECpakKknqqgAjQsswDwYDVR0TAQH/BAUwAwEB/zAKBggq
hkjOPQQDAgNHADBEAiAa9f3+BDF+l1G68YPYCe3LKR1uzMIf0kz5l8XHwjh06gIg
Wuh8TyCaDLGJlPJm0H4OLyjERzx3CIMGLo6PRP9a2hY=
-----END CERTIFICATE-----
)";
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const hob::Instant now{std::chrono::seconds(1795680400)};
  if (const auto answer = check_ocsp(kChain, bytes, now)) {
    HOB_ASSERT(answer->until > now);
    HOB_ASSERT(answer->response == bytes);
  }
  if (const auto question = ocsp_question(bytes)) HOB_ASSERT(question->url.starts_with("http"));
  static_cast<void>(must_staple(bytes));
  return 0;
}
