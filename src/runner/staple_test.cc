#include "runner/staple.h"

#include <gtest/gtest.h>

namespace hob::runner {
namespace {

using namespace std::chrono_literals;
constexpr Instant t0{1'000'000s};

std::string shown(const StapleAction& action) {
  if (const auto* asked = std::get_if<AskResponder>(&action))
    return asked->next ? "ask about the next" : "ask";
  if (std::holds_alternative<ShowNext>(action)) return "show the next";
  if (std::holds_alternative<NoStaple>(action)) return "nothing";
  return "wake at " + std::to_string((std::get<StapleWakeAt>(action).at - t0) / 1s) + " s";
}

TEST(Staple, NoAccountHoldsUpTheOthers) {
  using Keys = std::vector<std::string>;
  EXPECT_EQ(next_staples({"c/a/1", "c/a/2", "c/a/3", "c/b/1"}, {}),
            (Keys{"c/a/1", "c/a/2", "c/b/1"}));
  EXPECT_EQ(next_staples({"c/a/1", "c/a/3", "c/b/1"}, {"c/a/1"}), (Keys{"c/a/3", "c/b/1"}));
  EXPECT_EQ(next_staples({"c/a/3", "c/b/1", "c/c/1"}, {"c/a/1", "c/a/2", "c/b/2"}),
            (Keys{"c/b/1"}));
}

TEST(Staple, Decides) {
  const cluster::Certificate fresh{.certificate = "c"};
  const cluster::Certificate told{.certificate = "c", .staple = "s", .staple_again_at = t0 + 60s};
  const cluster::Certificate waiting{
      .certificate = "c", .next_certificate = "n", .next_key = "k", .next_at = t0};
  cluster::Certificate tried = waiting;
  tried.staple_again_at = t0 + 5s;
  struct Case {
    const char* name;
    StapleView view;
    Duration now;
    const char* want;
  };
  for (const Case& c : {
           Case{"nobody to ask", {fresh}, 0s, "nothing"},
           Case{"not asked yet", {fresh, true}, 0s, "ask"},
           Case{"told lately", {told, true}, 59s, "wake at 60 s"},
           Case{"told long ago", {told, true}, 60s, "ask"},
           Case{"a successor must have its own first",
                {waiting, true, true},
                0s,
                "ask about the next"},
           Case{"not at once again", {tried, true, true}, 4s, "wake at 5 s"},
           Case{"it waits no longer than that", {tried, true, true}, 120s, "show the next"},
           Case{"nobody to ask about it", {waiting, true, false}, 0s, "show the next"},
       }) {
    EXPECT_EQ(shown(decide_staple(c.view, t0 + c.now)), c.want) << c.name;
  }
}

TEST(Staple, IsAskedForAgainInTheMiddleOfItsLife) {
  EXPECT_EQ(staple_again_at(t0 + 4h, t0), t0 + 2h);
  EXPECT_EQ(staple_again_at(t0 + 1s, t0), t0 + 1min);
  EXPECT_EQ(staple_again_at(t0 + 24h * 3'600, t0), t0 + 24h * 3);
  EXPECT_EQ(staple_retry_at(1, t0), t0 + 1min);
  EXPECT_EQ(staple_retry_at(3, t0), t0 + 4min);
  EXPECT_EQ(staple_retry_at(100, t0), t0 + 1h);
}

TEST(Staple, ASuccessorTakesThePlaceWithNothingOfTheOneBefore) {
  cluster::Certificate certificate{.id = "id",
                                   .certificate = "c",
                                   .key = "k",
                                   .staple = "s",
                                   .staple_again_at = t0,
                                   .next_certificate = "n",
                                   .next_key = "l",
                                   .next_at = t0};
  take_place(certificate);
  EXPECT_EQ(certificate.certificate, "n");
  EXPECT_EQ(certificate.key, "l");
  EXPECT_EQ(certificate.staple, "");
  EXPECT_FALSE(certificate.staple_again_at);
  EXPECT_EQ(certificate.next_certificate + certificate.next_key, "");
}

}  // namespace
}  // namespace hob::runner
