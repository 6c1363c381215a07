#include "builder/build_sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>

#include "base/file.h"
#include "base/ids.h"
#include "base/log.h"
#include "builder/line_cutter.h"
#include "guest/task_root.h"
#include "sandbox/bundle.h"
#include "sandbox/cgroups.h"
#include "sandbox/command_line.h"
#include "sandbox/id_ranges.h"
#include "sandbox/mounts.h"
#include "sandbox/scratch_disk.h"
#include "sandbox/task_files.h"

namespace hob::builder {

namespace {

namespace fs = std::filesystem;

constexpr const char* kSharedDirectory = "/run/hob-shared";
constexpr const char* kCrun = "/usr/bin/crun";
// The authorities that this machine trusts, a company's own among them: steps trust them too, the
// image does not. Each program has its own way to be told.
constexpr const char* kAuthorities = "/etc/ssl/certs/ca-certificates.crt";
constexpr const char* kAuthoritiesInside = "/run/hob/authorities.crt";
constexpr size_t kAuthoritiesBytesMax = 4 * 1024 * 1024;
constexpr std::array kAuthoritiesVariables = {
    "SSL_CERT_FILE",  "NODE_EXTRA_CA_CERTS", "npm_config_cafile", "PIP_CERT",
    "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE",  "GIT_SSL_CAINFO"};
constexpr int kPollMilliseconds = 100;   // how soon a cancellation is seen
constexpr Duration kDrainWithin{2'000};  // for output that is in the pipe when all have ended

// sh runs the commands that follow it, each as a program of its own, and says which one failed by a
// last line that begins with the step's random name. A command that looks that up can only lie
// about itself.
constexpr const char* kScript =
    "mark=$1; shift; n=0; for command do "
    "sh -c \"$command\" </dev/null; code=$?; "
    "if [ $code -ne 0 ]; then echo; echo \"$mark $n $code\"; read _; exit 1; fi; n=$((n+1)); done";

struct Pipe {
  Fd read;
  Fd write;
};
Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(errno, "making a pipe");
  return Pipe{.read = Fd(ends[0]), .write = Fd(ends[1])};
}

// A child with these files, no other of ours, and no variable but PATH.
Result<pid_t> spawn(const std::vector<std::string>& argv, const Fd& input, const Fd& output) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input.get(), 0);
  posix_spawn_file_actions_adddup2(&actions, output.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, output.get(), 2);
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  std::string path = std::string("PATH=") + sandbox::kDefaultPath;
  std::array<char*, 2> environment = {path.data(), nullptr};
  pid_t child = 0;
  const int error =
      ::posix_spawn(&child, words[0], &actions, nullptr, words.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return fail_errno(error, "starting " + argv[0]);
  return child;
}

}  // namespace

struct BuildSandbox::State {
  Options options;
  const std::atomic<bool>& cancelled;
  sandbox::Cgroups cgroups;
  sandbox::IdRanges ids;
  sandbox::ScratchDisks disks;
  fs::path run_directory;

  State(Options given, const std::atomic<bool>& cancel, sandbox::Cgroups groups)
      : options(std::move(given)),
        cancelled(cancel),
        cgroups(std::move(groups)),
        ids(kSharedDirectory, options.instance),
        disks(options.directory / "disks"),
        run_directory("/run/hob-" + options.instance) {}

  fs::path mount_point() const { return run_directory / "task"; }
  fs::path crun_state() const { return run_directory / "crun"; }

  Result<void> clear_leftovers() {
    for (const std::string& step : cgroups.tasks()) HOB_CHECK(clear(step));
    HOB_CHECK(ids.release_others({}));
    return remove_tree(options.directory / "bundles");
  }

  Result<void> clear(const std::string& step) {
    HOB_CHECK(cgroups.kill_all(step));
    // A crun whose container was just killed removes the same files.
    if (!remove_tree(crun_state() / step)) HOB_CHECK(remove_tree(crun_state() / step));
    HOB_CHECK(cgroups.remove(step));
    HOB_CHECK(ids.release(step));
    return remove_tree(options.directory / "bundles" / step);
  }

