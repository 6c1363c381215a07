#include "cli/supervisor_succession.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/digest.h"
#include "base/log.h"
#include "base/process.h"
#include "base/version.h"
#include "cli/supervisor.h"
#include "cli/supervisor_role.h"

namespace hob::cli {
namespace {

constexpr Duration kTrialWithin{10'000};
constexpr Duration kAnswersWithin{2'000};   // for those who ask the supervisor something just now
constexpr Duration kSignalsHeardWithin{5};  // what came before they were blocked
constexpr std::string_view kDeleted = " (deleted)";

sigset_t heard_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, number);
  return set;
}

void keep_through_exec(const std::vector<int>& fds, bool kept) {
  for (const int fd : fds) fcntl(fd, F_SETFD, kept ? 0 : FD_CLOEXEC);
}

Result<Fd> file_in_memory(const std::string& content) {
  Fd fd(memfd_create("supervisor-state", MFD_CLOEXEC));
  if (!fd) return fail_errno(errno, "memfd_create");
  if (pwrite(fd.get(), content.data(), content.size(), 0) != static_cast<ssize_t>(content.size()))
    return fail_errno(errno, "writing down what is supervised");
  return fd;
}

// Returns only if it could not.
Error become(int program, std::vector<std::string> words, const std::vector<int>& kept) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  keep_through_exec(kept, true);
  syscall(SYS_execveat, program, "", argv.data(), environ, AT_EMPTY_PATH);
  const int error = errno;
  keep_through_exec(kept, false);
  return fail_errno(error, "executing " + words.front()).error();
}

std::shared_ptr<const Fd> shared(int fd) { return std::make_shared<const Fd>(fd); }

}  // namespace

void block_signals() {
  const sigset_t set = heard_signals();
  sigprocmask(SIG_BLOCK, &set, nullptr);
}

