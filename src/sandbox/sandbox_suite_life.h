// The sandbox contract, as tests: what runs, as whom, with what; how it ends; how it outlives the
// agent.
#pragma once

#include "sandbox/sandbox_suite.h"

namespace hob::sandbox {

TEST_P(SandboxSuite, ServesHttpToTheVpc) {
  const TaskSpec spec = task({"/bin/httpd", "-f", "-p", "80", "-h", "/var/www"});
  const auto started = agent_->start(spec);
  ASSERT_TRUE(started.has_value()) << started.error().message;
  EXPECT_NE(fetch(spec.address, 80).find("hello"), std::string::npos);
}

TEST_P(SandboxSuite, TellsHowATaskEnded) {
  struct Case {
    const char* script;
    int exit_code;
    const char* output;
  };
  for (const Case& c : {Case{"echo out; echo err >&2; exit 0", 0, "out\nerr\n"},
                        Case{"exit 7", 7, ""}, Case{"kill -TERM $$; kill -KILL $$", 0, nullptr}}) {
    // The first process of a process namespace does not die of its own signals, so the last one
    // ends with 0.
    const Ended ended = run(script(c.script));
    EXPECT_EQ(ended.exit.exit_code, c.exit_code) << c.script;
    EXPECT_FALSE(ended.exit.out_of_memory) << c.script;
    if (c.output != nullptr) EXPECT_EQ(ended.output, c.output) << c.script;
  }
}

TEST_P(SandboxSuite, RunsAsTheImageSays) {
  struct Case {
    const char* user;
    const char* output;
  };
  for (const Case& c : {Case{"", "uid=0(root) gid=0(root)\n"},
                        Case{"app", "uid=1000(app) gid=1000(app) groups=50(staff)\n"},
                        Case{"1000:staff", "uid=1000(app) gid=50(staff)\n"},
                        Case{"4711", "uid=4711 gid=0(root)\n"}}) {
    TaskSpec spec = task({"/bin/id"});
    spec.image.config.user = c.user;
    EXPECT_EQ(run(spec).output, c.output) << c.user;
  }
}

TEST_P(SandboxSuite, GivesTheEnvironmentTheFilesAndTheDirectory) {
  TaskSpec spec = script(
      "pwd; echo $HOSTNAME $A $B $HOME; hostname; cat /etc/resolv.conf /etc/hosts; echo x > /tmp/x "
      "&& cat /tmp/x;"
      " ls -ld . | cut -c1-10");
  spec.image.config.environment = {"A=image", "B=image"};
  spec.image.config.working_directory = "/srv/new/place";
  spec.environment = {{"B", "task"}};
  const std::string name = spec.host_name;
  const std::string address = spec.address;
  EXPECT_EQ(run(spec).output,
            "/srv/new/place\n" + name + " image task /root\n" + name +
                "\nnameserver 198.18.0.2\noptions ndots:0\n127.0.0.1\tlocalhost\n" + address +
                "\t" + name + "\nx\ndrwxr-xr-x\n");
}

TEST_P(SandboxSuite, MergesEntryPointAndCommand) {
  TaskSpec spec = task({});
  spec.image.config.entry_point = {"/bin/echo", "image"};
  spec.image.config.command = {"command"};
  EXPECT_EQ(run(spec).output, "image command\n");
}

TEST_P(SandboxSuite, ConfinesAsDockerDoes) {
  // Each line prints what must be so; the capability mask is Docker's default set (capsh
  // --decode=00000000a80425fb).
  EXPECT_EQ(run(script("grep -E 'Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp:' /proc/self/status")).output,
            "CapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:"
            "\t00000000a80425fb\nNoNewPrivs:\t0\n"
            "Seccomp:\t2\n");
  EXPECT_EQ(run(script("mount -t tmpfs x /tmp 2>/dev/null && echo mounted; echo 1 > "
                       "/proc/sys/kernel/panic && echo set;"
                       " echo x > /sys/kernel/x && echo made; mknod /tmp/d b 7 0 && echo device;"
                       " cat /proc/kcore | head -c 1; cat /proc/1/uid_map | grep -c ' 0 *0 '"))
                .output.find("mounted"),
            std::string::npos);
  // Nothing of the host's: no other task's or host's processes, one network device. A file between
  // them, because ps may see the other end of a pipe between its fork and its exec, nameless.
  const std::string seen =
      run(script("ps > /tmp/ps; grep -vc -E 'PID|ps|sh' /tmp/ps; ls /sys/class/net")).output;
  EXPECT_EQ(seen, "0\neth0\nlo\n");
}

TEST_P(SandboxSuite, SeesItsOwnLimits) {
  TaskSpec spec = script(
      "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat "
      "/sys/fs/cgroup/memory.max");
  spec.memory_mib = 96;
  EXPECT_EQ(run(spec).output, std::to_string(96 * 1024 * 1024) + "\n");
}

TEST_P(SandboxSuite, LayersAreSharedAndNeverWrittenTo) {
  const Ended first =
      run(script("echo changed > /etc/passwd; rm -r /var; chmod 700 /etc; echo done"));
  EXPECT_EQ(first.output, "done\n");
  EXPECT_EQ(run(script("cat /var/www/index.html; head -n1 /etc/passwd")).output,
            "hello\nroot:x:0:0:root:/root:/bin/sh\n");
}

TEST_P(SandboxSuite, ManyLayersTopFirst) {
  TaskSpec spec = script("cat /which");
  std::vector<std::filesystem::path> layers;
  for (int i = 0; i < 126; ++i) {
    const auto layer = directory_ / fmt::format("a-layer-with-a-rather-long-name-{}", i);
    ASSERT_TRUE(make_directories(layer, 0755).has_value());
    std::ofstream(layer / "which") << i << "\n";
    layers.push_back(layer);
  }
  layers.push_back(directory_ / "layer");
  spec.image.layers = layers;
  EXPECT_EQ(run(spec).output, "0\n");
}

TEST_P(SandboxSuite, SignalsReachTheTask) {
  const TaskSpec spec =
      script("trap 'echo caught; exit 3' TERM; echo ready; while true; do sleep 0.01; done");
  ASSERT_TRUE(agent_->start(spec).has_value());
  while (output(spec.task).find("ready") == std::string::npos) ::usleep(2'000);
  ASSERT_TRUE(agent_->signal(spec.task, SIGTERM).has_value());
  const auto exit = agent_->wait(spec.task);
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->exit_code, 3);
  EXPECT_EQ(output(spec.task), "ready\ncaught\n");
  EXPECT_TRUE(agent_->signal(spec.task, SIGTERM).has_value()) << "one that has ended is no error";
}

TEST_P(SandboxSuite, RefusesWhatCannotStartAndLeavesNothing) {
  struct Case {
    const char* name;
    std::function<void(TaskSpec&)> change;
    const char* message;
  };
  const std::vector<Case> cases = {
      {"no such program", [](TaskSpec& s) { s.command = {"nginx"}; },
       "exec: \"nginx\": executable file not found in $PATH"},
      {"no such path", [](TaskSpec& s) { s.command = {"/usr/bin/nginx"}; },
       "exec: \"/usr/bin/nginx\": No such file or directory"},
      {"a directory", [](TaskSpec& s) { s.command = {"/etc"}; },
       "exec: \"/etc\": permission denied"},
      {"not executable", [](TaskSpec& s) { s.command = {"/etc/passwd"}; },
       "exec: \"/etc/passwd\": permission denied"},
      {"nothing to run", [](TaskSpec& s) { s.command = {}; },
       "no command specified: neither the image nor the service says what to run"},
      {"no such user", [](TaskSpec& s) { s.image.config.user = "nginx"; },
       "unable to find user nginx: no matching entries in passwd file"},
      {"no such group", [](TaskSpec& s) { s.image.config.user = "app:nginx"; },
       "unable to find group nginx: no matching entries in group file"},
      {"a directory below a file",
       [](TaskSpec& s) { s.image.config.working_directory = "/etc/passwd/x"; },
       "mkdir /etc/passwd: Not a directory"},
      {"a relative directory", [](TaskSpec& s) { s.image.config.working_directory = "srv"; },
       "the working directory 'srv' is not absolute"},
      {"no layers", [](TaskSpec& s) { s.image.layers.clear(); },
       "an image of 0 layers; it has 1 to 127"},
      {"no disk", [](TaskSpec& s) { s.storage_mib = 1; },
       "a writable layer of 1 MiB; it has 16 to 1048576"},
      {"no memory", [](TaskSpec& s) { s.memory_mib = 1; }, "1 MiB of memory; at least 6"},
      {"not a task", [](TaskSpec& s) { s.task = "../../etc"; }, "'../../etc' is no task id"},
  };
  for (const Case& c : cases) {
    TaskSpec spec = script("true");
    c.change(spec);
    const auto started = agent_->start(spec);
    ASSERT_FALSE(started.has_value()) << c.name;
    EXPECT_EQ(started.error().code, Code::kInvalid) << c.name;
    EXPECT_EQ(started.error().message, c.message) << c.name;
    EXPECT_EQ(agent_->wait(used_.back()).error().code, Code::kNotFound) << c.name;
  }
  EXPECT_EQ(shell("find /sys/fs/cgroup -path '*hob-" + instance() +
                  "*' -name '0000*'; losetup -a | grep hob-sandbox-test"),
            "");
}

TEST_P(SandboxSuite, OutlivesItsAgent) {
  const TaskSpec running = task({"/bin/httpd", "-f", "-p", "80", "-h", "/var/www"});
  const TaskSpec ending = script("sleep 0.2; exit 5");
  ASSERT_TRUE(agent_->start(running).has_value());
  ASSERT_TRUE(agent_->start(ending).has_value());
  agent_.reset();
  ASSERT_NO_FATAL_FAILURE(restart_agent());
  const auto adopted = agent_->adopt();
  EXPECT_EQ(adopted.value(),
            (std::vector<AdoptedTask>{{.task = running.task}, {.task = ending.task}}));
  EXPECT_EQ(agent_->wait(ending.task).value().exit_code, 5);
  EXPECT_NE(fetch(running.address, 80).find("hello"), std::string::npos);
  // Once more: the end is still known.
  agent_.reset();
  ASSERT_NO_FATAL_FAILURE(restart_agent());
  EXPECT_EQ(agent_->wait(ending.task).value().exit_code, 5);
  EXPECT_EQ(agent_->start(ending).error().code, Code::kExists);
  ASSERT_TRUE(agent_->remove(ending.task).has_value());
  ASSERT_TRUE(agent_->start(ending).has_value());
}

// An agent killed at any instant of a start leaves either a task or nothing.
TEST_P(SandboxSuite, AKilledAgentLeavesATaskOrNothing) {
  for (int step = 0; step < 12; ++step) {
    const TaskSpec spec = script("while true; do sleep 1; done");
    agent_.reset();
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Agent doomed(GetParam(), place_);
      if (doomed.open()) static_cast<void>(doomed.start(spec));
      ::pause();
    }
    ::usleep(static_cast<useconds_t>(4'000 + 15'000 * step));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    ASSERT_NO_FATAL_FAILURE(restart_agent());
    const std::vector<AdoptedTask> adopted = agent_->adopt().value();
    if (std::find(adopted.begin(), adopted.end(), AdoptedTask{.task = spec.task}) ==
        adopted.end()) {
      EXPECT_EQ(shell("ps -eo args | grep -v grep | grep " + spec.task), "") << step;
      EXPECT_EQ(agent_->wait(spec.task).error().code, Code::kNotFound) << step;
    } else {
      EXPECT_TRUE(agent_->signal(spec.task, SIGKILL).has_value()) << step;
      EXPECT_EQ(agent_->wait(spec.task).value().exit_code, 137) << step;
    }
    ASSERT_TRUE(agent_->remove(spec.task).has_value());
  }
}

TEST_P(SandboxSuite, RemovesTwiceAndWhatIsNotThere) {
  const TaskSpec spec = script("sleep 100");
  ASSERT_TRUE(agent_->start(spec).has_value());
  EXPECT_TRUE(agent_->remove(spec.task).has_value());
  EXPECT_TRUE(agent_->remove(spec.task).has_value());
  EXPECT_EQ(agent_->wait(spec.task).error().code, Code::kNotFound);
  EXPECT_EQ(agent_->signal(spec.task, SIGTERM).error().code, Code::kNotFound);
  EXPECT_TRUE(agent_->run(agent_->sandbox().remove_log(spec.task)).has_value());
  EXPECT_FALSE(std::filesystem::exists(agent_->sandbox().log_path(spec.task)));
}

}  // namespace hob::sandbox
