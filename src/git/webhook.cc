#include "git/webhook.h"

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>

#include "base/digest.h"
#include "git/push_hook.h"

namespace hob::git {

namespace json = boost::json;

namespace {

constexpr std::string_view kSha256 = "sha256=";
constexpr size_t kJsonDepthMax = 16;  // providers' pushes are 5 deep

std::unexpected<Error> not_signed() {
  return fail(Code::kDenied, "the delivery is not signed with this webhook's secret");
}

bool any_of_secrets(const std::vector<Secret<std::string>>& secrets, auto is_right) {
  bool right = false;
  // Each is tried, so that the time does not tell which one it was.
  for (const Secret<std::string>& secret : secrets) {
    if (!secret.reveal().empty() && is_right(secret.reveal())) right = true;
  }
  return right;
}

// Hex over the body, behind `prefix`.
bool is_hmac(std::string_view signature, std::string_view prefix, std::string_view body,
             const std::vector<Secret<std::string>>& secrets) {
  if (!signature.starts_with(prefix)) return false;
  signature.remove_prefix(prefix.size());
  return any_of_secrets(secrets, [&](const std::string& secret) {
    return equal_in_constant_time(signature, hex(hmac_sha256(secret, body)));
  });
}

// A Standard Webhooks secret is "whsec_" and base64 of the key; others are the key itself.
std::string signing_key(const std::string& secret) {
  constexpr std::string_view prefix = "whsec_";
  if (secret.starts_with(prefix)) {
    if (auto key = unbase64(std::string_view(secret).substr(prefix.size()))) return *key;
  }
  return secret;
}

// GitLab's signing token: Standard Webhooks, version 1, over "ID.TIMESTAMP.BODY"; several
// signatures may stand there, with a space between.
bool is_standard_webhook(const http::Headers& headers, std::string_view body,
                         const std::vector<Secret<std::string>>& secrets, Instant now) {
  const std::string_view timestamp = headers.get("webhook-timestamp");
  int64_t seconds = 0;
  const auto [end, error] =
      std::from_chars(timestamp.data(), timestamp.data() + timestamp.size(), seconds);
  if (error != std::errc() || end != timestamp.data() + timestamp.size()) return false;
  const int64_t now_seconds =
      std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  const int64_t slack = std::chrono::duration_cast<std::chrono::seconds>(kSignedTimeSlack).count();
  if (seconds < now_seconds - slack || seconds > now_seconds + slack) return false;
  std::string message(headers.get("webhook-id"));
  message.append(".").append(timestamp).append(".").append(body);
  return any_of_secrets(secrets, [&](const std::string& secret) {
    const Sha256 mac = hmac_sha256(signing_key(secret), message);
    const std::string want =
        "v1," + base64({reinterpret_cast<const char*>(mac.data()), mac.size()});
    bool right = false;
    std::string_view left = headers.get("webhook-signature");
    for (int tries = 0; tries < 8 && !left.empty(); ++tries) {
      const size_t space = std::min(left.find(' '), left.size());
      if (equal_in_constant_time(left.substr(0, space), want)) right = true;
      left.remove_prefix(std::min(space + 1, left.size()));
    }
    return right;
  });
}

Result<Delivery> with_id(Delivery delivery, std::string_view id) {
  if (id.empty() || id.size() > kDeliveryIdBytesMax)
    return fail(Code::kInvalid, "the delivery has no id");
  delivery.id = std::string(id);
  return delivery;
}

std::string_view first_of(const http::Headers& headers,
                          std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) {
    if (const std::string_view value = headers.get(name); !value.empty()) return value;
  }
  return {};
}

const json::value* member(const json::value& value, std::string_view name) {
  return value.is_object() ? value.as_object().if_contains(name) : nullptr;
}
std::string text_at(const json::value& value, std::string_view name) {
  const json::value* found = member(value, name);
  return found != nullptr && found->is_string() ? std::string(found->as_string()) : std::string();
}
bool true_at(const json::value& value, std::string_view name) {
  const json::value* found = member(value, name);
  return found != nullptr && found->is_bool() && found->as_bool();
}
bool is_zeros(std::string_view text) {
  return !text.empty() && text.find_first_not_of('0') == std::string_view::npos;
}

// Names that git would not take are nobody's branch.
void add_branch(Hint& hint, std::string_view name, bool deleted) {
  if (!is_kept_ref(std::string("refs/heads/").append(name))) return;
  if (hint.branches.size() >= kHintedBranchesMax) {
    hint.any = true;
    return;
  }
  hint.branches.push_back({.name = std::string(name), .deleted = deleted});
}

// GitHub, Gitea and GitLab: one ref.
void read_ref_push(Hint& hint, const json::value& push) {
  const std::string ref = text_at(push, "ref");
  add_branch(hint, branch_of(ref), true_at(push, "deleted") || is_zeros(text_at(push, "after")));
}

void read_bitbucket_cloud(Hint& hint, const json::value& body) {
  const json::value* push = member(body, "push");
  const json::value* changes = push != nullptr ? member(*push, "changes") : nullptr;
  if (changes == nullptr || !changes->is_array()) return;
  for (const json::value& change : changes->as_array()) {
    const json::value* after = member(change, "new");
    const json::value* before = member(change, "old");
    const bool deleted = after == nullptr || !after->is_object();
    const json::value* of = deleted ? before : after;
    if (of != nullptr && text_at(*of, "type") == "branch")
      add_branch(hint, text_at(*of, "name"), deleted);
  }
}

void read_bitbucket_server(Hint& hint, const json::value& body) {
  const json::value* changes = member(body, "changes");
  if (changes == nullptr || !changes->is_array()) return;
  for (const json::value& change : changes->as_array()) {
    const json::value* ref = member(change, "ref");
    if (ref == nullptr) continue;
    const std::string id = text_at(*ref, "id");
    add_branch(hint, branch_of(id), text_at(change, "type") == "DELETE");
  }
}

}  // namespace

