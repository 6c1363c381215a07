#include "cli/source_build.h"

#include <fcntl.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/json.hpp>
#include <cerrno>
#include <cstdlib>
#include <deque>

#include "base/file.h"
#include "base/http.h"
#include "base/process.h"
#include "cli/words.h"

namespace hob::cli {

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
namespace asio = boost::asio;

constexpr Duration kBuildWithin{2 * 60 * 60 * 1000};  // of all steps, the base images' making too
constexpr size_t kMessageBytesMax = 1024 * 1024;      // one line of the builder's
constexpr Duration kClearWithin{60'000};
constexpr int kProgressFd = 3;
constexpr size_t kToldLines = 50;  // more than an error repeats

constexpr const char* kStateVariable = "HOB_BUILD_STATE";

// Where builds keep what they may use again: the instance's, unless the environment names another,
// which instances may share.
fs::path build_state(const Context& context) {
  const char* named = std::getenv(kStateVariable);
  return named != nullptr && *named != 0 ? fs::path(named) : context.data / "builder";
}

// A file that is installed with this program, or lies beside it in a build tree.
Result<fs::path> beside_us(std::initializer_list<const char*> places) {
  std::error_code error;
  const fs::path own = fs::read_symlink("/proc/self/exe", error).parent_path();
  for (const char* place : places) {
    fs::path path = own / place;
    if (fs::exists(path, error)) return path;
  }
  return fail(Code::kNotFound, "{} is not installed with {}", *places.begin(), own.string());
}

// What the builder says, a line of JSON each.
class Listener {
 public:
  // is_quiet: nobody sees the lines that come before an error.
  Listener(Progress& progress, SourceBuild& build, bool is_quiet)
      : progress_(progress), build_(build), is_quiet_(is_quiet) {}

  Async<> listen(Fd from) {
    asio::posix::stream_descriptor stream(co_await asio::this_coro::executor, from.release());
    std::string text;
    while (true) {
      boost::system::error_code error;
      const size_t got =
          co_await asio::async_read_until(stream, asio::dynamic_buffer(text, kMessageBytesMax),
                                          '\n', asio::redirect_error(asio::use_awaitable, error));
      if (error) co_return;
      hear(std::string_view(text).substr(0, got - 1));
      text.erase(0, got);
    }
  }

  // kInternal: it ended without a word.
  Result<void> outcome() const {
    if (done_) return {};
    if (failed_) return fail(*failed_);
    return fail(Code::kInternal, "hob-build ended without a result");
  }

 private:
  void hear(std::string_view line) {
    boost::system::error_code error;
    const json::value message = json::parse(line, error);
    const json::object* object = error ? nullptr : message.if_object();
    if (object == nullptr) return;
    if (object->contains("stage")) {
      progress_.line(printable(text_at(*object, "stage")));
    } else if (object->contains("line")) {
      told_.push_back(text_at(*object, "line"));
      if (told_.size() > kToldLines) told_.pop_front();
      progress_.line("    " + printable(told_.back()));
    } else if (const json::value* result = object->if_contains("result")) {
      take(result->as_object());
    } else if (const json::value* failed = object->if_contains("error")) {
      const json::object& told = failed->as_object();
      failed_ =
          Error{.code = text_at(told, "code") == "invalid" ? Code::kInvalid : Code::kUnavailable,
                .message = is_quiet_ ? text_at(told, "message")
                                     : without_told(text_at(told, "message"), told_)};
    }
  }

  void take(const json::object& result) {
    build_.digest = text_at(result, "digest");
    build_.runtime = text_at(result, "runtime");
    build_.start = text_at(result, "start");
    build_.port = result.at("port").to_number<uint16_t>();
    build_.bytes = result.at("size").to_number<uint64_t>();
    for (const auto& [name, value] : result.at("secrets").as_object()) {
      build_.secrets[name] = std::string(value.as_string());
    }
    done_ = true;
  }

  Progress& progress_;
  SourceBuild& build_;
  bool is_quiet_;
  std::deque<std::string> told_;  // the last lines
  bool done_ = false;
  std::optional<Error> failed_;
};

// Command lines are read by anybody; the environment is not.
void take_login(SourcePlace& place) {
  const size_t begin = place.git.find("://") + 3;
  const size_t end = std::min(place.git.find('/', begin), place.git.size());
  const size_t at = place.git.rfind('@', end);
  if (at == std::string::npos || at < begin) return;
  const std::string login = place.git.substr(begin, at - begin);
  const size_t colon = login.find(':');
  const auto decoded = [](const std::string& text) {
    return http::percent_decode(text, http::Plus::kLiteral).value_or(text);
  };
  // A token alone is written where the user's name is.
  place.user = decoded(login.substr(0, colon));
  place.token = colon == std::string::npos ? place.user : decoded(login.substr(colon + 1));
  place.git.erase(begin, at + 1 - begin);
}

std::map<std::string, std::string> environment_of_ours() {
  std::map<std::string, std::string> all;
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string_view pair = *each;
    if (const size_t equals = pair.find('='); equals != std::string_view::npos)
      all.emplace(pair.substr(0, equals), pair.substr(equals + 1));
  }
  return all;
}

}  // namespace

