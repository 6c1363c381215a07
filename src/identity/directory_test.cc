#include "identity/directory.h"

#include <gtest/gtest.h>

#include <set>

#include "base/testing_loop.h"
#include "identity/keys.h"
#include "identity/policy.h"
#include "store/memory_store.h"

namespace hob::identity {
namespace {

using namespace std::chrono_literals;

class SetClock final : public Clock {
 public:
  Instant now() const override { return at; }
  Instant at{1'795'471'909s};
};

struct Room {
  explicit Room(Executor executor)
      : store(store::make_memory_store(executor)), directory(*store, executor, clock, random) {}
  SetClock clock{};
  SystemRandom random{};
  std::unique_ptr<store::Store> store;
  Directory directory;
};

template <class F>
void with_room(F body) {
  testing::run_loop([&](Executor executor) -> Async<> {
    Room room(executor);
    const Result<void> started = co_await room.directory.start();
    EXPECT_TRUE(started.has_value());
    co_await body(room, executor);
    co_await room.directory.stop();
  });
}

TEST(Directory, MakesTheFirstAccountOnceAndKeepsItsKey) {
  with_room([](Room& room, Executor) -> Async<> {
    for (int start = 0; start < 2; ++start) {
      const Result<void> made = co_await room.directory.ensure_account(
          "000000000001", "default", "AKIA1", Secret<std::string>("secret"));
      EXPECT_TRUE(made.has_value());
      EXPECT_EQ(room.directory.accounts().size(), 1u);
    }
    const std::optional<AccessKey> key = room.directory.find_key("AKIA1");
    EXPECT_TRUE(key.has_value());
    if (!key) co_return;
    EXPECT_EQ(key->arn, "arn:aws:iam::000000000001:root");
    EXPECT_EQ(key->user_id, "000000000001");
    EXPECT_EQ(key->secret, "secret");
    EXPECT_FALSE(room.directory.find_key("AKIA2").has_value());
    EXPECT_FALSE(room.directory.key_lookup()("AKIA2").has_value());
  });
}

TEST(Directory, RefusesBadAccounts) {
  with_room([](Room& room, Executor) -> Async<> {
    const Secret<std::string> secret("secret");
    Result<void> made = co_await room.directory.ensure_account("1", "short", "AKIA1", secret);
    EXPECT_EQ(made.error().code, Code::kInvalid);
    made = co_await room.directory.ensure_account("00000000000a", "letters", "AKIA1", secret);
    EXPECT_EQ(made.error().code, Code::kInvalid);
    made = co_await room.directory.ensure_account("000000000001", "no key", "", secret);
    EXPECT_EQ(made.error().code, Code::kInvalid);
    made = co_await room.directory.ensure_account("000000000001", "first", "AKIA1", secret);
    EXPECT_TRUE(made.has_value());
    made = co_await room.directory.ensure_account("000000000002", "takes its key", "AKIA1", secret);
    EXPECT_EQ(made.error().code, Code::kConflict);
    const Result<NewAccount> nameless = co_await room.directory.create_account("");
    EXPECT_EQ(nameless.error().code, Code::kInvalid);
    EXPECT_EQ(room.directory.accounts().size(), 1u);
  });
}

TEST(Directory, CreatesAccountsWithKeysOfTheirOwn) {
  with_room([](Room& room, Executor) -> Async<> {
    std::set<std::string> ids;
    for (int i = 0; i < 5; ++i) {
      const Result<NewAccount> made = co_await room.directory.create_account("team");
      EXPECT_TRUE(made.has_value());
      if (!made) co_return;
      EXPECT_EQ(made->account.id.size(), 12u);
      EXPECT_EQ(made->key.id.size(), 20u);
      EXPECT_EQ(made->key.secret.size(), 40u);
      EXPECT_EQ(room.directory.find_key(made->key.id)->account, made->account.id);
      ids.insert(made->account.id);
    }
    EXPECT_EQ(ids.size(), 5u);
  });
}

TEST(Directory, FollowsTheStoreAndOutlivesBadRecords) {
  with_room([](Room& room, Executor executor) -> Async<> {
    const Result<NewAccount> made = co_await room.directory.create_account("team");
    AccessKey key = made->key;
    key.active = false;
    store::Transaction transaction{
        .put = {{access_key_key(key.id), encode(key)}, {access_key_key("AKIABAD"), "{"}}};
    const Result<store::Revision> written = co_await room.store->commit(std::move(transaction));
    EXPECT_TRUE(written.has_value());
    const Result<NewAccount> after =
        co_await room.directory.create_account("seen later than the above");
    EXPECT_TRUE(after.has_value());
    EXPECT_FALSE(room.directory.find_key(key.id).has_value());
    EXPECT_FALSE(room.directory.find_key("AKIABAD").has_value());

    // Another one, started later, reads the same; it knows the other's registry passwords.
    Directory second(*room.store, executor, room.clock, room.random);
    const Result<void> started = co_await second.start();
    EXPECT_TRUE(started.has_value());
    EXPECT_EQ(second.accounts().size(), 2u);
    const RegistryPassword password =
        room.directory.mint_registry_password(made->account.id, made->key.arn);
    EXPECT_TRUE(second.check_registry_password(password.password).has_value());
    co_await second.stop();
  });
}

TEST(RegistryPassword, HoldsForTwelveHoursAndItsAccountsLife) {
  with_room([](Room& room, Executor) -> Async<> {
    const Result<NewAccount> made = co_await room.directory.create_account("team");
    const RegistryPassword password =
        room.directory.mint_registry_password(made->account.id, made->key.arn);
    EXPECT_EQ(password.expires_at - room.clock.at, Duration(12h));
    Result<RegistryGrant> grant = room.directory.check_registry_password(password.password);
    EXPECT_TRUE(grant.has_value());
    EXPECT_EQ(grant->account, made->account.id);
    EXPECT_EQ(grant->arn, made->key.arn);
    EXPECT_EQ(grant->scope, RegistryScope::kPush);

    const RegistryPassword pull =
        room.directory.mint_pull_password(made->account.id, made->key.arn, 60s);
    EXPECT_EQ(room.directory.check_registry_password(pull.password)->scope, RegistryScope::kPull);
    room.clock.at += 60s;
    EXPECT_EQ(room.directory.check_registry_password(pull.password).error().code, Code::kDenied);
    EXPECT_TRUE(room.directory.check_registry_password(password.password).has_value());
    room.clock.at += 12h;
    EXPECT_EQ(room.directory.check_registry_password(password.password).error().code,
              Code::kDenied);

    const RegistryPassword stranger = room.directory.mint_registry_password("999999999999", "arn");
    EXPECT_EQ(room.directory.check_registry_password(stranger.password).error().code,
              Code::kDenied);
  });
}

TEST(RegistryPassword, RefusesWhatItDidNotSign) {
  const Secret<std::string> secret("secret");
  const Instant now{1'795'471'909s};
  const RegistryGrant grant{.account = "000000000001", .arn = "arn", .expires_at = now + 1h};
  const std::string good = sign_grant(secret, grant);
  ASSERT_TRUE(check_grant(secret, good, now).has_value());
  EXPECT_FALSE(check_grant(Secret<std::string>("another"), good, now).has_value());
  for (size_t at = 0; at < good.size(); ++at) {
    std::string changed = good;
    changed[at] = changed[at] == 'x' ? 'y' : 'x';
    EXPECT_FALSE(check_grant(secret, changed, now).has_value()) << at;
  }
  for (const std::string& bad :
       {std::string(), std::string("."), std::string("a.b"), std::string(5000, 'a')}) {
    EXPECT_FALSE(check_grant(secret, bad, now).has_value());
  }
}

TEST(Policy, LetsRootDoAllInItsAccountAndNobodyElseAnything) {
  struct Case {
    const char* name;
    aws::Caller caller;
    const char* action;
    const char* resource;
    bool allowed;
  };
  const aws::Caller root{.account = "000000000001", .arn = "arn:aws:iam::000000000001:root"};
  const aws::Caller user{.account = "000000000001", .arn = "arn:aws:iam::000000000001:user/eve"};
  for (const Case& c : {
           Case{"root, any", root, "apprunner:CreateService", "*", true},
           Case{"root, its own", root, "apprunner:DeleteService",
                "arn:aws:apprunner:r:000000000001:service/a/b", true},
           Case{"root, another's", root, "apprunner:DeleteService",
                "arn:aws:apprunner:r:000000000002:service/a/b", false},
           Case{"a user", user, "apprunner:CreateService", "*", false},
           Case{"a user may know itself", user, "sts:GetCallerIdentity", "*", true},
           Case{"root of another account's ARN",
                {.account = "000000000002", .arn = root.arn},
                "a:B",
                "*",
                false},
           Case{"nobody", {}, "apprunner:CreateService", "*", false},
       }) {
    EXPECT_EQ(authorize(c.caller, c.action, c.resource).has_value(), c.allowed) << c.name;
  }
  EXPECT_EQ(
      authorize(user, "apprunner:CreateService", "*").error().message,
      "User: arn:aws:iam::000000000001:user/eve is not authorized to perform: "
      "apprunner:CreateService on "
      "resource: * because no identity-based policy allows the apprunner:CreateService action");
}

}  // namespace
}  // namespace hob::identity