Result<Delivery> verify_delivery(const http::Headers& headers, std::string_view body,
                                 const std::vector<Secret<std::string>>& secrets, Instant now) {
  // Gitea and Forgejo say GitHub's words, too, so they come first.
  if (const auto event = first_of(headers, {"X-Forgejo-Event", "X-Gitea-Event"}); !event.empty()) {
    const std::string_view signature = headers.get("X-Forgejo-Signature");
    const bool right = is_hmac(signature.empty() ? headers.get("X-Gitea-Signature") : signature, "",
                               body, secrets);
    if (!right) return not_signed();
    return with_id({.provider = Provider::kGitea, .event = std::string(event)},
                   first_of(headers, {"X-Forgejo-Delivery", "X-Gitea-Delivery"}));
  }
  if (const std::string_view event = headers.get("X-GitHub-Event"); !event.empty()) {
    if (!is_hmac(headers.get("X-Hub-Signature-256"), kSha256, body, secrets)) return not_signed();
    return with_id({.provider = Provider::kGithub, .event = std::string(event)},
                   headers.get("X-GitHub-Delivery"));
  }
  if (const std::string_view event = headers.get("X-Gitlab-Event"); !event.empty()) {
    // A signature that is there must be right: the plain token beside it proves less.
    const bool right = headers.find("webhook-signature") != nullptr
                           ? is_standard_webhook(headers, body, secrets, now)
                           : any_of_secrets(secrets, [&](const std::string& secret) {
                               return equal_in_constant_time(headers.get("X-Gitlab-Token"), secret);
                             });
    if (!right) return not_signed();
    return with_id({.provider = Provider::kGitlab, .event = std::string(event)},
                   first_of(headers, {"webhook-id", "Idempotency-Key", "X-Gitlab-Event-UUID"}));
  }
  if (const std::string_view event = headers.get("X-Event-Key"); !event.empty()) {
    if (!is_hmac(headers.get("X-Hub-Signature"), kSha256, body, secrets)) return not_signed();
    return with_id({.provider = Provider::kBitbucket, .event = std::string(event)},
                   first_of(headers, {"X-Request-UUID", "X-Request-Id"}));
  }
  return fail(Code::kInvalid, "no delivery of GitHub, GitLab, Gitea, Forgejo or Bitbucket");
}

Result<Hint> read_delivery(const Delivery& delivery, std::string_view body) {
  const std::string& event = delivery.event;
  const bool pushes = event == "push" || event == "Push Hook" || event == "repo:push" ||
                      event == "repo:refs_changed";
  if (!pushes && event != "delete") return Hint{};
  if (body.size() > kParsedDeliveryBytesMax) return Hint{.any = true};
  json::parse_options options;
  options.max_depth = kJsonDepthMax;
  boost::system::error_code error;
  const json::value value =
      json::parse(json::string_view(body.data(), body.size()), error, {}, options);
  if (error || !value.is_object())
    return fail(Code::kInvalid, "the delivery is no JSON object, or nested too deep");
  Hint hint;
  if (event == "delete") {
    if (text_at(value, "ref_type") == "branch") add_branch(hint, text_at(value, "ref"), true);
  } else if (event == "repo:push") {
    read_bitbucket_cloud(hint, value);
  } else if (event == "repo:refs_changed") {
    read_bitbucket_server(hint, value);
  } else {
    read_ref_push(hint, value);
  }
  return hint;
}

bool DeliveryMemory::remember(const std::string& hook, const std::string& id, Instant now) {
  Seen& seen = hooks_[hook];
  while (!seen.order.empty() &&
         (seen.order.size() >= kDeliveriesKept || seen.order.front().first + kDeliveryKept < now)) {
    seen.ids.erase(seen.order.front().second);
    seen.order.pop_front();
  }
  if (!seen.ids.insert(id).second) return false;
  seen.order.emplace_back(now, id);
  return true;
}

}  // namespace hob::git
