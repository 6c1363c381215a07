#include "runner/domain.h"

#include <gtest/gtest.h>

namespace hob::runner {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};

std::string shown(const DomainAction& action) {
  if (std::holds_alternative<LookUp>(action)) return "look up";
  if (std::holds_alternative<ObtainCertificate>(action)) return "obtain";
  if (std::holds_alternative<BindDomain>(action)) return "bind";
  if (std::holds_alternative<RemoveDomain>(action)) return "remove";
  if (const auto* wake = std::get_if<DomainWakeAt>(&action))
    return "wake at " + std::to_string((wake->at - t0) / 1s) + " s";
  const Domain& domain = std::get<PutDomain>(action).domain;
  std::string text = word(domain.status);
  if (domain.proven) text += ", proven";
  if (domain.next_look_at)
    text += ", look at " + std::to_string((*domain.next_look_at - t0) / 1s) + " s";
  return text;
}

Domain domain(DomainStatus status) {
  return {.name = "shop.example",
          .www = false,
          .status = status,
          .proofs = {{.name = "_a.shop.example", .value = "_b.hob"}},
          .created_at = t0};
}
Domain proven(DomainStatus status, std::string certificate = {}) {
  Domain made = domain(status);
  made.proven = true;
  made.certificate = std::move(certificate);
  made.renew_at = t0 + 100s;
  return made;
}
Domain with(Domain made, void (*change)(Domain&)) {
  change(made);
  return made;
}

TEST(Domain, Decides) {
  using enum DomainStatus;
  const std::map<std::string, std::string> bound = {{"shop.example", "c1"}};
  const Domain pending = domain(kPendingCertificateDnsValidation);
  const auto tried = [](Domain& made) { made.next_attempt_at = t0 + 60s; };
  struct Case {
    const char* name;
    DomainView view;
    Duration now;
    const char* want;
  };
  for (const Case& c : {
           Case{"made", {domain(kCreating)}, 0s, "PENDING_CERTIFICATE_DNS_VALIDATION"},
           Case{"the DNS is asked", {pending}, 0s, "look up"},
           Case{"nothing there: asked again soon", {.domain = pending, .has_address = false}, 0s,
                "PENDING_CERTIFICATE_DNS_VALIDATION, look at 2 s"},
           Case{"and later as it grows old", {.domain = pending, .has_address = false}, 1'000s,
                "PENDING_CERTIFICATE_DNS_VALIDATION, look at 1100 s"},
           Case{"not before that",
                {with(pending, [](Domain& made) { made.next_look_at = t0 + 2s; })}, 1s,
                "wake at 2 s"},
           Case{"the alias is seen",
                {with(pending, [](Domain& made) { made.proofs[0].seen = true; })}, 0s,
                "BINDING_CERTIFICATE, proven"},
           Case{"it leads here: the authority may ask",
                {.domain = pending, .acme = true, .has_address = true}, 0s, "obtain"},
           Case{"not while it refused lately",
                {.domain = with(pending, tried), .acme = true, .has_address = true}, 0s,
                "PENDING_CERTIFICATE_DNS_VALIDATION, look at 2 s"},
           Case{"an address alone proves nothing without one",
                {.domain = pending, .has_address = true}, 0s,
                "PENDING_CERTIFICATE_DNS_VALIDATION, look at 2 s"},
           Case{"nobody can own it", {with(pending, [](Domain& made) { made.name = "a.test"; })}, 0s,
                "BINDING_CERTIFICATE, proven"},
           Case{"72 hours", {pending}, 72h, "CREATE_FAILED"},
           Case{"proven", {proven(kBindingCertificate)}, 0s, "obtain"},
           Case{"the last try failed", {with(proven(kBindingCertificate), tried)}, 59s,
                "wake at 60 s"},
           Case{"tried again", {with(proven(kBindingCertificate), tried)}, 60s, "obtain"},
           Case{"a certificate", {proven(kBindingCertificate, "c1")}, 0s, "bind"},
           Case{"not shown yet", {.domain = proven(kBindingCertificate, "c1"), .bound = bound}, 0s,
                "wake at 0 s"},
           Case{"shown",
                {.domain = proven(kBindingCertificate, "c1"), .bound = bound, .shown = true}, 0s,
                "ACTIVE, proven"},
           Case{"an edge that is away is not waited for",
                {with(proven(kBindingCertificate, "c1"), [](Domain& made) { made.bound_at = t0; }),
                 false, bound},
                10s, "ACTIVE, proven"},
           Case{"active", {proven(kActive, "c1"), false, bound}, 99s, "wake at 100 s"},
           Case{"old", {proven(kActive, "c1"), false, bound}, 100s, "obtain"},
           Case{"renewed", {proven(kActive, "c2"), false, bound}, 0s, "bind"},
           Case{"deleted", {proven(kDeleting, "c1"), false, bound}, 0s, "remove"},
           Case{"with its service", {proven(kActive, "c1"), true}, 0s, "remove"},
       }) {
    EXPECT_EQ(shown(decide_domain(c.view, t0 + c.now)), c.want) << c.name;
  }
}

