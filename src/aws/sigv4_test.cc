#include "aws/sigv4.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>
#include <functional>
#include <string>

#include "base/process.h"

namespace hob::aws {
namespace {

using namespace std::chrono_literals;

constexpr const char* kKeyId = "AKIAIOSFODNN7EXAMPLE";
constexpr const char* kSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
constexpr Instant kNow{1'795'471'909s};  // 2026-11-23T22:11:49Z

std::optional<KnownKey> find_key(std::string_view id) {
  if (id == kKeyId) return KnownKey{.secret = Secret<std::string>(kSecret)};
  return std::nullopt;
}

http::Request request_to_sign() {
  http::Request request{.method = "POST", .target = "/", .path = "/"};
  request.headers.add("Host", "127.0.0.1:4566");
  request.headers.add("Content-Type", "application/x-amz-json-1.0");
  request.headers.add("X-Amz-Target", "AppRunner.ListServices");
  return request;
}

http::Request signed_request(Instant at = kNow) {
  http::Request request = request_to_sign();
  const Credentials credentials{.access_key_id = kKeyId, .secret = Secret<std::string>(kSecret)};
  sign(request, "{}", credentials, "us-east-1", "apprunner", at);
  return request;
}

// The AWS code of the failure, "ok", or "AWS code: message".
std::string check(const http::Request& request, std::string_view body, Instant now,
                  const KeyLookup& lookup = find_key) {
  const auto signature = read_signature(request);
  if (!signature) return signature.error().aws_code + ": " + signature.error().message;
  const auto result = verify(request, *signature, sha256(body), lookup, "us-east-1", now);
  return result ? "ok" : result.error().aws_code + ": " + result.error().message;
}

void replace_in(http::Request& request, const std::string& header, std::string_view what,
                std::string_view with) {
  std::string value(request.headers.get(header));
  const size_t at = value.find(what);
  ASSERT_NE(at, std::string::npos) << what;
  value.replace(at, what.size(), with);
  request.headers.set(header, value);
}

// botocore is what people's clients sign with; whatever it signs, we accept, and nothing that
// differs by a byte.
TEST(SigV4, AcceptsWhatBotocoreSigns) {
  const Command command{
      .argv = {"/usr/bin/python3", HOB_SOURCE_DIR "/src/aws/testdata/sign_with_botocore.py"}};
  const auto exit = run_blocking(command, 60s);
  ASSERT_TRUE(exit.has_value()) << exit.error().message;
  ASSERT_EQ(exit->status, 0) << exit->errors;
  const Instant now = SystemClock().now();
  std::string_view lines = exit->output;
  int count = 0;
  while (!lines.empty()) {
    const size_t end = lines.find('\n');
    const boost::json::value line = boost::json::parse(lines.substr(0, end));
    lines.remove_prefix(end + 1);
    const auto text = [&](const char* name) { return std::string(line.at(name).as_string()); };
    http::Request request{.method = text("method"), .path = text("path"), .query = text("query")};
    for (const auto& header : line.at("headers").as_object()) {
      request.headers.add(std::string(header.key()), std::string(header.value().as_string()));
    }
    const auto lookup = [&](std::string_view id) {
      auto key = find_key(id);
      if (text("name").ends_with("session token")) key->security_token = "a/session+token==";
      return key;
    };
    EXPECT_EQ(check(request, text("body"), now, lookup), "ok") << text("name");
    EXPECT_TRUE(
        check(request, text("body") + " ", now, lookup).starts_with("InvalidSignatureException: "))
        << text("name");
    request.method = "PUT";
    EXPECT_TRUE(
        check(request, text("body"), now, lookup).starts_with("InvalidSignatureException: "))
        << text("name");
    ++count;
  }
  EXPECT_EQ(count, 13);
}

// Made by botocore 1.29.27 for this request and second.
TEST(SigV4, SignsAsBotocoreDoes) {
  const std::string script =
      "import datetime, botocore.auth as a\n"
      "from botocore.awsrequest import AWSRequest\n"
      "from botocore.credentials import Credentials\n"
      "class Fixed(datetime.datetime):\n"
      "    utcnow = classmethod(lambda c: c(2026, 11, 23, 22, 11, 49))\n"
      "a.datetime.datetime = Fixed\n"
      "r = AWSRequest(method='POST', url='http://127.0.0.1:4566/', data=b'{}', headers={'Host': "
      "'127.0.0.1:4566',\n"
      "  'Content-Type': 'application/x-amz-json-1.0', 'X-Amz-Target': 'AppRunner.ListServices'})\n"
      "a.SigV4Auth(Credentials('" +
      std::string(kKeyId) + "', '" + kSecret +
      "'), 'apprunner', 'us-east-1').add_auth(r)\n"
      "print(r.headers['Authorization'], end='')\n";
  const auto exit = run_blocking({.argv = {"/usr/bin/python3", "-c", script}}, 60s);
  ASSERT_TRUE(exit.has_value());
  ASSERT_EQ(exit->status, 0) << exit->errors;
  EXPECT_EQ(signed_request().headers.get("Authorization"), exit->output);
}

TEST(SigV4, RefusesWithAwsError) {
  struct Case {
    const char* name;
    std::function<void(http::Request&)> change;
    Duration later;
    const char* want;
  };
  const auto nothing = [](http::Request&) {};
  for (const Case& c : {
           Case{"as signed", nothing, 0s, "ok"},
           Case{"no authorization", [](auto& r) { r.headers.remove("Authorization"); }, 0s,
                "MissingAuthenticationTokenException: Missing Authentication Token"},
           Case{"another scheme", [](auto& r) { r.headers.set("Authorization", "Basic QVdTOng="); },
                0s,
                "IncompleteSignatureException: Authorization header requires 'AWS4-HMAC-SHA256'."},
           Case{"nothing after the algorithm",
                [](auto& r) { r.headers.set("Authorization", "AWS4-HMAC-SHA256"); }, 0s,
                "IncompleteSignatureException: Authorization header requires 'AWS4-HMAC-SHA256'."},
           Case{"no credential",
                [](auto& r) { replace_in(r, "Authorization", "Credential=", "X="); }, 0s,
                "IncompleteSignatureException: Authorization header requires 'Credential' "
                "parameter."},
           Case{"no signature", [](auto& r) { replace_in(r, "Authorization", "Signature=", "X="); },
                0s,
                "IncompleteSignatureException: Authorization header requires 'Signature' "
                "parameter."},
           Case{"no signed headers",
                [](auto& r) { replace_in(r, "Authorization", "SignedHeaders=", "X="); }, 0s,
                "IncompleteSignatureException: Authorization header requires 'SignedHeaders' "
                "parameter."},
           Case{"a short scope",
                [](auto& r) { replace_in(r, "Authorization", "/us-east-1/apprunner", ""); }, 0s,
                "IncompleteSignatureException: Credential must have exactly 5 slash-delimited "
                "elements, e.g. "
                "keyid/date/region/service/term, got 'AKIAIOSFODNN7EXAMPLE/20261123/aws4_request'"},
           Case{"another terminator",
                [](auto& r) { replace_in(r, "Authorization", "aws4_request", "aws5_request"); }, 0s,
                "InvalidSignatureException: Credential should be scoped with a valid terminator: "
                "'aws4_request'."},
           Case{"an unknown key",
                [](auto& r) { replace_in(r, "Authorization", "EXAMPLE/", "EXAMPLF/"); }, 0s,
                "UnrecognizedClientException: The security token included in the request is "
                "invalid."},
           Case{"a session token nobody gave",
                [](auto& r) { r.headers.add("X-Amz-Security-Token", "x"); }, 0s,
                "UnrecognizedClientException: The security token included in the request is "
                "invalid."},
           Case{"another region",
                [](auto& r) { replace_in(r, "Authorization", "us-east-1", "eu-west-1"); }, 0s,
                "InvalidSignatureException: Credential should be scoped to a valid region."},
           Case{"another date in the scope",
                [](auto& r) { replace_in(r, "Authorization", "20261123", "20261122"); }, 0s,
                "InvalidSignatureException: Date in Credential scope does not match YYYYMMDD from "
                "ISO-8601 version of "
                "date from HTTP: '20261122' != '20261123', from '20261123T221149Z'."},
           Case{"no date", [](auto& r) { r.headers.remove("X-Amz-Date"); }, 0s,
                "IncompleteSignatureException: Authorization header requires existence of either a "
                "'X-Amz-Date' or a "
                "'Date' header."},
           Case{"a date that is none", [](auto& r) { r.headers.set("X-Amz-Date", "yesterday"); },
                0s,
                "IncompleteSignatureException: Date must be in ISO-8601 'basic format'. Got "
                "'yesterday'."},
           Case{"five minutes old", nothing, 300s, "ok"},
           Case{"older than five minutes", nothing, 301s,
                "InvalidSignatureException: Signature expired: 20261123T221149Z is now earlier "
                "than 20261123T221150Z "
                "(20261123T221650Z - 5 min.)"},
           Case{"five minutes ahead", nothing, -300s, "ok"},
           Case{"more than five minutes ahead", nothing, -301s,
                "InvalidSignatureException: Signature not yet current: 20261123T221149Z is still "
                "later than "
                "20261123T221148Z (20261123T220648Z + 5 min.)"},
           Case{"host not signed", [](auto& r) { replace_in(r, "Authorization", "host;", ""); }, 0s,
                "InvalidSignatureException: 'Host' or ':authority' must be a 'SignedHeader' in the "
                "AWS Authorization."},
           Case{"an x-amz header not signed", [](auto& r) { r.headers.add("X-Amz-Extra", "1"); },
                0s, "InvalidSignatureException: The header 'x-amz-extra' must be signed."},
       }) {
    http::Request request = signed_request();
    c.change(request);
    EXPECT_EQ(check(request, "{}", kNow + c.later), c.want) << c.name;
  }
}

TEST(SigV4, RefusesWhateverWasChangedAfterSigning) {
  const std::vector<std::pair<const char*, std::function<void(http::Request&)>>> changes = {
      {"target", [](auto& r) { r.headers.set("X-Amz-Target", "AppRunner.DeleteService"); }},
      {"host", [](auto& r) { r.headers.set("Host", "127.0.0.2:4566"); }},
      {"path", [](auto& r) { r.path = "/other"; }},
      {"query", [](auto& r) { r.query = "a=b"; }},
      {"service", [](auto& r) { replace_in(r, "Authorization", "/apprunner/", "/ecr/"); }},
      {"time", [](auto& r) { r.headers.set("X-Amz-Date", "20261123T221150Z"); }},
      {"a digit of the signature",
       [](auto& r) {
         r.headers.set("Authorization", std::string(r.headers.get("Authorization")) + "0");
       }},
      {"an empty signature",
       [](auto& r) {
         const std::string value(r.headers.get("Authorization"));
         r.headers.set("Authorization", value.substr(0, value.find("Signature=") + 10) + "x");
       }},
      {"a hash that is not the body's",
       [](auto& r) {
         r.headers.add("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD");
         replace_in(r, "Authorization", "x-amz-date", "x-amz-content-sha256;x-amz-date");
       }},
  };
  for (const auto& [name, change] : changes) {
    http::Request request = signed_request();
    change(request);
    EXPECT_TRUE(check(request, "{}", kNow)
                    .starts_with("InvalidSignatureException: The request signature we calculated"))
        << name;
  }
}

TEST(SigV4, ReadsPresignedQueries) {
  const std::string good =
      "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20261123%2Fus-east-1%2Fsts%2Faws4_"
      "request"
      "&X-Amz-Date=20261123T221149Z&X-Amz-SignedHeaders=host&X-Amz-Signature=00";
  for (const auto& [expires, ok] : std::vector<std::pair<std::string, bool>>{{"1", true},
                                                                             {"604800", true},
                                                                             {"0", false},
                                                                             {"604801", false},
                                                                             {"-1", false},
                                                                             {"1x", false},
                                                                             {"", false}}) {
    const auto read =
        read_signature({.method = "GET", .path = "/", .query = good + "&X-Amz-Expires=" + expires});
    EXPECT_EQ(read.has_value(), ok) << expires;
  }
  for (const char* missing :
       {"X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature"}) {
    std::string query = good + "&X-Amz-Expires=60";
    query.replace(query.find(missing), 5, "Other");
    const auto read = read_signature({.method = "GET", .path = "/", .query = query});
    ASSERT_FALSE(read.has_value());
    EXPECT_EQ(read.error().message,
              std::string("AWS query-string parameters must include '") + missing + "'.");
  }
}

TEST(SigV4, RefusesExpiredTemporaryCredentials) {
  const auto lookup = [](std::string_view) {
    return KnownKey{.secret = Secret<std::string>(kSecret), .expires_at = kNow};
  };
  EXPECT_EQ(check(signed_request(), "{}", kNow, lookup),
            "ExpiredTokenException: The security token included in the request is expired");
  EXPECT_EQ(check(signed_request(), "{}", kNow - 1ms, lookup), "ok");
}

TEST(SigV4, BoundsWhatItReads) {
  http::Request request = request_to_sign();
  request.headers.set("Authorization",
                      "AWS4-HMAC-SHA256 " + std::string(kAuthorizationBytesMax, 'a'));
  EXPECT_EQ(check(request, "", kNow),
            "IncompleteSignatureException: The Authorization header is too long.");
  std::string names = "a0";
  for (size_t i = 1; i <= kSignedHeadersMax; ++i) names += ";a" + std::to_string(i);
  request.headers.set("Authorization",
                      "AWS4-HMAC-SHA256 Credential=A/20261123/us-east-1/apprunner/aws4_request, "
                      "SignedHeaders=" +
                          names + ", Signature=00");
  EXPECT_EQ(check(request, "", kNow),
            "IncompleteSignatureException: At most 100 headers may be signed.");
}

}  // namespace
}  // namespace hob::aws
