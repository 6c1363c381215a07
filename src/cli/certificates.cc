#include "cli/certificates.h"

#include <boost/json.hpp>

#include "cli/terminal.h"

namespace hob::cli {
namespace {

namespace json = boost::json;

std::vector<std::string> texts_at(const json::object& object, std::string_view name) {
  std::vector<std::string> texts;
  const json::value* list = object.if_contains(name);
  if (list == nullptr || !list->is_array()) return texts;
  for (const json::value& each : list->as_array()) {
    if (each.is_string()) texts.emplace_back(each.as_string());
  }
  return texts;
}

std::optional<Instant> instant_at(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  return Instant(Duration(static_cast<int64_t>(value->to_number<double>() * 1000)));
}

std::string day_of(Instant at) { return iso8601(at).substr(0, 10); }

}  // namespace

Async<Result<std::vector<CertificateLine>>> list_certificates(Api api) {
  HOB_CO_TRY(json::object answer, co_await api.call("hob", "Hob.ListCertificates", {}));
  std::vector<CertificateLine> lines;
  const json::value* list = answer.if_contains("Certificates");
  if (list == nullptr || !list->is_array()) co_return lines;
  for (const json::value& each : list->as_array()) {
    if (!each.is_object()) continue;
    const json::object& object = each.as_object();
    const json::value* removed = object.if_contains("Removed");
    lines.push_back({.name = text_at(object, "Name"),
                     .source = text_at(object, "Source"),
                     .host_names = texts_at(object, "HostNames"),
                     .shown_for = texts_at(object, "ShownFor"),
                     .not_after = instant_at(object, "NotAfter").value_or(Instant{}),
                     .renew_at = instant_at(object, "RenewAt"),
                     .removed = removed != nullptr && removed->is_bool() && removed->as_bool(),
                     .reason = text_at(object, "Reason")});
  }
  co_return lines;
}

std::vector<std::string> certificate_warnings(const std::vector<CertificateLine>& lines,
                                              Instant now) {
  std::vector<std::string> warnings;
  for (const CertificateLine& line : lines) {
    if (line.shown_for.empty() && line.renew_at) continue;  // another one is shown
    const std::string name = printable(line.name);
    const char* ends = line.not_after <= now ? "ended" : "ends";
    if (!line.renew_at) {
      if (!line.reason.empty())
        warnings.push_back(fmt::format("certificate {}: {}", name, printable(line.reason)));
      if (line.not_after - now >= kCertificateWarnBefore) continue;
      warnings.push_back(
          fmt::format("certificate {} {} on {}: add its successor with: hob certificate add CHAIN "
                      "KEY --name '{}'",
                      name, ends, day_of(line.not_after), name));
    } else if (now - *line.renew_at >= kRenewalLateAfter) {
      warnings.push_back(fmt::format("certificate of {} {} on {} and could not be renewed: {}",
                                     name, ends, day_of(line.not_after), printable(line.reason)));
    }
  }
  return warnings;
}

}  // namespace hob::cli
