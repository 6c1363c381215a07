#include "host/source_builds.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/json.hpp>
#include <cerrno>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "image/layout_push.h"

namespace hob::host {

namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
namespace json = boost::json;

constexpr size_t kMessageBytesMax = 1024 * 1024;  // one line of hob-build's
constexpr int kProgressFd = 3;
constexpr Duration kClearWithin{60'000};

std::string text_at(const json::object& object, std::string_view name) {
  const json::value* found = object.if_contains(name);
  return found != nullptr && found->is_string() ? std::string(found->as_string()) : std::string();
}

// Ours, without what a person may have set for builds of their own: it is not every account's.
std::map<std::string, std::string> build_environment() {
  std::map<std::string, std::string> made;
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string_view line = *each;
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos || line.starts_with("HOB_GIT_")) continue;
    made[std::string(line.substr(0, equals))] = line.substr(equals + 1);
  }
  return made;
}

}  // namespace

struct SourceBuilds::Build {
  Build(const Executor& executor, link::BuildOrder given)
      : order(std::move(given)), heard(executor), scope(executor) {}
  link::BuildOrder order{};
  bool asked = true;  // over the link that is there now
  bool started = false;
  bool ended = false;                // `outcome` says how
  int64_t told = -1;                 // lines control has been told of; -1: it waits for none
  std::vector<std::string> lines{};  // all it printed
  std::optional<Error> failed{};     // by hob-build's own word
  link::BuildReport outcome{};
  Event heard;  // all that hob-build says, and its end
  AsyncScope scope;
};

SourceBuilds::SourceBuilds(const Executor& executor, BuildTools tools,
                           std::function<void(const link::BuildReport&)> report)
    : tools_(std::move(tools)), report_(std::move(report)), scope_(executor) {
  scope_.spawn("clear builds", clear());
}

SourceBuilds::~SourceBuilds() = default;

// What builds of a process before this one left.
Async<> SourceBuilds::clear() {
  if (tools_.program.empty()) co_return;
  (void)remove_tree(tools_.directory);
  Command command{.argv = {tools_.program, "--state", tools_.state, "--clear"}};
  const Result<Exit> cleared = co_await hob::run(std::move(command), kClearWithin);
  if (!cleared) log::warn("builds not cleared", {{"error", cleared.error().message}});
}

void SourceBuilds::order(const link::BuildOrder& order) {
  const auto known = builds_.find(order.build);
  if (known != builds_.end()) {
    known->second->order.lines_taken = order.lines_taken;
    known->second->asked = true;
    known->second->told = -1;
    tell(*known->second);
    return;
  }
  if (builds_.size() >= kBuildsKnownMax) {
    report_({.build = order.build,
             .state = link::BuildState::kFailed,
             .first_line = order.lines_taken,
             .reason = "too many builds wait on this host"});
    return;
  }
  builds_.emplace(order.build, std::make_shared<Build>(scope_.executor(), order));
  log::info("build ordered", {{"build", order.build}, {"service", order.service}});
  start_waiting();
}

void SourceBuilds::linked() {
  if (builds_.empty()) return;
  for (const auto& [name, build] : builds_) {
    build->asked = false;
    // Until it is ordered again it is nobody's, and control would have it ended.
    build->told = std::min(build->order.lines_taken, static_cast<int64_t>(build->lines.size()));
  }
  scope_.spawn("unasked builds", [this]() -> Async<> {
    co_await sleep_for(kBuildUnaskedMax);
    std::vector<std::string> unasked;
    for (const auto& [name, build] : builds_) {
      if (!build->asked) unasked.push_back(name);
    }
    for (const std::string& name : unasked) end(name);
  });
}

void SourceBuilds::end(const std::string& build) {
  const auto known = builds_.extract(build);
  if (!known) return;
  ending_.insert(known.mapped());
  scope_.spawn("end build", [this, ended = known.mapped()]() -> Async<> {
    const bool cut = ended->started && !ended->ended;
    ended->scope.cancel();
    co_await ended->scope.join();
    ending_.erase(ended);
    if (cut) co_await clear();
    start_waiting();
  });
}

Async<> SourceBuilds::stop() {
  scope_.cancel();
  co_await scope_.join();
  for (const auto& [name, build] : builds_) ending_.insert(build);
  for (const std::shared_ptr<Build>& build : ending_) {
    build->scope.cancel();
    co_await build->scope.join();
  }
  ending_.clear();
  builds_.clear();
}

void SourceBuilds::start_waiting() {
  size_t running = 0;
  for (const auto& [name, build] : builds_) running += build->started && !build->ended ? 1 : 0;
  for (const auto& [name, build] : builds_) {
    if (running >= kBuildsAtOnceMax) return;
    if (build->started) continue;
    build->started = true;
    ++running;
    build->scope.spawn("build", run(build));
  }
}

Async<> SourceBuilds::run(std::shared_ptr<Build> build) {
  const Result<void> made = co_await make(build);
  link::BuildReport& outcome = build->outcome;
  outcome.state = made ? link::BuildState::kSucceeded : link::BuildState::kFailed;
  if (!made) {
    outcome.reason = made.error().message;
    outcome.again = made.error().code != Code::kInvalid && made.error().code != Code::kLimit;
  }
  build->ended = true;
  log::info("build ended",
            {{"build", build->order.build}, {"outcome", made ? "succeeded" : outcome.reason}});
  tell(*build);
  start_waiting();
}

