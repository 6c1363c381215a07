// From assignment to a running container: image, network, start.
#include <algorithm>

#include "base/log.h"
#include "host/task_actor.h"
#include "network/subnets.h"

namespace hob::host {

namespace {

constexpr Backoff kPullBackoff{.min = Duration(200), .max = Duration(5'000)};

// "198.18.0.17" -> "ip-198-18-0-17", as EC2 names its hosts.
std::string host_name_of(std::string address) {
  std::replace(address.begin(), address.end(), '.', '-');
  return "ip-" + address;
}

// What the image or the task asks for is not to be had, whoever asks again. A digest that does not
// match (kCorrupt) may have been spoilt on its way.
Failure would_fail_again(Code code) {
  const bool permanent = code == Code::kNotFound || code == Code::kDenied ||
                         code == Code::kInvalid || code == Code::kLimit;
  return permanent ? Failure::kPermanent : Failure::kPassing;
}

}  // namespace

Async<> TaskActor::pull() {
  struct Finally {
    TaskActor& actor;
    ~Finally() {
      actor.view_.pulling = false;
      actor.wake();
    }
  };
  const Finally finally{*this};
  const link::ImageSource& source = view_.assignment.containers.at(0).image;
  image::PullRequest request{.registry = source.registry,
                             .plain_http = source.plain_http,
                             .repository = source.repository,
                             .reference = source.reference,
                             .username = source.username,
                             .password = source.password,
                             .account = view_.assignment.account};
  // What it ran before is what it runs again, wherever the tag has gone meanwhile.
  if (!view_.state.image_digest.empty()) request.reference = view_.state.image_digest;
  if (!view_.state.pull_started_at) view_.state.pull_started_at = ports_.clock.now();
  Backoff backoff = kPullBackoff;
  for (int tries = 1;; ++tries) {
    Result<image::LocalImage> pulled = co_await ports_.image.pull(request);
    if (pulled) {
      image_ = std::move(*pulled);
      view_.image_here = true;
      view_.stop_signal = image_.config.stop_signal;
      view_.state.image_digest = image_.digest;
      if (!view_.state.pull_stopped_at) view_.state.pull_stopped_at = ports_.clock.now();
      co_return;
    }
    const Code code = pulled.error().code;
    const bool may_pass = code == Code::kUnavailable || code == Code::kTimeout;
    if (!may_pass || tries == kPullTries) {
      view_.state.pull_stopped_at = ports_.clock.now();
      const std::string tried =
          tries > 1 ? fmt::format("pull has been tried {} times: ", tries) : "";
      log::warn("image not pulled",
                {{"task", view_.assignment.task.value}, {"error", pulled.error().message}});
      note_failure(view_,
                   fmt::format("CannotPullContainerError: {}{}", tried, pulled.error().message),
                   ports_.clock.now(), would_fail_again(code));
      co_return;
    }
    co_await sleep_for(backoff.next(draw()));
  }
}

Async<> TaskActor::attach() {
  network::TaskAddress address{.task = view_.assignment.task.value,
                               .address = view_.assignment.address,
                               .prefix_length = view_.assignment.prefix_length,
                               .gateway = view_.assignment.gateway};
  Result<std::filesystem::path> handle = co_await ports_.network.attach(std::move(address));
  view_.attaching = false;
  if (handle) {
    network_namespace_ = std::move(*handle);
    view_.network_here = true;
  } else {
    log::error("task's network not made",
               {{"task", view_.assignment.task.value}, {"error", handle.error().message}});
    note_failure(view_,
                 fmt::format("ResourceInitializationError: network: {}", handle.error().message),
                 ports_.clock.now());
  }
  wake();
}

namespace {

sandbox::Isolation isolation_of(link::Isolation isolation) {
  switch (isolation) {
    case link::Isolation::kDefault:
      return sandbox::Isolation::kDefault;
    case link::Isolation::kContainer:
      return sandbox::Isolation::kContainer;
    case link::Isolation::kMicrovm:
      return sandbox::Isolation::kMicrovm;
  }
  return sandbox::Isolation::kDefault;
}

}  // namespace

Async<> TaskActor::start_container() {
  const link::Assignment& assignment = view_.assignment;
  const link::Container& container = assignment.containers.at(0);
  sandbox::TaskSpec spec{.task = assignment.task.value,
                         .image = image_,
                         .entry_point = container.entry_point,
                         .command = container.command,
                         .environment = container.environment,
                         .cpu = assignment.cpu,
                         .memory_mib = assignment.memory_mib,
                         .storage_mib = assignment.ephemeral_storage_mib,
                         .network_namespace = network_namespace_,
                         .address = assignment.address,
                         .name_server = std::string(network::kVpcDns),
                         .host_name = host_name_of(assignment.address),
                         .isolation = isolation_of(assignment.isolation)};
  const Result<void> started = co_await ports_.sandbox.start(std::move(spec));
  view_.starting = false;
  if (started) {
    note_started(view_, ports_.clock.now());
    ++run_;
    log::info("task started", {{"task", assignment.task.value},
                               {"service", assignment.service},
                               {"restarts", view_.state.restarts}});
    scope_.spawn("task exit", [this] { return await_exit(); });
    scope_.spawn("task health", [this] { return watch_health(); });
  } else {
    log::warn("task not started",
              {{"task", assignment.task.value}, {"error", started.error().message}});
    note_failure(view_, fmt::format("CannotStartContainerError: {}", started.error().message),
                 ports_.clock.now(), would_fail_again(started.error().code));
  }
  wake();
}

}  // namespace hob::host
