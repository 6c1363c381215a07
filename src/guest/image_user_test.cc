#include "guest/image_user.h"

#include <gtest/gtest.h>

namespace hob::guest {
namespace {

constexpr const char* kPasswd =
    "root:x:0:0:root:/root:/bin/sh\n# a comment: "
    "x:1:1\nwww-data:x:33:33:www:/var/www:/bin/false\nbroken:x\n"
    "1000:x:5:6::/odd:\napp:x:1000:1000::/home/app:/bin/sh\nfar:x:70000:70000::/:\nlast:x:9:9";
constexpr const char* kGroup =
    "root:x:0:\nwww-data:x:33:\nstaff:x:50:app,www-data\nextra:x:4:app\nagain:x:4:app\nbad:x:x:"
    "app\n";

std::string show(const Result<ImageUser>& user) {
  if (!user) return user.error().message;
  std::string text = fmt::format("{}:{} {}", user->user, user->group, user->home);
  for (const uint32_t group : user->groups) text += fmt::format(" +{}", group);
  return text;
}

TEST(ImageUser, Resolves) {
  struct Case {
    const char* user;
    const char* want;
  };
  for (const Case& c : {
           Case{"", "0:0 /root"},
           Case{"root", "0:0 /root"},
           Case{"www-data", "33:33 /var/www +50"},
           Case{"app", "1000:1000 /home/app +4 +50"},
           Case{"app:staff", "1000:50 /home/app"},
           Case{"app:7", "1000:7 /home/app"},
           Case{"33", "33:33 /var/www +50"},
           Case{"1000", "5:6 /odd"},  // a name that is a number goes first
           Case{"4711", "4711:0 /"},
           Case{"4711:4712", "4711:4712 /"},
           Case{":50", "0:50 /root"},
           Case{"last", "9:9 /"},
           Case{"nobody", "unable to find user nobody: no matching entries in passwd file"},
           Case{"broken", "unable to find user broken: no matching entries in passwd file"},
           Case{"app:nobody", "unable to find group nobody: no matching entries in group file"},
           Case{"-1", "unable to find user -1: no matching entries in passwd file"},
           Case{"far", "user 70000:70000 is beyond the 65536 ids that a task has"},
           Case{"65536", "user 65536:0 is beyond the 65536 ids that a task has"},
           Case{"4294967296", "unable to find user 4294967296: no matching entries in passwd file"},
       }) {
    EXPECT_EQ(show(resolve_user(c.user, kPasswd, kGroup)), c.want) << c.user;
  }
}

TEST(ImageUser, AnImageWithoutAccountsHasRootAndNumbers) {
  EXPECT_EQ(show(resolve_user("", "", "")), "0:0 /root");
  EXPECT_EQ(show(resolve_user("1000:1000", "", "")), "1000:1000 /");
}

TEST(ImageUser, TakesAtMostSoManyGroups) {
  std::string group;
  for (int i = 0; i < 1000; ++i) group += fmt::format("g{}:x:{}:app\n", i, i + 1);
  EXPECT_EQ(resolve_user("app", kPasswd, group)->groups.size(), kGroupsMax);
}

}  // namespace
}  // namespace hob::guest