Async<Result<void>> SourceBuilds::make(std::shared_ptr<Build> build) {
  if (tools_.program.empty()) co_return fail(Code::kInvalid, "hob-build is not installed here");
  const link::BuildOrder& order = build->order;
  const fs::path place = tools_.directory / order.build;
  HOB_CO_CHECK(make_directories(tools_.directory, 0700));
  HOB_CO_CHECK(remove_tree(place));
  HOB_CO_CHECK(make_directories(place, 0700));
  const std::shared_ptr<void> removes(nullptr, [place](void*) { (void)remove_tree(place); });
  const fs::path layout = place / "image";
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) co_return fail_errno(errno, "making a pipe");
  Fd write_end(ends[1]);
  build->scope.spawn("build progress", listen(build, ends[0]));
  // What control says is an argument's value, never an option of its own.
  Command command{.argv = {tools_.program, "--git=" + order.url, "--reference=" + order.branch,
                           "--output", layout, "--state", tools_.state, "--runtimes",
                           tools_.runtimes, "--progress-fd", std::to_string(kProgressFd)},
                  .environment = build_environment(),
                  .fds = {{write_end.get(), kProgressFd}}};
  if (!order.source_directory.empty())
    command.argv.push_back("--source-directory=" + order.source_directory);
  if (order.runtime.empty()) {
    command.argv.push_back("--by-file");
  } else {
    command.argv.push_back("--runtime=" + order.runtime);
    command.argv.push_back("--start-command=" + order.start_command);
    if (!order.build_command.empty())
      command.argv.push_back("--build-command=" + order.build_command);
  }
  const Result<Exit> exit = co_await hob::run(std::move(command), kBuildWithin);
  write_end.reset();
  if (!exit && exit.error().code == Code::kTimeout) {
    co_await clear();
    co_return fail(Code::kInvalid, "The build took longer than {} minutes.",
                   std::chrono::duration_cast<std::chrono::minutes>(kBuildWithin).count());
  }
  HOB_CO_CHECK(exit);
  co_await build->heard.wait();
  if (build->failed) co_return fail(*build->failed);
  if (build->outcome.digest.empty()) {
    co_return fail(Code::kUnavailable, "hob-build ended without a result: {}",
                   exit->errors.substr(0, 500));
  }
  const link::ImageSource& target = order.target;
  image::PushTarget to{.registry = target.registry,
                       .repository = target.repository,
                       .tag = target.reference,
                       .username = target.username,
                       .password = target.password};
  HOB_CO_CHECK(context(co_await image::push_layout(std::move(to), layout, build->outcome.digest),
                       "pushing the image"));
  co_return Result<void>{};
}

Async<> SourceBuilds::listen(std::shared_ptr<Build> build, int from) {
  asio::posix::stream_descriptor stream(co_await asio::this_coro::executor, from);
  std::string text;
  while (true) {
    boost::system::error_code error;
    const size_t got =
        co_await asio::async_read_until(stream, asio::dynamic_buffer(text, kMessageBytesMax), '\n',
                                        asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
    hear(*build, std::string_view(text).substr(0, got - 1));
    text.erase(0, got);
  }
  build->heard.set();
}

void SourceBuilds::hear(Build& build, std::string_view line) {
  boost::system::error_code error;
  const json::value message = json::parse(line, error);
  const json::object* object = error ? nullptr : message.if_object();
  if (object == nullptr) return;
  if (object->contains("stage")) {
    add_line(build, text_at(*object, "stage"));
  } else if (object->contains("line")) {
    add_line(build, text_at(*object, "line"));
  } else if (object->contains("commit")) {
    build.outcome.commit = text_at(*object, "commit");
  } else if (const json::value* result = object->if_contains("result");
             result != nullptr && result->is_object()) {
    build.outcome.digest = text_at(result->as_object(), "digest");
    const json::value* port = result->as_object().if_contains("port");
    if (port != nullptr && port->is_int64())
      build.outcome.port = static_cast<int>(port->as_int64());
  } else if (const json::value* failed = object->if_contains("error");
             failed != nullptr && failed->is_object()) {
    const std::string code = text_at(failed->as_object(), "code");
    const bool theirs = code == word(Code::kInvalid) || code == word(Code::kLimit);
    build.failed = Error{.code = theirs ? Code::kInvalid : Code::kUnavailable,
                         .message = text_at(failed->as_object(), "message")};
  }
}

void SourceBuilds::add_line(Build& build, std::string line) {
  if (build.lines.size() >= kBuildLinesMax) return;
  if (line.size() > kBuildLineBytesMax) line.resize(kBuildLineBytesMax);
  if (build.lines.size() == kBuildLinesMax - 1) line = "(what it prints from here on is left out)";
  build.lines.push_back(std::move(line));
  tell(build);
}

// One report goes up at a time: the order that comes back says what it came to.
void SourceBuilds::tell(Build& build) {
  const auto all = static_cast<int64_t>(build.lines.size());
  const int64_t from = std::clamp<int64_t>(build.order.lines_taken, 0, all);
  const bool news = from < all || build.ended;
  if (!news || build.told == from) return;
  build.told = from;
  const int64_t to = std::min(all, from + static_cast<int64_t>(kBuildLinesPerReport));
  link::BuildReport report{.build = build.order.build,
                           .first_line = from,
                           .lines = {build.lines.begin() + from, build.lines.begin() + to},
                           .commit = build.outcome.commit};
  if (build.ended && to == all) {
    report.state = build.outcome.state;
    report.digest = build.outcome.digest;
    report.port = build.outcome.port;
    report.reason = build.outcome.reason;
    report.again = build.outcome.again;
  }
  report_(report);
}

}  // namespace hob::host