  Result<std::string> configure(const StepSpec& spec, const std::string& step,
                                sandbox::BundlePlan& plan) {
    HOB_TRY(plan.first_id, ids.claim(step));
    HOB_TRY(Fd scratch, disks.make(step, options.limits.disk_mib));
    HOB_TRY(plan.mounts, sandbox::enter_task_mounts({.mount_point = mount_point(),
                                                     .hybrid_cgroup_tree = cgroups.hybrid_tree(),
                                                     .network_namespace = options.network_namespace,
                                                     .layers = spec.layers,
                                                     .first_id = plan.first_id,
                                                     .scratch = std::move(scratch)}));
    HOB_TRY(const guest::TaskRoot root, guest::TaskRoot::open(plan.mounts.root));
    HOB_CHECK(root.make_directories(spec.working_directory, plan.first_id));
    const fs::path& files = plan.mounts.files;
    HOB_CHECK(
        sandbox::write_task_file(files / "hosts", "127.0.0.1\tlocalhost build\n", plan.first_id));
    HOB_CHECK(sandbox::write_task_file(files / "hostname", "build\n", plan.first_id));
    const std::string resolv = options.name_server.empty()
                                   ? ""
                                   : "nameserver " + options.name_server + "\noptions ndots:0\n";
    HOB_CHECK(sandbox::write_task_file(files / "resolv.conf", resolv, plan.first_id));
    plan.arguments = {"/bin/sh", "-c", kScript, "sh", step};
    plan.arguments.insert(plan.arguments.end(), spec.commands.begin(), spec.commands.end());
    plan.environment = {"PATH=" + std::string(sandbox::kDefaultPath), "HOME=/root",
                        "HOSTNAME=build", "SOURCE_DATE_EPOCH=315532800"};
    if (const Result<std::string> authorities = read_file(kAuthorities, kAuthoritiesBytesMax)) {
      HOB_CHECK(sandbox::write_task_file(files / "authorities", *authorities, plan.first_id));
      plan.files[kAuthoritiesInside] = files / "authorities";
      for (const char* name : kAuthoritiesVariables) {
        plan.environment.push_back(fmt::format("{}={}", name, kAuthoritiesInside));
      }
    }
    for (const auto& [name, value] : spec.environment) {
      std::erase_if(plan.environment,
                    [&](const std::string& each) { return each.starts_with(name + "="); });
      plan.environment.push_back(name + "=" + value);
    }
    plan.working_directory = spec.working_directory;
    plan.host_name = "build";
    plan.network_namespace = options.network_namespace;
    plan.cgroup_path = cgroups.path_of(step);
    plan.cgroup_version = cgroups.version();
    plan.swap_accounted = cgroups.accounts_swap();
    plan.cpu = options.limits.cpu;
    plan.memory_mib = options.limits.memory_mib;
    plan.processes_max = options.limits.processes_max;
    plan.open_files_max = sandbox::open_files_max();
    const fs::path bundle = options.directory / "bundles" / step;
    HOB_CHECK(make_directories(bundle, 0700));
    HOB_CHECK(sandbox::write_task_file(bundle / "config.json", sandbox::bundle_config(plan), 0));
    return bundle.string();
  }

