// What a push may do, as tables; and how the hook and control speak.
#include <gtest/gtest.h>

#include "git/cgi_answer.h"
#include "git/deploy_order.h"
#include "git/limits.h"
#include "git/push_decision.h"
#include "git/push_hook.h"
#include "git/remote_path.h"

namespace hob::git {
namespace {

const std::string kOld(40, 'a');
const std::string kNew(40, 'b');
const std::string kNone(40, '0');

RefUpdate moves(const std::string& ref) { return {ref, kOld, kNew}; }
RefUpdate makes(const std::string& ref) { return {ref, "", kNew}; }
RefUpdate deletes(const std::string& ref) { return {ref, kOld, ""}; }

PushedService follows(const std::string& branch) { return {.exists = true, .branch = branch}; }

std::string show(const PushDecision& decision) {
  if (!decision.refused.empty()) return "refuse";
  std::string text;
  if (!decision.deploys.empty())
    text += (decision.begins ? "begin with " : "deploy ") + decision.deploys;
  for (size_t i = 0; i < decision.notes.size(); ++i) text += " note";
  return text.empty() ? "keep" : text;
}

TEST(PushDecision, Decides) {
  struct Case {
    const char* name;
    PushedService service;
    std::vector<RefUpdate> updates;
    const char* want;
  };
  for (const Case& c : {
           Case{"the branch that is followed",
                follows("main"),
                {moves("refs/heads/main")},
                "deploy main"},
           Case{"another branch is kept", follows("main"), {makes("refs/heads/fix")}, " note"},
           Case{"a tag is kept", follows("main"), {makes("refs/tags/v1")}, "keep"},
           Case{"all of it at once",
                follows("main"),
                {makes("refs/heads/fix"), moves("refs/heads/main"), makes("refs/tags/v1")},
                "deploy main note"},
           Case{"another branch goes", follows("main"), {deletes("refs/heads/fix")}, "keep"},
           Case{"the followed branch must stay",
                follows("main"),
                {deletes("refs/heads/main")},
                "refuse"},
           Case{"a new service follows what is pushed",
                {},
                {makes("refs/heads/trunk")},
                "begin with trunk"},
           Case{"of several, main",
                {},
                {makes("refs/heads/fix"), makes("refs/heads/main")},
                "begin with main note"},
           Case{"or master",
                {},
                {makes("refs/heads/fix"), makes("refs/heads/master")},
                "begin with master note"},
           Case{"of several without either nobody knows",
                {},
                {makes("refs/heads/a"), makes("refs/heads/b")},
                "refuse"},
           Case{"a tag alone makes no service", {}, {makes("refs/tags/v1")}, "keep"},
           Case{"a service that was deployed in another way",
                {.exists = true},
                {makes("refs/heads/trunk")},
                "begin with trunk"},
           Case{"a service made anew follows anew",
                {.branch = "main"},
                {makes("refs/heads/trunk")},
                "begin with trunk"},
           Case{"other refs", follows("main"), {makes("refs/hob/x")}, "refuse"},
           Case{"notes", follows("main"), {makes("refs/notes/commits")}, "refuse"},
           Case{"a branch that looks like an option",
                follows("main"),
                {makes("refs/heads/--output=x")},
                "refuse"},
       }) {
    EXPECT_EQ(show(decide_push({c.service, c.updates})), c.want) << c.name;
  }
}

TEST(PushHook, ReadsWhatItWrites) {
  const std::string text = "/data/x.git/objects/tmp_objdir-incoming-1\n" + kOld + " " + kNew +
                           " refs/heads/main\n" + kNone + " " + kNew + " refs/tags/a b\n\n";
  for (size_t i = 0; i < text.size(); ++i) EXPECT_FALSE(is_whole_question(text.substr(0, i)));
  const auto question = parse_question(text);
  ASSERT_TRUE(question);
  EXPECT_EQ(question->quarantine, "/data/x.git/objects/tmp_objdir-incoming-1");
  EXPECT_EQ(question->updates,
            (std::vector<RefUpdate>{{"refs/heads/main", kOld, kNew}, {"refs/tags/a b", "", kNew}}));
  // A push that only deletes has nothing in quarantine.
  const auto deletion = parse_question("\n" + kOld + " " + kNone + " refs/heads/x\n\n");
  ASSERT_TRUE(deletion);
  EXPECT_EQ(deletion->updates, (std::vector<RefUpdate>{{"refs/heads/x", kOld, ""}}));
}

TEST(PushHook, RefusesWhatIsNoQuestion) {
  const std::string line = kOld + " " + kNew + " refs/heads/x\n";
  EXPECT_FALSE(parse_question(""));
  EXPECT_FALSE(parse_question("\n\n"));
  EXPECT_FALSE(parse_question("q\n" + line));
  EXPECT_FALSE(parse_question("q\n" + kOld + " refs/heads/x\n\n"));
  EXPECT_FALSE(parse_question("q\n" + kOld + " " + kNew + " \n\n"));
  std::string many = "q\n";
  for (size_t i = 0; i < kUpdatesMax; ++i) many += line;
  EXPECT_TRUE(parse_question(many + "\n"));
  EXPECT_FALSE(parse_question(many + line + "\n"));
}

TEST(PushHook, SaysOneHarmlessLine) {
  EXPECT_EQ(say_line("built"), "say built\n");
  EXPECT_EQ(say_line("\x1b]0;x\x07\naccept"), "say ?]0;x??accept\n");
  EXPECT_EQ(say_line(std::string(10 * kLineBytesMax, 'x')).size(), kLineBytesMax + 5);
}

TEST(PushHook, KnowsRefNames) {
  for (const char* name : {"refs/heads/main", "refs/heads/feature/a-b_c.d", "refs/tags/v1.0",
                           "refs/heads/ünïcode", "refs/heads/a@b"}) {
    EXPECT_TRUE(is_kept_ref(name)) << name;
  }
  for (const char* name :
       {"refs/heads/",         "refs/heads/-x",  "refs/heads/a..b",      "refs/heads/a//b",
        "refs/heads/a@{1}",    "refs/heads/.a",  "refs/heads/a/.b",      "refs/heads/a.lock",
        "refs/heads/a.lock/b", "refs/heads/a b", "refs/heads/a\nb",      "refs/heads/a*",
        "refs/heads/a\\b",     "refs/heads/a.",  "refs/heads/a/",        "refs/heads/@",
        "refs/heads/a/-b",     "HEAD",           "refs/hob/deploying/x", ""}) {
    EXPECT_FALSE(is_kept_ref(name)) << name;
  }
  EXPECT_TRUE(is_kept_ref("refs/heads/" + std::string(kRefBytesMax - 11, 'x')));
  EXPECT_FALSE(is_kept_ref("refs/heads/" + std::string(kRefBytesMax - 10, 'x')));
}

TEST(DeployOrder, TakesNothingThatAProgramCouldMistake) {
  const DeployOrder order{.service = "shop",
                          .commit = kNew,
                          .fetch_user = "AWS",
                          .fetch_password = "a.b=",
                          .access_key = "AKIA1",
                          .secret_key = "s/+="};
  const auto again = decode_deploy_order(encode(order));
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(again->commit, kNew);
  EXPECT_EQ(again->secret_key, "s/+=");
  const auto refused = [&](auto change) {
    DeployOrder changed = order;
    change(changed);
    return !decode_deploy_order(encode(changed));
  };
  EXPECT_TRUE(refused([](DeployOrder& o) { o.service = "--data=/"; }));
  EXPECT_TRUE(refused([](DeployOrder& o) { o.service = "../shop"; }));
  EXPECT_TRUE(refused([](DeployOrder& o) { o.commit = "main"; }));
  EXPECT_TRUE(refused([](DeployOrder& o) { o.commit += "0"; }));
  EXPECT_TRUE(refused([](DeployOrder& o) { o.secret_key = "a\nb"; }));
  EXPECT_TRUE(refused([](DeployOrder& o) { o.access_key.clear(); }));
  EXPECT_FALSE(decode_deploy_order("{}"));
  EXPECT_FALSE(decode_deploy_order("no JSON"));
}

TEST(RemotePath, KnowsTheSmartProtocolAlone) {
  const auto advertised =
      parse_remote_path("GET", "/git/app-1.git/info/refs", "service=git-receive-pack");
  ASSERT_TRUE(advertised);
  EXPECT_EQ(advertised->service, "app-1");
  EXPECT_EQ(advertised->git, GitService::kReceivePack);
  EXPECT_TRUE(advertised->advertises);
  EXPECT_TRUE(parse_remote_path("GET", "/git/app1/info/refs", "service=git-upload-pack"));
  EXPECT_TRUE(parse_remote_path("POST", "/git/app1.git/git-upload-pack", ""));
  struct Case {
    const char* method;
    const char* path;
    const char* query;
  };
  for (const Case& c : {
           Case{"GET", "/git/app1.git/info/refs", ""},  // the dumb protocol
           Case{"GET", "/git/app1.git/HEAD", ""},
           Case{"GET", "/git/app1.git/objects/info/packs", ""},
           Case{"POST", "/git/app1.git/git-upload-archive", ""},
           Case{"POST", "/git/app1.git/git-upload-pack", "x=1"},
           Case{"GET", "/git/app1.git/git-upload-pack", ""},
           Case{"POST", "/git/../app1.git/git-upload-pack", ""},
           Case{"POST", "/git/ap/../app1.git/git-upload-pack", ""},
           Case{"POST", "/git/..git/git-upload-pack", ""},
           Case{"POST", "/git/a%2fb1.git/git-upload-pack", ""},
           Case{"POST", "/git//git-upload-pack", ""},
           Case{"POST", "/git", ""},
       }) {
    EXPECT_FALSE(parse_remote_path(c.method, c.path, c.query)) << c.path;
  }
}

TEST(CgiAnswer, IsCutAtTheEmptyLine) {
  const auto plain = parse_cgi_head("Content-Type: text/plain\r\nExpires: x\r\n\r\nbody");
  ASSERT_TRUE(plain && *plain);
  EXPECT_EQ((*plain)->status, 200);
  EXPECT_EQ((*plain)->bytes, 40u);
  const auto refused = parse_cgi_head("Status: 403 Forbidden\n\n");
  ASSERT_TRUE(refused && *refused);
  EXPECT_EQ((*refused)->status, 403);
  EXPECT_FALSE(*parse_cgi_head("Content-Type: text/plain\r\n"));
  EXPECT_FALSE(parse_cgi_head("nonsense\n\n"));
  EXPECT_FALSE(parse_cgi_head("Status: 99999\n\n"));
  EXPECT_FALSE(parse_cgi_head("A: " + std::string(kHeaderBytesMax, 'x')));
}

}  // namespace
}  // namespace hob::git
