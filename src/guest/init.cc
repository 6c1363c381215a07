#include "guest/init.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "guest/cgroup.h"
#include "guest/execute.h"
#include "guest/machine.h"

namespace hob::guest {
namespace {

constexpr int kNotStarted = 127;

int64_t now_milliseconds() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

int exit_code_of(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Init::Init(Fd report, Fd orders) : report_(std::move(report)), orders_(std::move(orders)) {}

void Init::watch(int fd, uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0)
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event);
}

Result<void> Init::run() {
  sigset_t children;
  ::sigemptyset(&children);
  ::sigaddset(&children, SIGCHLD);
  ::sigprocmask(SIG_BLOCK, &children, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  signals_ = Fd(::signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK));
  epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!signals_ || !epoll_) return fail_errno(errno, "preparing the loop");
  for (const Fd* fd : {&report_, &orders_, &signals_}) watch(fd->get(), EPOLLIN);
  while (!host_gone_) {
    std::array<epoll_event, 16> events{};
    const int count = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                   until_next_check());
    for (int i = 0; i < count; ++i) ready(events[static_cast<size_t>(i)].data.fd);
    check_health();
    flush();
  }
  return {};
}

void Init::ready(int fd) {
  if (fd == report_.get()) {
    if (!hear_host()) host_gone_ = true;
    return;
  }
  if (fd == orders_.get()) return accept_orders();
  if (fd == signals_.get()) return reap();
  if (connections_.contains(fd)) return hear_orders(fd);
  for (size_t i = 0; i < containers_.size(); ++i) {
    const int index = static_cast<int>(i);
    if (fd == containers_[i].output.get())
      return read_output(index, containers_[i].output, FrameKind::kOutput);
    if (fd == containers_[i].errors.get())
      return read_output(index, containers_[i].errors, FrameKind::kErrors);
  }
}

// False: it has closed the connection, or says what nobody understands.
bool Init::hear_host() {
  char bytes[16384];
  const ssize_t got = ::recv(report_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  reader_.feed({bytes, static_cast<size_t>(got)});
  while (true) {
    const auto frame = reader_.next();
    if (!frame) return false;
    if (!*frame) return true;
    auto order = decode_order((*frame)->body);
    if (!order || !order->start || start_) return false;
    if (const auto begun = begin(*std::move(order->start)); !begun) {
      report({.event = Event::kFailed,
              .invalid = begun.error().code == Code::kInvalid,
              .reason = begun.error().message});
    }
  }
}

Result<void> Init::begin(Start start) {
  HOB_CHECK(check_dependencies(start.containers));
  HOB_CHECK(set_clock(start.clock_nanoseconds));
  HOB_CHECK(set_up_network(start.network));
  HOB_CHECK(mount_scratch(start.scratch_device));
  start_ = std::move(start);
  containers_.resize(start_->containers.size());
  start_what_can();
  return {};
}

void Init::start_what_can() {
  while (true) {
    std::vector<ContainerView> views;
    for (const Running& container : containers_) views.push_back(container.view);
    const Decision decision = decide_start(start_->containers, views);
    if (decision.start.empty() && decision.refuse.empty()) return;
    for (const int index : decision.start) start_container(index);
    for (const int index : decision.refuse) {
      Running& container = containers_[static_cast<size_t>(index)];
      container.view = {.state = ContainerState::kExited, .exit_code = kNotStarted};
      report({.event = Event::kFailed,
              .container = index,
              .invalid = true,
              .reason = "what it depends on has ended otherwise"});
    }
  }
}

void Init::start_container(int index) {
  Running& container = containers_[static_cast<size_t>(index)];
  auto prepared = prepare(*start_, index);
  auto launched =
      prepared ? launch(*prepared) : Result<Launched>(std::unexpected(prepared.error()));
  if (!launched) {
    container.view = {.state = ContainerState::kExited, .exit_code = kNotStarted};
    return report({.event = Event::kFailed,
                   .container = index,
                   .invalid = launched.error().code == Code::kInvalid,
                   .reason = launched.error().message});
  }
  container.prepared = *std::move(prepared);
  container.process = launched->process;
  container.output = std::move(launched->output);
  container.errors = std::move(launched->errors);
  container.view.state = ContainerState::kRunning;
  const auto& health = start_->containers[static_cast<size_t>(index)].health;
  if (health) container.health = Health(*health, now_milliseconds());
  if (!paused_) {
    watch(container.output.get(), EPOLLIN);
    watch(container.errors.get(), EPOLLIN);
  }
  report({.event = Event::kStarted, .container = index});
}

void Init::read_output(int index, Fd& from, FrameKind kind) {
  char bytes[16384];
  const ssize_t got = ::read(from.get(), bytes, sizeof bytes);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got > 0) return send(kind, index, {bytes, static_cast<size_t>(got)});
  from.reset();
  ended(index);
}

void Init::reap() {
  signalfd_siginfo ignored[16];
  while (::read(signals_.get(), ignored, sizeof ignored) > 0) {
  }
  int status = 0;
  pid_t process = 0;
  // Orphans of containers' helpers, too, are ours.
  while ((process = ::waitpid(-1, &status, WNOHANG)) > 0) {
    for (size_t i = 0; i < containers_.size(); ++i) {
      Running& container = containers_[i];
      if (process == container.process) {
        container.process = -1;
        container.exit_code = exit_code_of(status);
        kill_cgroup(static_cast<int>(i));  // what was executed in it later
        ended(static_cast<int>(i));
      } else if (process == container.check) {
        container.check = -1;
        const auto verdict = container.health.ended(exit_code_of(status) == 0, now_milliseconds());
        if (!verdict || container.view.state == ContainerState::kExited) continue;
        container.view.state =
            *verdict == Event::kHealthy ? ContainerState::kHealthy : ContainerState::kRunning;
        report({.event = *verdict, .container = static_cast<int>(i)});
        start_what_can();
      }
    }
  }
}

