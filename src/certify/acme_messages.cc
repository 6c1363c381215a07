#include "certify/acme_messages.h"

#include <algorithm>
#include <boost/json.hpp>

#include "certify/fetch.h"

namespace hob::certify {
namespace {

namespace json = boost::json;

constexpr size_t kDepthMax = 16;
constexpr std::string_view kErrorPrefix = "urn:ietf:params:acme:error:";

Result<json::object> parse_object(std::string_view text) {
  if (text.size() > kAnswerBytesMax) return fail(Code::kInvalid, "the server's answer is too long");
  json::parse_options options;
  options.max_depth = kDepthMax;
  boost::system::error_code error;
  json::value value = json::parse(text, error, {}, options);
  if (error || !value.is_object()) return fail(Code::kInvalid, "the server's answer is no object");
  return std::move(value.as_object());
}

std::string text_of(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value != nullptr && value->is_string() ? std::string(value->as_string()) : std::string();
}

bool is_url(std::string_view text, std::string_view base) {
  const bool scheme = text.starts_with("https://") ||
                      (!base.starts_with("https://") && text.starts_with("http://"));
  // Printable, and nothing that would end the JSON string it is signed in.
  return scheme && text.size() <= kUrlBytesMax && std::ranges::all_of(text, [](unsigned char c) {
           return c > 0x20 && c < 0x7f && c != '"' && c != '\\';
         });
}

Result<std::string> url_of(const json::object& object, std::string_view name,
                           std::string_view base) {
  std::string url = text_of(object, name);
  if (!is_url(url, base)) return fail(Code::kInvalid, "the server's answer has no {}", name);
  return url;
}

bool is_word(std::string_view text) {
  return !text.empty() && text.size() <= 32 && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

bool is_token(std::string_view text) {
  return !text.empty() && text.size() <= kAcmeTokenBytesMax &&
         std::ranges::all_of(text, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_';
         });
}

AcmeProblem problem_in(const json::object& object) {
  AcmeProblem problem{.type = text_of(object, "type"), .detail = text_of(object, "detail")};
  if (problem.type.starts_with(kErrorPrefix) &&
      problem.type.size() <= kErrorPrefix.size() + kAcmeTokenBytesMax) {
    problem.type.erase(0, kErrorPrefix.size());
  } else {
    problem.type.clear();
  }
  problem.detail.resize(std::min(problem.detail.size(), kAcmeDetailBytesMax));
  for (char& c : problem.detail) c = static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  return problem;
}

AcmeProblem error_of(const json::object& object) {
  const json::value* error = object.if_contains("error");
  return error != nullptr && error->is_object() ? problem_in(error->as_object()) : AcmeProblem{};
}

Result<std::string> status_of(const json::object& object) {
  std::string status = text_of(object, "status");
  if (!is_word(status)) return fail(Code::kInvalid, "the server's answer has no status");
  return status;
}

}  // namespace

Result<AcmeDirectory> parse_acme_directory(std::string_view text, std::string_view base) {
  HOB_TRY(const json::object object, parse_object(text));
  AcmeDirectory directory;
  HOB_TRY(directory.new_nonce, url_of(object, "newNonce", base));
  HOB_TRY(directory.new_account, url_of(object, "newAccount", base));
  HOB_TRY(directory.new_order, url_of(object, "newOrder", base));
  if (const json::value* meta = object.if_contains("meta"); meta != nullptr && meta->is_object()) {
    const json::value* required = meta->as_object().if_contains("externalAccountRequired");
    directory.external_account_required =
        required != nullptr && required->is_bool() && required->as_bool();
  }
  return directory;
}

Result<AcmeOrder> parse_acme_order(std::string_view text, std::string_view base) {
  HOB_TRY(const json::object object, parse_object(text));
  AcmeOrder order{.error = error_of(object)};
  HOB_TRY(order.status, status_of(object));
  HOB_TRY(order.finalize, url_of(object, "finalize", base));
  const json::value* list = object.if_contains("authorizations");
  if (list == nullptr || !list->is_array() || list->as_array().size() > kAcmeAuthorizationsMax)
    return fail(Code::kInvalid, "the server's order has no authorizations");
  for (const json::value& each : list->as_array()) {
    if (!each.is_string() || !is_url(std::string_view(each.as_string()), base))
      return fail(Code::kInvalid, "the server's order has no authorizations");
    order.authorizations.emplace_back(each.as_string());
  }
  if (order.status == "valid") {
    HOB_TRY(order.certificate, url_of(object, "certificate", base));
  }
  return order;
}

Result<AcmeAuthorization> parse_acme_authorization(std::string_view text, std::string_view base) {
  HOB_TRY(const json::object object, parse_object(text));
  AcmeAuthorization authorization;
  HOB_TRY(authorization.status, status_of(object));
  if (const json::value* of = object.if_contains("identifier"); of != nullptr && of->is_object())
    authorization.host_name = text_of(of->as_object(), "value");
  for (char& c : authorization.host_name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  const json::value* list = object.if_contains("challenges");
  if (authorization.host_name.empty() || list == nullptr || !list->is_array() ||
      list->as_array().size() > kAcmeChallengesMax) {
    return fail(Code::kInvalid, "the server's authorization is not of a host name");
  }
  for (const json::value& each : list->as_array()) {
    if (!each.is_object()) continue;
    const json::object& fields = each.as_object();
    AcmeQuestion question{.type = text_of(fields, "type"),
                          .url = text_of(fields, "url"),
                          .token = text_of(fields, "token"),
                          .status = text_of(fields, "status"),
                          .error = error_of(fields)};
    // Kinds that we do not know look otherwise.
    if (is_word(question.type) && is_word(question.status) && is_url(question.url, base) &&
        is_token(question.token)) {
      authorization.questions.push_back(std::move(question));
    }
  }
  return authorization;
}

AcmeProblem parse_acme_problem(std::string_view text) {
  const auto object = parse_object(text);
  AcmeProblem problem = object ? problem_in(*object) : AcmeProblem{};
  if (problem.detail.empty()) problem.detail = "the server says no more";
  return problem;
}

}  // namespace hob::certify
