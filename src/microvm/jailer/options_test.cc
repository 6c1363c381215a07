#include "microvm/jailer/options.h"

#include <gtest/gtest.h>

namespace hob::microvm {
namespace {

Result<JailerOptions> read(std::vector<std::string_view> more) {
  std::vector<std::string_view> arguments = {"--id",  "vm-1", "--exec-file", "/usr/bin/hob-vmm",
                                             "--uid", "1000", "--gid",       "1001"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return read_jailer_options(arguments);
}

TEST(JailerOptions, HaveFirecrackersDefaults) {
  const auto options = read({"--", "--config-file", "/c.json"});
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_EQ(options->base, "/srv/jailer");
  EXPECT_EQ(options->cgroup_version, 1);
  EXPECT_EQ(options->parent_cgroup, "hob-vmm");
  EXPECT_EQ(options->files_max, 2048u);
  EXPECT_FALSE(options->file_bytes_max);
  EXPECT_EQ(options->uid, 1000u);
  EXPECT_EQ(options->gid, 1001u);
  EXPECT_EQ(options->rest, (std::vector<std::string>{"--config-file", "/c.json"}));
}

TEST(JailerOptions, TakeValues) {
  const auto options =
      read({"--cgroup", "cpu.shares=512", "--cgroup", "memory.limit_in_bytes=1G",
            "--resource-limit", "fsize=1000", "--resource-limit", "no-file=64", "--daemonize",
            "--new-pid-ns", "--cgroup-version", "2", "--parent-cgroup", "a/b", "--netns", "/n"});
  ASSERT_TRUE(options) << options.error().message;
  ASSERT_EQ(options->cgroups.size(), 2u);
  EXPECT_EQ(options->cgroups[1].controller, "memory");
  EXPECT_EQ(options->cgroups[1].file, "memory.limit_in_bytes");
  EXPECT_EQ(options->cgroups[1].value, "1G");
  EXPECT_EQ(options->file_bytes_max, 1000u);
  EXPECT_EQ(options->files_max, 64u);
  EXPECT_TRUE(options->daemonize && options->new_pid_namespace);
}

TEST(JailerOptions, RefuseTheRest) {
  struct Case {
    const char* name;
    std::vector<std::string_view> more;
    const char* part;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"twice", {"--id", "x"}, "'--id' was provided more than once"},
           {"unknown", {"--wings"}, "Found argument '--wings'"},
           {"without its value", {"--netns"}, "'--netns' requires a value"},
           {"a cgroup's file elsewhere", {"--cgroup", "cpu./../../x=1"}, "is no file of a cgroup"},
           {"no value", {"--cgroup", "cpu.shares="}, "CONTROLLER.FILE=VALUE"},
           {"no controller", {"--cgroup", "shares=1"}, "CONTROLLER.FILE=VALUE"},
           {"another version", {"--cgroup-version", "3"}, "is no cgroup version"},
           {"another limit", {"--resource-limit", "core=1"}, "is no resource"},
           {"no folder", {"--chroot-base-dir", ""}, "--chroot-base-dir is empty"},
           {"no number", {"--resource-limit", "fsize=much"}, "is no number"},
           {"a parent elsewhere", {"--parent-cgroup", "../x"}, "without '..'"},
           {"a parent at the root", {"--parent-cgroup", "/x"}, "without '..'"}}) {
    const auto options = read(c.more);
    ASSERT_FALSE(options) << c.name;
    EXPECT_NE(options.error().message.find(c.part), std::string::npos)
        << c.name << ": " << options.error().message;
  }
  EXPECT_FALSE(
      read_jailer_options({"--id", "a/b", "--exec-file", "/f", "--uid", "1", "--gid", "1"}));
  EXPECT_FALSE(
      read_jailer_options({"--id", "a", "--exec-file", "/..", "--uid", "1", "--gid", "1"}));
  EXPECT_FALSE(
      read_jailer_options({"--id", "a", "--exec-file", "/f", "--uid", "-1", "--gid", "1"}));
  for (const auto& [uid, gid] : {std::pair{"4294967295", "1"}, std::pair{"1", "4294967295"}}) {
    const auto options =
        read_jailer_options({"--id", "a", "--exec-file", "/f", "--uid", uid, "--gid", gid});
    ASSERT_FALSE(options) << uid << " " << gid;
    EXPECT_EQ(options.error().message, "4294967295 is no user's or group's number");
  }
  EXPECT_NE(read_jailer_options({"--id", "a"}).error().message.find("'--exec-file' is required"),
            std::string::npos);
}

}  // namespace
}  // namespace hob::microvm
