#include "cli/words.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace hob::cli {
namespace {

constexpr int64_t kAgeCountMax = 100'000;  // of any unit: below what a Duration holds

struct Form {
  std::string_view member;
  std::string_view is;
};
constexpr std::array<Form, 6> kForms = {{
    {"serviceName", "4 to 40 letters, digits, - and _, beginning with a letter or digit"},
    {"domainName", "a host name, such as shop.example.com"},
    {"imageIdentifier", "REGISTRY/NAME:TAG, such as docker.io/library/nginx:latest"},
    {"repositoryName", "small letters and digits, with one of . _ - / between them"},
    {"path", "a path, such as /healthz"},
    {"port", "a number from 1 to 65535"},
}};
constexpr std::string_view kOtherForm = "it has characters that may not be there";

std::string_view form_of(std::string_view member) {
  const size_t dot = member.rfind('.');
  if (dot != std::string_view::npos) member.remove_prefix(dot + 1);
  const auto known = std::ranges::find(kForms, member, &Form::member);
  return known == kForms.end() ? kOtherForm : known->is;
}

}  // namespace

std::string without_patterns(std::string_view message) {
  constexpr std::string_view kFails =
      "' failed to satisfy constraint: Member must satisfy regular expression pattern: ";
  constexpr std::string_view kNext = "; Value ";
  std::string out;
  size_t at = 0;
  while ((at = message.find(kFails)) != std::string_view::npos) {
    const std::string_view before = message.substr(0, at);
    out += before;
    out += "' is not written as it must be: ";
    out += form_of(before.substr(before.rfind('\'') + 1));
    message.remove_prefix(at + kFails.size());
    const size_t next = message.find(kNext);
    message.remove_prefix(std::min(next, message.size()));
  }
  return out.append(message);
}

std::string without_told(std::string message, const std::deque<std::string>& told) {
  constexpr std::string_view kLeads = "; it printed last:";
  const size_t head = message.find('\n');
  if (head == std::string::npos) return message;
  for (size_t from = head + 1; from <= message.size();) {
    const size_t end = std::min(message.find('\n', from), message.size());
    const std::string_view line = std::string_view(message).substr(from, end - from);
    if (std::ranges::none_of(told, [&](const std::string& each) { return each.starts_with(line); }))
      return message;
    from = end + 1;
  }
  message.resize(head);
  if (message.ends_with(kLeads))
    message.resize(message.size() - kLeads.size());
  else if (message.ends_with(':'))
    message.pop_back();
  return message;
}

Result<Duration> parse_age(std::string_view text) {
  int64_t count = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  const std::string_view unit(end, static_cast<size_t>(text.data() + text.size() - end));
  if (error == std::errc{} && count > 0 && count <= kAgeCountMax) {
    if (unit == "s") return std::chrono::seconds(count);
    if (unit == "m") return std::chrono::minutes(count);
    if (unit == "h") return std::chrono::hours(count);
    if (unit == "d") return std::chrono::hours(24 * count);
  }
  return fail(Code::kInvalid, "'{}' is no time; give one as 30s, 10m, 2h or 1d", text);
}

}  // namespace hob::cli