Result<std::optional<SourcePlace>> source_place(const std::string& named,
                                                const std::string& directory) {
  if (named.starts_with("https://") || named.starts_with("http://")) {
    const size_t mark = named.find('#');
    SourcePlace place{.git = named.substr(0, mark),
                      .reference = mark == std::string::npos ? "" : named.substr(mark + 1),
                      .directory = directory};
    take_login(place);
    return place;
  }
  if (named.starts_with("ssh://") || named.starts_with("git://") || named.starts_with("git@")) {
    return fail(Code::kInvalid,
                "{}: repositories are fetched by https:// and http:// alone; a private one with a "
                "token in HOB_GIT_TOKEN",
                printable(named));
  }
  if (!directory.empty()) {
    return fail(Code::kInvalid,
                "--source-directory is for a repository's address; of a folder, name the one that "
                "holds the application");
  }
  std::error_code error;
  const fs::path path = named;
  if (!fs::is_directory(path, error) || fs::exists(path / "oci-layout", error)) return std::nullopt;
  return SourcePlace{.folder = named};
}

std::string source_name(const SourcePlace& place) {
  if (place.git.empty()) return fs::weakly_canonical(place.folder).filename().string();
  std::string_view path = place.directory.empty() ? place.git : place.directory;
  while (path.ends_with('/')) path.remove_suffix(1);
  path.remove_prefix(path.rfind('/') + 1);
  if (path.ends_with(".git")) path.remove_suffix(4);
  return std::string(path);
}

std::string source_identity(const SourcePlace& place) {
  if (place.git.empty()) return "folder " + fs::weakly_canonical(place.folder).string();
  return "repository " + place.git + " " + place.directory;
}

Async<Result<SourceBuild>> build_source(const Context& context, SourcePlace place, fs::path layout,
                                        std::string cache, Progress& progress) {
  if (::geteuid() != 0) {
    co_return fail(Code::kDenied,
                   "building takes root, for the containers that the steps run in; "
                   "use sudo");
  }
  HOB_CO_TRY(const fs::path program, beside_us({"hob-build", "../libexec/hob-build"}));
  HOB_CO_TRY(const fs::path runtimes, beside_us({"../share/hob/runtimes", "../../runtimes"}));
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) co_return fail_errno(errno, "making a pipe");
  Fd read_end(ends[0]);
  Fd write_end(ends[1]);
  SourceBuild build{.layout = layout};
  Listener listener(progress, build, context.json);
  AsyncScope scope(co_await asio::this_coro::executor);
  scope.spawn("build progress", listener.listen(std::move(read_end)));
  Command command{
      .argv = {program, "--output", layout, "--state", build_state(context), "--runtimes", runtimes,
               "--cache", cache, "--progress-fd", std::to_string(kProgressFd)},
      .fds = {{write_end.get(), kProgressFd}}};
  if (place.git.empty()) {
    command.argv.insert(command.argv.end(), {"--source", place.folder});
  } else {
    command.argv.push_back("--git=" + place.git);
    if (!place.user.empty() || !place.token.empty()) {
      command.environment = environment_of_ours();
      (*command.environment)["HOB_GIT_USER"] = place.user;
      (*command.environment)["HOB_GIT_TOKEN"] = place.token;
    }
    if (!place.reference.empty()) command.argv.push_back("--reference=" + place.reference);
    if (!place.directory.empty()) command.argv.push_back("--source-directory=" + place.directory);
  }
  Result<Exit> exit = co_await hob::run(std::move(command), kBuildWithin);
  write_end.reset();
  co_await scope.join();
  if (!exit) co_return fail(exit.error());
  const Result<void> outcome = listener.outcome();
  if (!outcome && outcome.error().code == Code::kInternal && !exit->errors.empty()) {
    co_return fail(Code::kInternal, "hob-build: {}", exit->errors);
  }
  if (!outcome) co_return fail(outcome.error());
  co_return build;
}

Async<Result<void>> clear_builds(const Context& context) {
  std::error_code error;
  const fs::path state = context.data / "builder";
  if (!fs::exists(state, error)) co_return Result<void>{};
  HOB_CO_TRY(const fs::path program, beside_us({"hob-build", "../libexec/hob-build"}));
  Command command{.argv = {program, "--state", state, "--clear"}};
  HOB_CO_CHECK(
      hob::context(co_await run_ok(std::move(command), kClearWithin), "clearing what builds left"));
  co_return Result<void>{};
}

}  // namespace hob::cli