void unblock_signals() {
  const sigset_t set = heard_signals();
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

Result<std::string> own_path() {
  std::error_code error;
  std::string path = std::filesystem::read_symlink("/proc/self/exe", error).string();
  if (error) return fail(Code::kUnavailable, "/proc is not mounted");
  if (path.ends_with(kDeleted)) path.resize(path.size() - kDeleted.size());
  return path;
}

namespace {

// What a trial says: words of ours about what it was told, and no other program's.
std::string could_take_over(std::string_view state) {
  return "hob could take over " + hex(sha256(state));
}

Result<std::string> read_state_text(int fd) {
  std::string text;
  char buffer[16 * 1024];
  ssize_t got = 0;
  while ((got = read(fd, buffer, sizeof buffer)) > 0 && text.size() <= kStateBytesMax)
    text.append(buffer, static_cast<size_t>(got));
  if (got < 0) return fail_errno(errno, "reading what is supervised");
  return text;
}

}  // namespace

Result<SupervisorState> read_state(int fd) {
  HOB_TRY(const std::string text, read_state_text(fd));
  return context(decode_supervisor_state(text), "reading what is supervised");
}

Result<std::string> try_state(int fd) {
  HOB_TRY(const std::string text, read_state_text(fd));
  HOB_CHECK(context(decode_supervisor_state(text), "reading what is supervised"));
  return could_take_over(text);
}

Error execute(int program, const std::string& path, const std::string& data,
              const SupervisorState& state) {
  Result<Fd> written = file_in_memory(encode(state));
  if (!written) return written.error();
  const Fd ours(open("/proc/self/exe", O_PATH | O_CLOEXEC));
  if (!ours) return fail_errno(errno, "opening this program").error();
  std::vector<int> kept = descriptors_of(state);
  kept.insert(kept.end(), {written->get(), ours.get()});
  return become(program,
                {path, "up", "--data", data, "--resume-fd", std::to_string(written->get()),
                 "--previous-fd", std::to_string(ours.get())},
                kept);
}

Error execute_previous(const Resumption& resumption, const std::string& data,
                       const SupervisorState* state, const std::string& why) {
  if (lseek(resumption.state_fd, 0, SEEK_SET) < 0)
    return fail_errno(errno, "reading what is supervised again").error();
  std::vector<int> kept = state == nullptr ? std::vector<int>{} : descriptors_of(*state);
  kept.push_back(resumption.state_fd);
  return become(resumption.previous_fd,
                {"hob", "up", "--data", data, "--resume-fd", std::to_string(resumption.state_fd),
                 "--resume-error", why},
                kept);
}

SupervisorState Supervisor::state(Duration drain) const {
  SupervisorState state{.lock = lock_.get(), .drain = drain};
  for (const auto& [name, fd] : files_) state.sockets[name] = fd.get();
  const auto now = std::chrono::steady_clock::now();
  for (const auto& role : roles_) {
    RoleState one{.name = role->name,
                  .pid = role->pid,
                  .errors = role->errors.get(),
                  .words = role->words.get(),
                  .program = role->command.program->get(),
                  .argv = role->command.argv,
                  .uid = role->command.uid,
                  .network_namespace = role->command.network_namespace.string(),
                  .metrics_socket = role->metrics_socket.get(),
                  .metrics_path = role->metrics_path.string(),
                  .version = role->version,
                  .prepared = role->prepared,
                  .ready = role->ready,
                  .restarts = role->restarts,
                  .failures = role->failures,
                  .handing_over = role->handing_over,
                  .cut_short = role->cut_short};
    for (const auto& [ours, theirs] : role->command.fds) one.fds.push_back({ours, theirs});
    if (role->handing_over) {
      one.drain_left =
          std::max(Duration(0), std::chrono::duration_cast<Duration>(role->drain_until - now));
    }
    state.roles.push_back(std::move(one));
  }
  return state;
}

// Returns only if the program that is on disk now does not take over; all is as before then.
Async<Result<void>> Supervisor::make_way(Duration drain) {
  HOB_CO_TRY(const std::string path, own_path());
  HOB_CO_TRY(const std::shared_ptr<const Fd> program, open_program(path));
  // By descriptor: what is tried is what will be executed, whatever is put there meanwhile.
  const std::string told = encode(state(drain));
  Command trial{.argv = {fmt::format("/proc/{}/fd/{}", getpid(), program->get()), "up", "--data",
                         instance_.data.string(), "--resume-check"},
                .input = told};
  HOB_CO_TRY(const std::string said,
             context(co_await run_ok(std::move(trial), kTrialWithin), "trying the new hob"));
  if (said != could_take_over(told) + "\n")
    co_return fail(Code::kInvalid, "trying the new hob: {} is not a hob that can take over", path);
  // What a daemon writes from now on waits in its pipes; nothing may be between them and its log.
  making_way_ = true;
  const std::vector<std::shared_ptr<Role>> roles = roles_;
  for (const auto& role : roles) {
    co_await listen_no_more(*role);
    if (!role->partial.empty()) role->log->write(std::exchange(role->partial, {}) + "\n");
  }
  co_await server_->stop(kAnswersWithin);
  block_signals();
  co_await sleep_for(kSignalsHeardWithin);
  Error failed{Code::kCancelled, "Hob is stopping"};
  if (!ending_asked_.is_set()) {
    failed = execute(program->get(), path, instance_.data.string(), state(drain));
  }
  unblock_signals();
  making_way_ = false;
  for (const auto& role : roles_) {
    if (role->pid > 0) listen_to(*role);
  }
  HOB_CO_CHECK(listen_to_people());
  co_return fail(std::move(failed));
}

Result<void> Supervisor::succeed(const SupervisorState& state, const std::string& why) {
  for (const int fd : descriptors_of(state)) {
    if (fcntl(fd, F_GETFD) < 0) return fail_errno(errno, fmt::format("descriptor {}", fd));
  }
  adopt(state);
  HOB_CHECK(open_files());
  HOB_CHECK(serve());
  for (const auto& role : roles_) {
    spawn(role);
    if (role->handing_over) end_when_drained(role);
  }
  // It was named after a number (execveat).
  prctl(PR_SET_NAME, "hob", 0, 0, 0);
  started_ = true;
  log::info("supervises as another program", {{"version", kVersion}});
  if (why.empty())
    go_on_upgrading(state.drain);
  else
    end_upgrade(fail(Code::kUnavailable, "{}", why));
  return {};
}

// From here on all of it is this object's, and goes at the next exec.
void Supervisor::adopt(const SupervisorState& state) {
  keep_through_exec(descriptors_of(state), false);
  lock_ = Fd(state.lock);
  for (const auto& [name, fd] : state.sockets) files_.emplace(name, Fd(fd));
  std::map<int, std::shared_ptr<const Fd>> programs;
  std::map<std::string, std::shared_ptr<LogFile>> logs;
  for (const RoleState& one : state.roles) {
    auto& program = programs[one.program];
    if (program == nullptr) program = shared(one.program);
    auto& log = logs[one.name];
    if (log == nullptr) log = std::make_shared<LogFile>(instance_.log(one.name));
    DaemonCommand command{.argv = one.argv,
                          .program = program,
                          .uid = one.uid,
                          .network_namespace = one.network_namespace};
    for (const PassedFd& fd : one.fds) command.fds.emplace_back(fd.ours, fd.theirs);
    const auto role = std::make_shared<Role>(executor_, one.name, log, std::move(command));
    role->pid = one.pid;
    role->errors = Fd(one.errors);
    role->words = Fd(one.words);
    role->metrics_socket = Fd(one.metrics_socket);
    role->metrics_path = one.metrics_path;
    role->version = one.version;
    role->prepared = one.prepared;
    role->ready = one.ready;
    role->restarts = one.restarts;
    role->failures = one.failures;
    role->stopping = role->handing_over = one.handing_over;
    role->cut_short = one.cut_short;
    role->drain_until = std::chrono::steady_clock::now() + one.drain_left;
    // A child that has ended since is still to be waited for, and so has its number.
    if (role->pid > 0) role->pidfd = Fd(static_cast<int>(syscall(SYS_pidfd_open, role->pid, 0)));
    roles_.push_back(role);
    if (one.handing_over) continue;
    (one.name == "host" ? host_ : one.name == "control" ? control_ : edge_) = role;
  }
}

}  // namespace hob::cli
