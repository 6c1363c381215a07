// What a task may try against the host and its neighbours. Beside each one runs a neighbour that
// must go on serving.
#pragma once

#include "sandbox/limits.h"
#include "sandbox/sandbox_suite.h"

namespace hob::sandbox {

class HostileSuite : public SandboxSuite {
 protected:
  void SetUp() override {
    SandboxSuite::SetUp();
    if (!agent_) return;
    neighbour_ = task({"/bin/httpd", "-f", "-p", "80", "-h", "/var/www"});
    ASSERT_TRUE(agent_->start(neighbour_).has_value());
  }
  void TearDown() override {
    if (agent_) EXPECT_NE(fetch(neighbour_.address, 80).find("hello"), std::string::npos);
    SandboxSuite::TearDown();
  }
  TaskSpec neighbour_;
};

TEST_P(HostileSuite, FillsItsDisk) {
  const Ended ended = run(
      script("dd if=/dev/zero of=/big bs=1M count=1000 2>&1 | grep -o 'No space left on device';"
             " echo still here; rm /big; echo x > /small && cat /small"));
  EXPECT_EQ(ended.output, "No space left on device\nstill here\nx\n");
}

TEST_P(HostileSuite, FillsItsMemory) {
  const Ended ended = run(script("exec tail /dev/zero"));
  EXPECT_EQ(ended.exit.exit_code, 137);
  EXPECT_TRUE(ended.exit.out_of_memory);
}

TEST_P(HostileSuite, FillsItsSharedMemory) {
  TaskSpec spec = script(
      "dd if=/dev/zero of=/dev/shm/x bs=1M count=100 2>&1 | grep -o 'No space left on device'");
  spec.memory_mib = 256;
  EXPECT_EQ(run(spec).output, "No space left on device\n");
}

TEST_P(HostileSuite, ForksWithoutEnd) {
  const TaskSpec spec = script("bomb() { bomb | bomb & }; bomb; while true; do sleep 1; done");
  ASSERT_TRUE(agent_->start(spec).has_value());
  while (output(spec.task).find("can't fork") == std::string::npos) ::usleep(2'000);
  EXPECT_NE(fetch(neighbour_.address, 80).find("hello"), std::string::npos);
  ASSERT_TRUE(agent_->remove(spec.task).has_value());
}

TEST_P(HostileSuite, IgnoresSigterm) {
  const TaskSpec spec = script("trap '' TERM; echo ready; while true; do sleep 0.01; done");
  ASSERT_TRUE(agent_->start(spec).has_value());
  while (output(spec.task).find("ready") == std::string::npos) ::usleep(2'000);
  ASSERT_TRUE(agent_->signal(spec.task, SIGTERM).has_value());
  ASSERT_TRUE(agent_->signal(spec.task, SIGKILL).has_value());
  EXPECT_EQ(agent_->wait(spec.task).value().exit_code, 137);
}

TEST_P(HostileSuite, PrintsWithoutEnd) {
  const TaskSpec spec = script(
      "yes 'a line that is printed again and again without end' | head -c 60000000; echo last");
  const Ended ended = run(spec);
  EXPECT_EQ(ended.exit.exit_code, 0);
  EXPECT_TRUE(ended.output.ends_with("last\n"));
  const auto log = agent_->sandbox().log_path(spec.task);
  uint64_t total = 0;
  for (const auto& entry : std::filesystem::directory_iterator(log.parent_path())) {
    total += entry.file_size();
    EXPECT_LE(entry.file_size(), kLogBytesMax + 64 * 1024) << entry.path();
  }
  EXPECT_LE(total, 3 * (kLogBytesMax + 64 * 1024));
  EXPECT_TRUE(std::filesystem::exists(log.string() + ".1")) << "rotated, not truncated";
}

TEST_P(HostileSuite, PrintsALineWithoutEnd) {
  const Ended ended = run(script("dd if=/dev/zero bs=1M count=4 2>/dev/null; echo; echo last"));
  EXPECT_EQ(ended.exit.exit_code, 0);
  EXPECT_TRUE(ended.output.ends_with("last\n"));
}

TEST_P(HostileSuite, LosesItsMonitor) {
  const TaskSpec spec = script("while true; do sleep 1; done");
  ASSERT_TRUE(agent_->start(spec).has_value());
  // The fixture's place is in the command line of this test's monitors only.
  shell("for p in $(pgrep -f '" + spec.task +
        "'); do grep -aq hob-monitor /proc/$p/comm && kill -9 $p; done");
  const auto exit = agent_->wait(spec.task);
  ASSERT_TRUE(exit.has_value()) << exit.error().message;
  EXPECT_EQ(exit->exit_code, 137);
  EXPECT_FALSE(exit->out_of_memory);
  ASSERT_TRUE(agent_->remove(spec.task).has_value());
}

TEST_P(HostileSuite, LinksThatLeadOut) {
  // The image's own files are links to the host's: what we look up must not follow them.
  const auto evil = directory_ / "evil";
  ASSERT_EQ(
      shell("set -e; mkdir -p " + evil.string() + "/etc; cd " + evil.string() +
            "; ln -s ../../../../../../../../etc/passwd etc/passwd; ln -s /etc/group etc/group;"
            " ln -s /etc srv; mkfifo etc/hosts"),
      "");
  TaskSpec spec = script("pwd; ls /srv/made | wc -l");
  spec.image.layers = {evil, directory_ / "layer"};
  spec.image.config.working_directory = "/srv/made";
  spec.image.config.user = "0";
  const Ended ended = run(spec);
  EXPECT_EQ(ended.output, "/etc/made\n0\n");
  EXPECT_FALSE(std::filesystem::exists("/etc/made"));
}

TEST_P(HostileSuite, CannotReachItsNeighbourOrTheMachine) {
  const Ended ended = run(script(
      "nc -w 1 " + neighbour_.address +
      " 80 < /dev/null && echo reached a neighbour; nc -w 1 198.18.0.1 22 < /dev/null && echo"
      " reached the router; echo done"));
  EXPECT_EQ(ended.output.find("reached"), std::string::npos) << ended.output;
  EXPECT_NE(ended.output.find("done"), std::string::npos);
}

}  // namespace hob::sandbox