GivenCertificate given(std::string id, Duration from, Duration to) {
  return {.name = id,
          .id = id,
          .host_names = {"*.example"},
          .not_before = t0 + from,
          .not_after = t0 + to};
}
GivenCertificate removed(GivenCertificate made) {
  made.removed_at = t0;
  return made;
}

TEST(Domain, AGivenCertificateGoesBeforeItsOwn) {
  using enum DomainStatus;
  using Bound = std::map<std::string, std::string>;
  struct Case {
    const char* name;
    Domain domain;
    std::vector<GivenCertificate> given;
    Bound bound;
    Duration now;
    const char* want;
  };
  for (const Case& c : {
           Case{"none is asked for",
                proven(kBindingCertificate),
                {given("g", 0s, 50s)},
                {},
                0s,
                "bind g"},
           Case{"it is not a proof",
                domain(kPendingCertificateDnsValidation),
                {given("g", 0s, 50s)},
                {},
                0s,
                "look up"},
           Case{"nor is one renewed",
                proven(kActive, "c"),
                {given("g", 0s, 500s)},
                {{"shop.example", "g"}},
                200s,
                "wake at 333 s"},
           Case{"near its end one is made, while it holds",
                proven(kActive),
                {given("g", 0s, 300s)},
                {{"shop.example", "g"}},
                200s,
                "obtain"},
           Case{"and waits for that end",
                proven(kActive, "c"),
                {given("g", 0s, 90s)},
                {{"shop.example", "g"}},
                61s,
                "wake at 90 s"},
           Case{"or the last try to make it is waited for",
                with(proven(kActive), [](Domain& made) { made.next_attempt_at = t0 + 80s; }),
                {given("g", 0s, 90s)},
                {{"shop.example", "g"}},
                61s,
                "wake at 80 s"},
           Case{"over its own",
                proven(kActive, "c"),
                {given("g", 0s, 50s)},
                {{"shop.example", "c"}},
                0s,
                "bind g"},
           Case{"the one issued last",
                proven(kActive, "c"),
                {given("h", 1s, 50s), given("g", 0s, 90s)},
                {{"shop.example", "g"}},
                1s,
                "bind h"},
           Case{"not before it holds",
                proven(kActive, "c"),
                {given("h", 1s, 50s)},
                {{"shop.example", "c"}},
                0s,
                "wake at 100 s"},
           Case{"ended: its own",
                proven(kActive, "c"),
                {given("g", 0s, 50s)},
                {{"shop.example", "g"}},
                50s,
                "bind c"},
           Case{"ended, and there is none: shown until there is",
                proven(kActive),
                {given("g", 0s, 50s)},
                {{"shop.example", "g"}},
                50s,
                "obtain"},
           Case{"taken away, likewise",
                proven(kActive),
                {removed(given("g", 0s, 50s))},
                {{"shop.example", "g"}},
                0s,
                "obtain"},
           Case{"for other names",
                proven(kActive, "c"),
                {{.id = "g", .host_names = {"other.example"}, .not_after = t0 + 50s}},
                {{"shop.example", "c"}},
                0s,
                "wake at 100 s"},
       }) {
    const DomainAction action =
        decide_domain({.domain = c.domain, .bound = c.bound, .given = c.given}, t0 + c.now);
    std::string text = shown(action);
    if (const auto* bind = std::get_if<BindDomain>(&action))
      text += " " + bind->certificates.at("shop.example");
    EXPECT_EQ(text, c.want) << c.name;
  }
}

TEST(Domain, AWildcardWaitsWhereAnAuthorityWouldAskByDns) {
  DomainView view{.domain = proven(DomainStatus::kBindingCertificate), .acme = true};
  view.domain.name = "*.shop.example";
  const DomainAction first = decide_domain(view, t0);
  ASSERT_TRUE(std::holds_alternative<PutDomain>(first));
  view.domain = std::get<PutDomain>(first).domain;
  EXPECT_NE(view.domain.reason.find("hob certificate add"), std::string::npos);
  EXPECT_EQ(shown(decide_domain(view, t0)), "wake at 21600 s");
}

TEST(Domain, TriesAreFurtherAndFurtherApart) {
  EXPECT_EQ(domain_retry_at(1, 0s, t0), t0 + 2min);
  EXPECT_EQ(domain_retry_at(2, 0s, t0), t0 + 4min);
  EXPECT_EQ(domain_retry_at(100, 0s, t0), t0 + 6h);
  EXPECT_EQ(domain_retry_at(1, 1h, t0), t0 + 1h) << "as long as the authority says";
}

TEST(Domain, NamesAreCheckedOnce) {
  EXPECT_EQ(parse_domain_name("Shop.Example", "hob.localhost"), "shop.example");
  EXPECT_EQ(parse_domain_name("*.a-1.example", "hob.localhost"), "*.a-1.example");
  for (const std::string& bad :
       {std::string(""), std::string("shop"), std::string("*.shop"), std::string("a.*.shop"),
        std::string("a..b"), std::string(".a.b"), std::string("a.b."), std::string("-a.b"),
        std::string("a_b.c"), std::string("1.2.3.4"), std::string("hob.localhost"),
        std::string("x.hob.localhost"), std::string(64, 'a') + ".b"}) {
    EXPECT_FALSE(parse_domain_name(bad, "hob.localhost")) << bad;
  }
}

}  // namespace
}  // namespace hob::runner
