#include "api/routing.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "aws/wire_error.h"

namespace hob::api {

namespace {

constexpr std::string_view kOwnService = "hob";  // for the command line, no service of AWS

std::string_view form_value(const aws::Call& call, std::string_view name) {
  const auto found =
      std::ranges::find(call.form, name, &std::pair<std::string, std::string>::first);
  return found == call.form.end() ? std::string_view() : std::string_view(found->second);
}

aws::Service* find_service(const Services& services, auto is_it) {
  const auto found =
      std::ranges::find_if(services, [&](const auto& service) { return is_it(service->model()); });
  return found == services.end() ? nullptr : found->get();
}

// Services that answer their clients in XML without being asked to by a form. All others' clients
// read JSON.
constexpr std::array<std::string_view, 6> kXmlServices = {"cloudfront", "route53",     "s3",
                                                          "s3express",  "s3-outposts", "s3control"};

// Says which there are, by the names that signatures have.
Error unknown_service(const Services& services, std::string_view name) {
  std::string known;
  for (const auto& service : services) {
    const aws::ServiceModel& model = service->model();
    if (model.signing_name == kOwnService) continue;
    known += (known.empty() ? "" : ", ") + std::string(model.signing_name);
  }
  return Error{.code = Code::kInvalid,
               .message = "Hob does not have the service '" + std::string(name.substr(0, 64)) +
                          "'; it has: " + known + ".",
               .aws_code = "UnknownOperationException"};
}

Error malformed_form() {
  return Error{.code = Code::kInvalid,
               .message = "The form is malformed, or has too many parameters.",
               .aws_code = "SerializationException"};
}

}  // namespace

Destination route(const Services& services, const http::Request& request,
                  const std::optional<aws::Signature>& signature, std::string body) {
  Destination out;
  const std::string* target = request.headers.find("x-amz-target");
  const bool has_form =
      request.headers.get("content-type").starts_with("application/x-www-form-urlencoded");
  const bool is_form =
      target == nullptr && (has_form || !request.query.empty() || request.method == "GET");
  if (is_form) {
    out.protocol = aws::Protocol::kQuery;
    // A presigned call has its parameters in the query string, whatever its method.
    std::string text = request.query;
    if (has_form && !body.empty()) text.append(text.empty() ? "" : "&").append(body);
    auto form = http::parse_query(text);
    if (form)
      out.call.form = std::move(*form);
    else
      out.failure = malformed_form();
    out.call.operation = form_value(out.call, "Action");
    // Of a presigned call: no parameters of the operation.
    std::erase_if(out.call.form, [](const auto& pair) {
      return pair.first.starts_with("X-Amz-") || pair.first == "Action" || pair.first == "Version";
    });
    if (form && out.call.operation.empty()) {
      out.failure = Error{
          .code = Code::kInvalid,
          .message = "The request has neither an X-Amz-Target header nor an Action parameter.",
          .aws_code = "MissingAction"};
    }
  } else {
    out.call.body = std::move(body);
  }

  std::string_view prefix;
  if (target != nullptr) {
    const size_t dot = target->rfind('.');
    prefix = std::string_view(*target).substr(0, dot);
    out.call.operation = dot == std::string::npos ? "" : target->substr(dot + 1);
  }
  if (signature) {
    out.service = find_service(
        services, [&](const auto& model) { return model.signing_name == signature->service; });
    if (out.service == nullptr) {
      // What is wrong with its form matters less than that nobody would read it.
      out.failure = unknown_service(services, signature->service);
      const bool reads_xml =
          has_form || !out.call.operation.empty() ||
          std::ranges::find(kXmlServices, signature->service) != kXmlServices.end();
      out.protocol = target == nullptr && reads_xml ? aws::Protocol::kQuery : aws::Protocol::kJson;
    }
  } else {
    out.service = find_service(services, [&](const auto& model) {
      return is_form ? model.protocol == aws::Protocol::kQuery
                     : model.target_prefix == prefix && !prefix.empty();
    });
  }
  if (out.service == nullptr) {
    if (!out.failure) out.failure = aws::unknown_operation(out.call.operation);
    return out;
  }
  const aws::ServiceModel& model = out.service->model();
  out.protocol = model.protocol;
  const bool speaks = model.protocol == aws::Protocol::kQuery ? is_form : target != nullptr;
  if (!out.failure && !speaks) out.failure = aws::unknown_operation(out.call.operation);
  // A signature for one service does not open another.
  if (!out.failure && target != nullptr && prefix != model.target_prefix) {
    out.failure = aws::invalid_signature("Credential should be scoped to correct service.");
  }
  return out;
}

}  // namespace hob::api