// When its process has ended and all that it printed has been read.
void Init::ended(int index) {
  Running& container = containers_[static_cast<size_t>(index)];
  if (container.process >= 0 || container.output || container.errors ||
      container.view.state == ContainerState::kExited)
    return;
  container.view = {.state = ContainerState::kExited, .exit_code = container.exit_code};
  if (container.check > 0) ::kill(-container.check, SIGKILL);
  container.health = Health();
  report({.event = Event::kExited,
          .container = index,
          .exit_code = container.exit_code,
          .out_of_memory = container.exit_code != 0 && was_out_of_memory(index)});
  start_what_can();
}

int Init::until_next_check() const {
  std::optional<int64_t> first;
  for (const Running& container : containers_) {
    const auto due = container.health.due();
    if (due && (!first || *due < *first)) first = due;
  }
  if (!first) return -1;
  return static_cast<int>(std::clamp<int64_t>(*first - now_milliseconds(), 0, 1 << 30));
}

void Init::check_health() {
  const int64_t now = now_milliseconds();
  for (size_t i = 0; i < containers_.size(); ++i) {
    Running& container = containers_[i];
    if (container.health.should_give_up(now) && container.check > 0)
      ::kill(-container.check, SIGKILL);  // its end is its result
    if (!container.health.should_start(now) || container.process < 0) continue;
    container.health.started(now);
    container.check = check_health_in(*container.prepared, container.process,
                                      start_->containers[i].health->command);
    if (container.check < 0) container.health.ended(false, now);
  }
}

void Init::accept_orders() {
  Fd fd(::accept4(orders_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!fd || connections_.size() >= kOrderConnectionsMax) return;
  const int number = fd.get();
  connections_[number] = Connection{.fd = std::move(fd)};
  watch(number, EPOLLIN);
}

void Init::hear_orders(int fd) {
  Connection& connection = connections_.at(fd);
  char bytes[16384];
  const ssize_t got = ::recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  std::optional<Order> order;
  if (got > 0) {
    connection.reader.feed({bytes, static_cast<size_t>(got)});
    const auto frame = connection.reader.next();
    if (frame && !*frame) return;  // the rest comes
    auto decoded = frame && (*frame)->kind == FrameKind::kRecord
                       ? decode_order((*frame)->body)
                       : Result<Order>(fail(Code::kInvalid, "no order"));
    if (decoded) order = *std::move(decoded);
  }
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  if (order) carry_out(connection, *order);
  connections_.erase(fd);
}

void Init::carry_out(Connection& connection, const Order& order) {
  Result<void> done;
  const int index = order.signal    ? order.signal->container
                    : order.execute ? order.execute->container
                                    : 0;
  const bool known = index >= 0 && static_cast<size_t>(index) < containers_.size();
  Running* container = known ? &containers_[static_cast<size_t>(index)] : nullptr;
  if (order.clock_nanoseconds) {
    done = set_clock(*order.clock_nanoseconds);
  } else if (container == nullptr) {
    done = fail(Code::kInvalid, "there is no container {}", index);
  } else if (order.signal) {
    // One that has ended is no error.
    if (container->process > 0 && ::kill(container->process, order.signal->number) != 0)
      done = fail_errno(errno, "sending a signal");
  } else if (order.execute && !order.execute->arguments.empty()) {
    if (container->process < 0) {
      done = fail(Code::kInvalid, "the container is not running");
    } else if (execute_in(*container->prepared, container->process, *order.execute,
                          std::move(connection.fd), std::move(connection.reader)) > 0) {
      return;  // the rest is the command's
    } else {
      return;
    }
  } else {
    done = fail(Code::kInvalid, "not an order of this kind");
  }
  Report answer{.event = done ? Event::kDone : Event::kFailed, .container = known ? index : 0};
  if (!done) {
    answer.invalid = done.error().code == Code::kInvalid;
    answer.reason = done.error().message;
  }
  std::string bytes;
  append_frame(bytes, FrameKind::kRecord, 0, encode(answer));
  // A new connection's buffer takes so little at once.
  (void)!::send(connection.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void Init::report(const Report& report) {
  send(FrameKind::kRecord, report.container, encode(report));
}

void Init::send(FrameKind kind, int container, std::string_view body) {
  append_frame(unsent_, kind, static_cast<uint8_t>(container), body);
  flush();
}

void Init::flush() {
  while (unsent_at_ < unsent_.size()) {
    const ssize_t sent = ::send(report_.get(), unsent_.data() + unsent_at_,
                                unsent_.size() - unsent_at_, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) host_gone_ = true;
    if (sent < 0) break;
    unsent_at_ += static_cast<size_t>(sent);
  }
  unsent_.erase(0, unsent_at_);
  unsent_at_ = 0;
  const bool full = unsent_.size() >= kUnsentBytesMax;
  if (full != paused_) pause_output(full);
  watch(report_.get(), unsent_.empty() ? uint32_t{EPOLLIN} : uint32_t{EPOLLIN | EPOLLOUT});
}

void Init::pause_output(bool paused) {
  paused_ = paused;
  for (const Running& container : containers_) {
    for (const Fd* fd : {&container.output, &container.errors}) {
      if (!*fd) continue;
      if (paused)
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd->get(), nullptr);
      else
        watch(fd->get(), EPOLLIN);
    }
  }
}

}  // namespace hob::guest