  // Reads until the container has ended; answers what is to be said of its end.
  Result<StepEnd> follow(pid_t child, const Fd& output, Fd input, const std::string& step,
                         const LineSink& line) {
    StepEnd end;
    LineCutter cutter(options.limits.log_bytes_max, step, [&](std::string_view text) {
      if (!text.starts_with(step)) return line(text);
      note_mark(text, step, end);
      end.out_of_memory = cgroups.was_out_of_memory(step);
      input.reset();
    });
    auto until = std::chrono::steady_clock::now() + options.limits.step_within;
    bool running = true;
    bool was_cancelled = false;
    int status = 0;
    std::array<char, 64 * 1024> piece;
    while (true) {
      pollfd waiting{.fd = output.get(), .events = POLLIN, .revents = 0};
      const int ready = ::poll(&waiting, 1, kPollMilliseconds);
      if (ready > 0) {
        const ssize_t got = ::read(output.get(), piece.data(), piece.size());
        if (got == 0) break;
        if (got > 0) cutter.feed(std::string_view(piece.data(), static_cast<size_t>(got)));
      }
      const auto now = std::chrono::steady_clock::now();
      if (running && ::waitpid(child, &status, WNOHANG) == child) {
        running = false;
        // What the commands left running has no one to run for, and may hold the pipe.
        HOB_CHECK(cgroups.kill_all(step));
        until = now + kDrainWithin;
      } else if (running && (cancelled.load() || now >= until)) {
        was_cancelled = cancelled.load();
        end.out_of_time = !was_cancelled;
        HOB_CHECK(cgroups.kill_all(step));
        until = std::chrono::steady_clock::time_point::max();
      } else if (!running && now >= until) {
        break;
      }
    }
    if (running) {
      while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
      }
    }
    cutter.finish();
    if (was_cancelled) return fail(Code::kCancelled, "cancelled");
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    // A command can read its step's name and say anything by it, but not how the container ended.
    if (code == 0 || end.exit_code == 0) end.exit_code = code;
    if (end.out_of_time && end.exit_code == 0) end.exit_code = 128 + SIGKILL;
    end.out_of_memory = end.out_of_memory && end.exit_code != 0;
    return end;
  }

  // The script's last line, "STEP 2 1": the third command ended with 1.
  static void note_mark(std::string_view text, const std::string& step, StepEnd& end) {
    const std::string rest(text.substr(step.size()));
    unsigned command = 0;
    int code = 0;
    if (std::sscanf(rest.c_str(), " %u %d", &command, &code) != 2) return;
    end.failed_command = command;
    end.exit_code = code;
  }

  // On a thread of its own, which leaves the machine's mounts.
  Result<StepEnd> run_here(const StepSpec& spec, const std::string& step, const LineSink& line,
                           const KeepFiles& keep) {
    sandbox::BundlePlan plan;
    HOB_TRY(const std::string bundle, configure(spec, step, plan));
    HOB_TRY(Pipe input, make_pipe());
    HOB_TRY(Pipe output, make_pipe());
    HOB_TRY(const pid_t child,
            spawn({kCrun, "--root", crun_state().string(), "run", "--bundle", bundle, step},
                  input.read, output.write));
    input.read.reset();
    output.write.reset();
    HOB_TRY(StepEnd end, follow(child, output.read, std::move(input.write), step, line));
    if (end.exit_code == 0 && keep)
      HOB_CHECK(
          keep({.upper = plan.mounts.upper, .root = plan.mounts.root, .first_id = plan.first_id}));
    return end;
  }
};

BuildSandbox::BuildSandbox(std::unique_ptr<State> state) : state_(std::move(state)) {}

BuildSandbox::~BuildSandbox() {
  std::error_code ignored;
  for (const fs::path& path :
       {state_->mount_point(), state_->crun_state(), state_->run_directory}) {
    fs::remove(path, ignored);  // one that is not empty stays for the next open()
  }
  static_cast<void>(state_->cgroups.remove_root());
}

Result<std::unique_ptr<BuildSandbox>> BuildSandbox::open(Options options,
                                                         const std::atomic<bool>& cancelled) {
  HOB_TRY(sandbox::Cgroups cgroups, sandbox::Cgroups::detect(options.instance));
  auto state = std::make_unique<State>(std::move(options), cancelled, std::move(cgroups));
  HOB_CHECK(make_directories(state->options.directory, 0700));
  HOB_CHECK(state->disks.open());
  HOB_CHECK(state->clear_leftovers());
  HOB_CHECK(make_directories(state->run_directory, 0711));
  HOB_CHECK(make_directories(state->crun_state(), 0700));
  HOB_CHECK(make_directories(state->mount_point(), 0711));
  return std::unique_ptr<BuildSandbox>(new BuildSandbox(std::move(state)));
}

Result<StepEnd> BuildSandbox::run(const StepSpec& spec, const LineSink& line,
                                  const KeepFiles& keep) {
  SystemRandom random;
  const std::string step = random_hex(random, 32);
  Result<StepEnd> end = fail(Code::kInternal, "not run");
  std::thread([&] { end = state_->run_here(spec, step, line, keep); }).join();
  if (const Result<void> cleared = state_->clear(step); !cleared) {
    log::warn("a build step is not gone whole",
              {{"step", step}, {"error", cleared.error().message}});
  }
  return end;
}

}  // namespace hob::builder
