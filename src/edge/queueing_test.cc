// What a loop decides about requests, without sockets: rows of dispatch, waiting and failing.
#include "edge/queueing.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>

namespace hob::edge {
namespace {

constexpr uint64_t kBegan = 1'000'000;  // milliseconds

struct Request final : QueuedRequest {
  using QueuedRequest::clear;
  using QueuedRequest::deadline_ms_;
  using QueuedRequest::service_;
  using QueuedRequest::target_;
  std::optional<Turn> told{};
  std::function<void()> when_told{};
  char at() const { return target_ == nullptr ? '-' : target_->shared->task.value.front(); }
};

// A service with one target for each letter.
class QueuesTest : public testing::Test {
 protected:
  void targets(const std::string& letters, int limit = 1) {
    link::Route route{.service = "s",
                      .host_names = {"s.local"},
                      .max_concurrency = limit,
                      .queue_timeout = Duration(10'000),
                      .sticky = Duration(60'000)};
    for (size_t i = 0; i < letters.size(); ++i) {
      route.targets.push_back({.task = TaskId{std::string(1, letters[i])},
                               .address = fmt::format("198.18.0.{}", 10 + i),
                               .port = 80});
    }
    queues_.apply(*book_.compile({.version = ++version_, .routes = {route}}), now());
  }
  LoopTime now() const { return {.us = ms_ * 1'000, .ms = ms_}; }
  SharedTarget& shared(char letter) {
    for (const auto& [key, target] : book_.targets()) {
      if (target->task.value.front() == letter) return *target;
    }
    ADD_FAILURE() << letter;
    return *book_.targets().begin()->second;
  }
  Turn send(Request& request) {
    request.service_ = queues_.find("s.local")->service;
    queues_.begin(request, now());
    return queues_.dispatch(request, now());
  }
  Turn send_to(Request& request, char own) {
    const Destination& way = *queues_.find("s.local");
    const std::string version = way.service->pools.front()->shared->token;
    queues_.recall(request, way, {.version = version, .target = shared(own).token});
    return send(request);
  }
  static void tell(QueuedRequest& of, Turn turn) {
    auto& request = static_cast<Request&>(of);
    request.told = turn;
    if (request.when_told) request.when_told();
  }
  // Its client has gone: the object is as good as new.
  void leave(Request& request) {
    queues_.stop_waiting(request, now());
    queues_.release(request);
    request.clear();
  }
  // What a loop does after its turn.
  void after() {
    for (const std::string& id : std::exchange(look_again_, {})) queues_.wake_service(id, now());
  }
  // A request that is held at the time it asked for.
  Turn look(Request& request) {
    ms_ = std::max(ms_, queues_.due(request));
    return queues_.look(request, now());
  }

  RouteBook book_{1};
  int64_t version_ = 0;
  uint64_t ms_ = kBegan;
  std::set<std::string> look_again_;
  std::set<std::string> asked_;  // versions
  Queues queues_{{},
                 {.given = [](QueuedRequest& of) { tell(of, Turn::kGiven); },
                  .waits = [](QueuedRequest& of) { tell(of, Turn::kWaits); },
                  .refused = [](QueuedRequest& of, Turn why) { tell(of, why); },
                  .unlisted = [](Target&) {},
                  .look_again = [this](const std::string& id) { look_again_.insert(id); },
                  .ask =
                      [this](const std::shared_ptr<SharedPool>& pool) {
                        asked_.insert(pool->version);
                        pool->asked.store(false);
                      }}};
};

TEST_F(QueuesTest, FirstComeFirstServed) {
  targets("a");
  Request one, two, three;
  EXPECT_EQ(send(one), Turn::kGiven);
  EXPECT_EQ(send(two), Turn::kWaits);
  EXPECT_EQ(send(three), Turn::kWaits);
  queues_.release(one);
  after();
  EXPECT_EQ(two.told, Turn::kGiven);
  EXPECT_EQ(three.told, std::nullopt);
  queues_.stop_waiting(three, now());
  queues_.release(two);
}

TEST_F(QueuesTest, WaitsAsLongAsTheQueueAllows) {
  targets("a");
  shared('a').close();
  Request request;
  EXPECT_EQ(send(request), Turn::kWaits);
  EXPECT_EQ(look(request), Turn::kWaits);
  EXPECT_EQ(look(request), Turn::kNoTarget);
  EXPECT_EQ(ms_, kBegan + 10'000);
  queues_.stop_waiting(request, now());
}

TEST_F(QueuesTest, ARefusedRequestGoesToAnotherTargetAndRestsWhenThereIsNone) {
  targets("ab");
  Request request;
  EXPECT_EQ(send(request), Turn::kGiven);
  const char first = request.at();
  EXPECT_EQ(queues_.connect_failed(request, false, now()), Turn::kGiven);
  EXPECT_NE(request.at(), first);
  EXPECT_EQ(queues_.connect_failed(request, false, now()), Turn::kWaits);
  const uint64_t rests_since = ms_;
  EXPECT_EQ(look(request), Turn::kGiven);
  EXPECT_GT(ms_, rests_since);
  queues_.release(request);
}

// Seed 131: its target had been asleep when it was refused, and was free again before the other one
// woke. It waited for that alone, with all who came after it.
TEST_F(QueuesTest, WhatFailedIsTakenAfterASecondIfItComesFreeLater) {
  targets("a", 2);
  Request first, second;
  EXPECT_EQ(send(first), Turn::kGiven);
  targets("ab", 2);
  shared('a').close();
  shared('b').close();
  EXPECT_EQ(queues_.connect_failed(first, false, now()), Turn::kWaits);
  shared('a').open();
  EXPECT_EQ(send(second), Turn::kWaits);
  queues_.wake_service("s", now());
  EXPECT_EQ(first.told, std::nullopt);
  EXPECT_EQ(look(first), Turn::kGiven);
  EXPECT_EQ(ms_, kBegan + 1'000);
  EXPECT_EQ(first.at(), 'a');
  queues_.wake_service("s", now());
  EXPECT_EQ(second.told, Turn::kGiven);
  queues_.release(first);
  queues_.release(second);
}

TEST_F(QueuesTest, AClientWaitsForItsOwnTargetAndIsInNobodysWay) {
  targets("ab");
  Request holds, returns, third;
  EXPECT_EQ(send_to(holds, 'a'), Turn::kGiven);
  EXPECT_EQ(holds.at(), 'a');
  EXPECT_EQ(send_to(returns, 'a'), Turn::kWaits) << "though b is free";
  EXPECT_EQ(send(third), Turn::kWaits) << "until after this turn";
  after();
  EXPECT_EQ(third.told, Turn::kGiven);
  EXPECT_EQ(returns.told, std::nullopt);
  queues_.release(third);
  EXPECT_EQ(look(returns), Turn::kGiven) << "after a second, to another";
  EXPECT_EQ(returns.at(), 'b');
  queues_.release(holds);
  queues_.release(returns);
}

// It was unhealthy for a moment. Its requests have gone on.
TEST_F(QueuesTest, ATargetThatComesBackHasTheRequestsThatItHad) {
  targets("a");
  Request one, two;
  EXPECT_EQ(send(one), Turn::kGiven);
  targets("");
  targets("a");
  EXPECT_EQ(send(two), Turn::kWaits);
  queues_.release(one);
  after();
  EXPECT_EQ(two.told, Turn::kGiven);
  queues_.release(two);
}

TEST_F(QueuesTest, WhoWaitsForAServiceThatGoesIsTold) {
  targets("a");
  shared('a').close();
  Request request;
  EXPECT_EQ(send(request), Turn::kWaits);
  queues_.apply(*book_.compile({.version = ++version_}), now());
  EXPECT_EQ(request.told, Turn::kStopped);
}

// It rests until its target listens again; meanwhile the service is deleted, or paused.
TEST_F(QueuesTest, WhoRestsOverADeletionOrAPauseIsTold) {
  targets("a");
  Request deleted, paused;
  EXPECT_EQ(send(deleted), Turn::kGiven);
  EXPECT_EQ(queues_.connect_failed(deleted, false, now()), Turn::kWaits);
  queues_.apply(*book_.compile({.version = ++version_}), now());
  EXPECT_EQ(look(deleted), Turn::kStopped);

  targets("a");
  EXPECT_EQ(send(paused), Turn::kGiven);
  EXPECT_EQ(queues_.connect_failed(paused, false, now()), Turn::kWaits);
  link::Route route{.service = "s", .host_names = {"s.local"}, .state = link::RouteState::kPaused};
  queues_.apply(*book_.compile({.version = ++version_, .routes = {route}}), now());
  EXPECT_EQ(look(paused), Turn::kPaused);
}

// Another service of the same name, as a loop sees it that missed the table between.
TEST_F(QueuesTest, WhoWaitsForAServiceThatIsReplacedIsTold) {
  targets("");
  Request request;
  EXPECT_EQ(send(request), Turn::kWaits);
  static_cast<void>(book_.compile({.version = ++version_}));
  targets("a");
  EXPECT_EQ(request.told, Turn::kStopped);
}

// So long as it is remembered, no other one may take its address.
TEST_F(QueuesTest, WhatFailedIsKeptUntilTheRequestHasEnded) {
  targets("a");
  Request request;
  EXPECT_EQ(send(request), Turn::kGiven);
  const std::weak_ptr<Target> target = request.target_;
  EXPECT_EQ(queues_.connect_failed(request, false, now()), Turn::kWaits);
  targets("b");
  EXPECT_FALSE(target.expired());
  request.clear();
  EXPECT_TRUE(target.expired());
}

TEST_F(QueuesTest, ALostRequestCostsARetryOnlyWhereATargetIsLeft) {
  targets("a");
  Request lonely;
  EXPECT_EQ(send(lonely), Turn::kGiven);
  EXPECT_FALSE(queues_.lost(lonely, true, now()));
  EXPECT_EQ(lonely.service_->counts->retries.value(), 0U);
  targets("ab");
  Request request;
  EXPECT_EQ(send(request), Turn::kGiven);
  const char first = request.at();
  EXPECT_TRUE(queues_.lost(request, true, now()));
  EXPECT_EQ(request.at(), '-');
  EXPECT_EQ(request.service_->counts->retries.value(), 1U);
  EXPECT_EQ(queues_.dispatch(request, now()), Turn::kGiven);
  EXPECT_NE(request.at(), first);
  queues_.release(request);
}

// The last request of a target that is to sleep was lost: its own version is told, though the
// request goes to another one's target.
TEST_F(QueuesTest, AClosedTargetsVersionHearsOfItsLastRequestsLoss) {
  link::Route route{
      .service = "s",
      .host_names = {"s.local"},
      .max_concurrency = 1,
      .targets = {{.task = TaskId{"a"}, .address = "198.18.0.10", .port = 80, .version = "old"}},
      .versions = {{.id = "old", .weight = 1}, {.id = "new", .weight = 0}}};
  queues_.apply(*book_.compile({.version = ++version_, .routes = {route}}), now());
  Request request;
  EXPECT_EQ(send(request), Turn::kGiven);
  EXPECT_EQ(request.at(), 'a');
  route.targets.push_back(
      {.task = TaskId{"b"}, .address = "198.18.0.11", .port = 80, .version = "new"});
  route.versions[1].weight = 1;
  queues_.apply(*book_.compile({.version = ++version_, .routes = {route}}), now());
  shared('a').close();
  asked_.clear();
  EXPECT_TRUE(queues_.lost(request, true, now()));
  EXPECT_EQ(asked_, std::set<std::string>{"old"});
  EXPECT_EQ(queues_.dispatch(request, now()), Turn::kGiven);
  EXPECT_EQ(request.at(), 'b');
  queues_.release(request);
}

// Two streams of one client, whose connection breaks when the first is given or refused.
TEST_F(QueuesTest, WhoIsToldMayTakeTheNextOneAlong) {
  targets("a");
  Request holds, first, second, third;
  first.when_told = [&] { leave(second); };
  EXPECT_EQ(send(holds), Turn::kGiven);
  for (Request* request : {&first, &second, &third}) EXPECT_EQ(send(*request), Turn::kWaits);
  targets("a", 4);
  EXPECT_EQ(first.told, Turn::kGiven);
  EXPECT_EQ(second.told, std::nullopt);
  EXPECT_EQ(third.told, Turn::kGiven);
  for (Request* request : {&holds, &first, &third}) queues_.release(*request);
}

TEST_F(QueuesTest, WhoLosesItsVersionMayTakeTheNextOneAlong) {
  link::Route route{.service = "s",
                    .host_names = {"s.local"},
                    .versions = {{.id = "old", .weight = 1}, {.id = "new", .weight = 0}}};
  queues_.apply(*book_.compile({.version = ++version_, .routes = {route}}), now());
  Request first, second, third;
  first.when_told = [&] { leave(second); };
  for (Request* request : {&first, &second, &third}) EXPECT_EQ(send(*request), Turn::kWaits);
  std::swap(route.versions[0].weight, route.versions[1].weight);
  queues_.apply(*book_.compile({.version = ++version_, .routes = {route}}), now());
  EXPECT_EQ(first.told, Turn::kWaits);
  EXPECT_EQ(second.told, std::nullopt);
  EXPECT_EQ(third.told, Turn::kWaits);
  leave(first);
  leave(third);
}

TEST_F(QueuesTest, ARequestHasTheTimeOfItsVersion) {
  const auto version = [](std::string id, int weight, int64_t request_timeout) {
    return link::RouteVersion{
        .id = std::move(id),
        .weight = weight,
        .settings = link::RequestSettings{.request_timeout = Duration(request_timeout)}};
  };
  link::Route route{.service = "s",
                    .host_names = {"s.local"},
                    .request_timeout = Duration(9),
                    .queue_timeout = Duration(50'000),
                    .versions = {version("old", 1, 3'000), version("new", 0, 0)}};
  const auto apply = [&] {
    queues_.apply(*book_.compile({.version = ++version_, .routes = {route}}), now());
  };
  apply();
  Request request;
  EXPECT_EQ(send(request), Turn::kWaits);
  EXPECT_EQ(request.deadline_ms_, kBegan + 3'000);
  // It goes over, and has waited for a second by then.
  ms_ += 1'000;
  std::swap(route.versions[0].weight, route.versions[1].weight);
  apply();
  EXPECT_EQ(request.deadline_ms_, ~uint64_t{0});
  ms_ += 1'000;
  std::swap(route.versions[0].weight, route.versions[1].weight);
  apply();
  EXPECT_EQ(request.deadline_ms_, kBegan + 3'000) << "from its beginning on";
  leave(request);
  // An older control says nothing of versions: as the route says.
  for (link::RouteVersion& each : route.versions) each.settings.reset();
  apply();
  EXPECT_EQ(send(request), Turn::kWaits);
  EXPECT_EQ(request.deadline_ms_, ms_ + 9);
  leave(request);
}

// Of two versions one alone keeps its clients.
TEST_F(QueuesTest, AVersionThatIsNotStickyHasNoClientsOfItsOwn) {
  link::Route route{
      .service = "s",
      .host_names = {"s.local"},
      .max_concurrency = 100,
      .targets = {{.task = TaskId{"a"}, .address = "198.18.0.10", .port = 80, .version = "old"},
                  {.task = TaskId{"b"}, .address = "198.18.0.11", .port = 80, .version = "new"}},
      .versions = {{.id = "old", .weight = 1, .settings = link::RequestSettings{}},
                   {.id = "new",
                    .weight = 1,
                    .settings = link::RequestSettings{.sticky = Duration(60'000)}}}};
  queues_.apply(*book_.compile({.version = ++version_, .routes = {route}}), now());
  const Destination& way = *queues_.find("s.local");
  EXPECT_TRUE(way.service->sticky);
  std::set<char> of_old, of_new;
  for (int i = 0; i < 50; ++i) {
    for (const auto& pool : way.service->pools) {
      const bool old = pool->shared->version == "old";
      Request request;
      request.service_ = way.service;
      queues_.recall(request, way,
                     {.version = pool->shared->token, .target = shared(old ? 'a' : 'b').token});
      EXPECT_EQ(send(request), Turn::kGiven);
      (old ? of_old : of_new).insert(request.at());
      queues_.release(request);
    }
  }
  EXPECT_EQ(of_old.size(), 2U);
  EXPECT_EQ(of_new, std::set<char>{'b'});
}

}  // namespace
}  // namespace hob::edge
