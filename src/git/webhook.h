// Webhooks of GitHub, GitLab, Gitea, Forgejo and Bitbucket: whether a delivery is what it says, and
// which branches it speaks of.
//
// A delivery is a hint and no more: whoever takes it asks the repository itself for the branch's
// head, at the address that was configured, never one out of the delivery. Signatures are over the
// bytes as they came, compared in constant time, before anything is parsed; nothing unsigned is
// taken. Pure but for DeliveryMemory; any thread.
#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/http.h"
#include "base/log.h"
#include "base/result.h"
#include "base/time.h"

namespace hob::git {

inline constexpr size_t kDeliveryBytesMax = 32 * 1024 * 1024;  // GitHub's cap is 25 MB; beyond: 413
// Larger ones are not parsed: they may speak of any branch.
inline constexpr size_t kParsedDeliveryBytesMax = 1024 * 1024;
inline constexpr size_t kHintedBranchesMax = 100;
inline constexpr size_t kDeliveryIdBytesMax = 128;
inline constexpr size_t kDeliveriesKept = 1'000;              // ids of one hook
inline constexpr Duration kDeliveryKept{7 * 24 * 3'600'000};  // or for so long
inline constexpr Duration kSignedTimeSlack{5 * 60'000};       // Standard Webhooks' own tolerance

enum class Provider { kGithub, kGitlab, kGitea, kBitbucket };

struct Delivery {
  Provider provider = Provider::kGithub;
  std::string id{};     // what a repeated delivery repeats
  std::string event{};  // the provider's word: "push", "Push Hook", "repo:push"
};

// kDenied: not signed with one of `secrets` (two while one is being replaced; none: nothing is
// taken). kInvalid: no provider's delivery, or without an id.
Result<Delivery> verify_delivery(const http::Headers& headers, std::string_view body,
                                 const std::vector<Secret<std::string>>& secrets, Instant now);

struct HintedBranch {
  std::string name{};
  bool deleted = false;
  bool operator==(const HintedBranch&) const = default;
};

struct Hint {
  bool any = false;  // of any branch: too large to look at, or cut short
  std::vector<HintedBranch> branches{};
  bool operator==(const Hint&) const = default;
};

// What a verified delivery speaks of; events that move no branch (a ping, a comment, a tag) speak
// of none. kInvalid: no JSON of the provider's form.
Result<Hint> read_delivery(const Delivery& delivery, std::string_view body);

// Which deliveries were seen. Forgotten when the process ends: a repeated one then costs one
// question to the repository.
class DeliveryMemory {
 public:
  // False: this hook had it before.
  bool remember(const std::string& hook, const std::string& id, Instant now);
  void forget(const std::string& hook) { hooks_.erase(hook); }

 private:
  struct Seen {
    std::deque<std::pair<Instant, std::string>> order{};
    std::set<std::string> ids{};
  };
  std::map<std::string, Seen> hooks_;  // bounded by the number of hooks there are
};

}  // namespace hob::git
