#include "builder/git_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <vector>

#include "base/file.h"
#include "base/process.h"
#include "builder/source.h"

namespace hob::builder {

namespace {

namespace fs = std::filesystem;

// Owns what git writes, and nothing else: the last id of the ranges that are left for tasks'
// (sandbox/id_ranges.h), which none of them reaches.
constexpr uint32_t kGitUser = 2'147'483'646;
constexpr Duration kFetchWithin = std::chrono::minutes(15);
constexpr Duration kLocalWithin = std::chrono::minutes(5);  // what needs no network
constexpr int kCpuSecondsMax = 300;
constexpr uint64_t kMemoryBytesMax = 4ULL << 30;  // address space
constexpr size_t kUrlBytesMax = 2048;
constexpr size_t kReferenceBytesMax = 255;
constexpr size_t kDirectoryBytesMax = 4096;  // AWS's limit of SourceDirectory
constexpr auto kCancelLook = std::chrono::milliseconds(50);
constexpr size_t kPieceBytes = 64 * 1024;

// For GIT_ASKPASS: what it is asked for is in the environment, which no command line shows.
constexpr std::string_view kAskPass =
    "#!/bin/sh\ncase $1 in\nUsername*) printf '%s\\n' \"$HOB_GIT_USER\" ;;\n"
    "*) printf '%s\\n' \"$HOB_GIT_PASSWORD\" ;;\nesac\n";

bool is_commit(std::string_view text) {
  return text.size() == 40 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

using Environment = std::map<std::string, std::string>;

Environment environment_of(const GitAddress& address, const fs::path& directory) {
  Environment environment{{"PATH", "/usr/bin:/bin"},
                          {"HOME", directory / "home"},
                          {"LC_ALL", "C"},
                          {"GIT_CONFIG_NOSYSTEM", "1"},
                          {"GIT_CONFIG_GLOBAL", "/dev/null"},
                          {"GIT_TERMINAL_PROMPT", "0"},
                          {"GIT_ASKPASS", directory / "askpass"},
                          {"GIT_ALLOW_PROTOCOL", "http:https"},
                          {"HOB_GIT_USER", address.user},
                          {"HOB_GIT_PASSWORD", address.password}};
  // The way out is the machine's, and so is whom it trusts.
  for (const char* name : {"http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY",
                           "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO"}) {
    if (const char* value = std::getenv(name)) environment[name] = value;
  }
  const std::pair<const char*, const char*> settings[] = {{"protocol.version", "2"},
                                                          {"core.hooksPath", "/dev/null"},
                                                          {"core.fsmonitor", "false"},
                                                          {"core.symlinks", "true"},
                                                          {"core.protectNTFS", "true"},
                                                          {"fetch.fsckObjects", "true"},
                                                          {"fetch.recurseSubmodules", "false"},
                                                          {"gc.auto", "0"},
                                                          {"maintenance.auto", "false"},
                                                          {"advice.detachedHead", "false"},
                                                          {"http.followRedirects", "false"},
                                                          {"http.lowSpeedLimit", "512"},
                                                          {"http.lowSpeedTime", "30"},
                                                          {"pack.threads", "2"}};
  int count = 0;
  for (const auto& [key, value] : settings) {
    environment[fmt::format("GIT_CONFIG_KEY_{}", count)] = key;
    environment[fmt::format("GIT_CONFIG_VALUE_{}", count)] = value;
    ++count;
  }
  environment["GIT_CONFIG_COUNT"] = std::to_string(count);
  return environment;
}

// Nobody on the way reads what is said: it is encrypted, or does not leave the machine.
bool is_private(std::string_view url) {
  if (url.starts_with("https://")) return true;
  url.remove_prefix(std::string_view("http://").size());
  const std::string_view host = url.substr(0, url.find_first_of(":/"));
  return host == "localhost" || host.starts_with("127.");
}

class Fetch {
 public:
  Fetch(GitAddress address, fs::path directory, const std::atomic<bool>& cancelled)
      : address_(std::move(address)),
        directory_(std::move(directory)),
        repository_(directory_ / "repository"),
        environment_(environment_of(address_, directory_)),
        cancelled_(cancelled) {}

  Result<void> prepare() {
    for (const fs::path& each : {directory_ / "home", repository_}) {
      if (::mkdir(each.c_str(), 0700) != 0) return fail_errno(errno, "making " + each.string());
      if (::chown(each.c_str(), kGitUser, kGitUser) != 0)
        return fail_errno(errno, "giving away " + each.string());
    }
    HOB_CHECK(write_file_durably(directory_ / "askpass", kAskPass, 0755));
    return git_ok({"init", "--quiet", "--template=", "."}, kLocalWithin);
  }

  Result<void> fetch(const std::string& reference) {
    HOB_TRY(const Exit exit,
            git({"fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--",
                 address_.url, reference.empty() ? "HEAD" : reference},
                kFetchWithin));
    if (exit.status == 0) return {};
    return explain(exit, reference);
  }

  Result<std::string> commit() {
    HOB_TRY(const Exit exit, git({"rev-parse", "--verify", "FETCH_HEAD^{commit}"}, kLocalWithin));
    std::string id = exit.output.substr(0, exit.output.find('\n'));
    if (exit.status != 0 || !is_commit(id))
      return fail(Code::kInvalid, "{}: that is no commit", address_.url);
    return id;
  }

  // Before they are on the disk: a small pack may hold a great many large files.
  Result<void> check_size(const std::string& commit) {
    const fs::path list = directory_ / "list";
    {
      const Fd file(::open(list.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
      if (!file) return fail_errno(errno, "making a list of the files");
      HOB_TRY(const Exit exit, git({"ls-tree", "-r", "-l", "-z", "--full-tree", commit},
                                   kLocalWithin, {{file.get(), STDOUT_FILENO}}));
      if (exit.status == 0) return check_list(list);
    }
    return fail(Code::kInvalid, "{}: its files could not be listed within the limits of a source",
                address_.url);
  }

  // As they are in the commit: what its .gitattributes ask for could make them larger than counted.
  Result<void> check_out(const std::string& commit) {
    const fs::path attributes = repository_ / ".git" / "info" / "attributes";
    HOB_CHECK(make_directories(attributes.parent_path(), 0755));
    HOB_CHECK(
        write_file_durably(attributes, "* -text -working-tree-encoding -ident -filter\n", 0644));
    return git_ok({"checkout", "--quiet", "--detach", commit}, kLocalWithin);
  }

  const fs::path& repository() const { return repository_; }

 private:
  using Fds = std::vector<std::pair<int, int>>;

  Result<Exit> git(std::vector<std::string> arguments, Duration within, Fds fds = {}) {
    const std::string user = std::to_string(kGitUser);
    Command command{
        .argv = {"setpriv", "--reuid=" + user, "--regid=" + user, "--clear-groups",
                 "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--pdeathsig=KILL",
                 "prlimit", fmt::format("--fsize={}", kSourceBytesMax),
                 fmt::format("--cpu={}", kCpuSecondsMax), fmt::format("--as={}", kMemoryBytesMax),
                 "--core=0", "git"},
        .environment = environment_,
        .directory = repository_,
        .fds = std::move(fds)};
    for (std::string& each : arguments) command.argv.push_back(std::move(each));
    boost::asio::io_context loop;
    boost::asio::cancellation_signal cancel;
    std::optional<Result<Exit>> end;
    boost::asio::co_spawn(
        loop, run(std::move(command), within),
        boost::asio::bind_cancellation_slot(cancel.slot(), [&](const std::exception_ptr& thrown,
                                                               Result<Exit> exit) {
          end = thrown != nullptr ? Result<Exit>(fail(Code::kCancelled, "fetching was cancelled"))
                                  : std::move(exit);
        }));
    bool told = false;
    while (!end) {
      loop.run_for(kCancelLook);
      if (!end && cancelled_.load() && !std::exchange(told, true))
        cancel.emit(boost::asio::cancellation_type::terminal);
    }
    if (cancelled_.load()) return fail(Code::kCancelled, "fetching was cancelled");
    if (!*end && end->error().code == Code::kTimeout) {
      return fail(Code::kUnavailable, "{}: git took longer than {} minutes", address_.url,
                  std::chrono::duration_cast<std::chrono::minutes>(within).count());
    }
    return *std::move(end);
  }

  Result<void> git_ok(std::vector<std::string> arguments, Duration within) {
    const std::string what = arguments.front();
    HOB_TRY(const Exit exit, git(std::move(arguments), within));
    if (exit.status == 0) return {};
    return fail(Code::kInvalid, "{}: git {} failed: {}", address_.url, what, last_words(exit));
  }

  // What git said last, without its prefix; never the password, which it has from elsewhere.
  static std::string last_words(const Exit& exit) {
    std::string_view text = exit.errors;
    while (text.ends_with('\n')) text.remove_suffix(1);
    if (const size_t line = text.rfind('\n'); line != std::string_view::npos)
      text.remove_prefix(line + 1);
    for (const std::string_view prefix : {"fatal: ", "error: "}) {
      if (text.starts_with(prefix)) text.remove_prefix(prefix.size());
    }
    if (text.empty()) return fmt::format("it ended with {}", exit.status);
    return std::string(text.substr(0, kReferenceBytesMax));
  }

  std::unexpected<Error> explain(const Exit& exit, const std::string& reference) const {
    const auto says = [&](std::string_view text) {
      return exit.errors.find(text) != std::string::npos;
    };
    if (says("could not read Username") || says("could not read Password") ||
        says("Authentication failed") || says("error: 401") || says("error: 403")) {
      return fail(Code::kInvalid,
                  "{}: it is not open to everybody, or not there; give a token that may read it in "
                  "HOB_GIT_TOKEN (and its user in HOB_GIT_USER)",
                  address_.url);
    }
    if (says("couldn't find remote ref") || says("not our ref")) {
      return fail(Code::kInvalid, "{}: there is no branch, tag or commit {}", address_.url,
                  reference.empty() ? "to take: it is empty" : reference);
    }
    if (says("not found") || says("error: 404"))
      return fail(Code::kInvalid, "{}: there is no repository", address_.url);
    if (exit.status == 128 + SIGXFSZ || exit.status == 128 + SIGXCPU || says("File too large")) {
      return fail(Code::kLimit, "{}: one commit of it is over {} MiB, the most a source may have",
                  address_.url, kSourceBytesMax >> 20);
    }
    return fail(Code::kUnavailable, "{}: {}", address_.url, last_words(exit));
  }

  // "MODE TYPE ID    SIZE\tPATH\0" each.
  Result<void> check_list(const fs::path& list) const {
    const Fd file(::open(list.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return fail_errno(errno, "reading the list of the files");
    uint64_t files = 0;
    uint64_t bytes = 0;
    std::string rest;
    std::string piece(kPieceBytes, '\0');
    while (true) {
      const ssize_t got = ::read(file.get(), piece.data(), piece.size());
      if (got < 0) return fail_errno(errno, "reading the list of the files");
      if (got == 0) break;
      rest.append(piece, 0, static_cast<size_t>(got));
      size_t begin = 0;
      for (size_t end = rest.find('\0'); end != std::string::npos; end = rest.find('\0', begin)) {
        ++files;
        bytes += size_in(std::string_view(rest).substr(begin, end - begin));
        begin = end + 1;
      }
      rest.erase(0, begin);
      if (files > kSourceFilesMax || bytes > kSourceBytesMax) {
        return fail(Code::kLimit, "{} holds more than a source may: {} files and {} MiB",
                    address_.url, kSourceFilesMax, kSourceBytesMax >> 20);
      }
    }
    return {};
  }

  static uint64_t size_in(std::string_view entry) {
    entry = entry.substr(0, entry.find('\t'));
    entry.remove_prefix(entry.rfind(' ') + 1);
    uint64_t size = 0;  // "-": a submodule
    std::from_chars(entry.data(), entry.data() + entry.size(), size);
    return size;
  }

  const GitAddress address_;
  const fs::path directory_;
  const fs::path repository_;
  const Environment environment_;
  const std::atomic<bool>& cancelled_;
};

// The application's folder, none of whose parts is a link: nobody writes there any more.
Result<fs::path> folder_in(const fs::path& repository, const std::string& directory,
                           const std::string& url) {
  fs::path found = repository;
  for (const fs::path& part : fs::path(directory)) {
    if (part.empty() || part == "/" || part == ".") continue;
    found /= part;
    std::error_code error;
    if (fs::symlink_status(found, error).type() != fs::file_type::directory)
      return fail(Code::kInvalid, "{}: there is no folder {} in it", url, directory);
  }
  return found;
}

}  // namespace

Result<FetchFolder> FetchFolder::make() {
  std::string path = fs::temp_directory_path() / "hob-git-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return fail_errno(errno, "making a folder to fetch into");
  FetchFolder made((fs::path(path)));
  if (::chmod(path.c_str(), 0711) != 0) return fail_errno(errno, "opening " + path);
  return made;
}

FetchFolder::~FetchFolder() {
  // What cannot be removed is in the place for temporary files.
  if (!path_.empty()) (void)remove_tree(path_);
}

Result<GitAddress> parse_git_url(std::string_view url) {
  const bool plain = std::ranges::all_of(url, [](char c) { return c > ' ' && c < '\x7f'; });
  const bool secure = url.starts_with("https://");
  if (!plain || url.size() > kUrlBytesMax || (!secure && !url.starts_with("http://"))) {
    return fail(Code::kInvalid,
                "'{}' is no address of a git repository that can be fetched: it begins with "
                "https:// or http:// and is at most {} long",
                plain ? url.substr(0, kReferenceBytesMax) : "", kUrlBytesMax);
  }
  const std::string_view scheme = secure ? "https://" : "http://";
  std::string_view rest = url.substr(scheme.size());
  GitAddress address;
  const std::string_view authority = rest.substr(0, rest.find('/'));
  if (const size_t at = authority.rfind('@'); at != std::string_view::npos) {
    const std::string_view login = authority.substr(0, at);
    const size_t colon = login.find(':');
    address.user = login.substr(0, colon);
    if (colon != std::string_view::npos) address.password = login.substr(colon + 1);
    rest.remove_prefix(at + 1);
  }
  if (rest.empty() || rest.front() == '/' || rest.find('/') == std::string_view::npos)
    return fail(Code::kInvalid, "'{}{}' names no host and repository", scheme, rest);
  address.url = std::string(scheme).append(rest);
  return address;
}

// git-check-ref-format(1), without what revisions are made of.
Result<void> check_git_reference(std::string_view reference) {
  const bool plain = std::ranges::all_of(reference, [](char c) {
    return c > ' ' && c < '\x7f' &&
           std::string_view("~^:?*[\\@{").find(c) == std::string_view::npos;
  });
  if (plain && reference.size() <= kReferenceBytesMax && !reference.starts_with('-') &&
      !reference.starts_with('+') && reference.find("..") == std::string_view::npos)
    return {};
  return fail(Code::kInvalid, "'{}' names no branch, tag or commit",
              plain ? reference.substr(0, kReferenceBytesMax) : "");
}

Result<void> check_source_directory(std::string_view directory) {
  const bool inside =
      std::ranges::none_of(fs::path(directory), [](const fs::path& part) { return part == ".."; });
  if (inside && directory.size() <= kDirectoryBytesMax &&
      directory.find('\0') == std::string_view::npos)
    return {};
  return fail(Code::kInvalid, "the source directory is a folder of the repository, without '..'");
}

Result<GitCheckout> fetch_git(const GitRequest& request, const FetchFolder& place,
                              const std::atomic<bool>& cancelled,
                              const std::function<void(std::string_view)>& stage) {
  HOB_TRY(GitAddress address, parse_git_url(request.url));
  HOB_CHECK(check_git_reference(request.reference));
  HOB_CHECK(check_source_directory(request.directory));
  if (address.user.empty() && address.password.empty()) {
    const char* token = std::getenv("HOB_GIT_TOKEN");
    if (token != nullptr && !is_private(address.url)) {
      return fail(Code::kInvalid,
                  "{}: over http anybody on the way could read HOB_GIT_TOKEN; use https",
                  address.url);
    }
    if (token != nullptr) {
      const char* user = std::getenv("HOB_GIT_USER");
      // GitHub's and Bitbucket's name for whoever has a token; others take any.
      address.user = user != nullptr ? user : "x-access-token";
      address.password = token;
    }
  }
  const std::string url = address.url;
  stage(fmt::format("fetching {}{}", url,
                    request.reference.empty() ? "" : " at " + request.reference));
  Fetch fetch(std::move(address), place.path(), cancelled);
  HOB_CHECK(fetch.prepare());
  HOB_CHECK(fetch.fetch(request.reference));
  HOB_TRY(const std::string commit, fetch.commit());
  HOB_CHECK(fetch.check_size(commit));
  HOB_CHECK(fetch.check_out(commit));
  stage(fmt::format("commit {}", commit));
  std::error_code error;
  if (fs::exists(fetch.repository() / ".gitmodules", error))
    stage("its submodules are left out: .gitmodules names some, and they are not fetched");
  HOB_TRY(const fs::path folder, folder_in(fetch.repository(), request.directory, url));
  return GitCheckout{.folder = folder, .commit = commit, .url = url};
}

}  // namespace hob::builder
