#include "git/repositories.h"

#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "git/cgi_child.h"

namespace hob::git {

namespace fs = std::filesystem;

namespace {

constexpr Duration kCommandWithin{60'000};
constexpr Duration kCollectWithin{10 * 60'000};
constexpr unsigned kPrivate = 0700;

// Bytes of the files below; the number of packs.
struct Measure {
  uint64_t bytes = 0;
  size_t packs = 0;
};

Measure measure(const fs::path& repository) {
  Measure sum;
  std::error_code error;
  for (fs::recursive_directory_iterator at(repository / "objects", error), end; at != end;
       at.increment(error)) {
    if (error) break;
    std::error_code gone;  // files come and go
    if (!at->is_regular_file(gone)) continue;
    const uint64_t size = at->file_size(gone);
    if (!gone) sum.bytes += size;
    if (at->path().extension() == ".pack") ++sum.packs;
  }
  return sum;
}

// Hard links of the quarantined packs beside the others. git, which moves them there when the hook
// has accepted, takes a file that is there already for what it is: the same.
Result<void> link_packs(const fs::path& quarantine, const fs::path& repository) {
  std::error_code error;
  const fs::path to = repository / "objects" / "pack";
  fs::create_directories(to, error);
  // The index last: what has none is not looked at.
  for (const char* kind : {".pack", ".rev", ".idx"}) {
    for (const auto& entry : fs::directory_iterator(quarantine / "pack", error)) {
      if (entry.path().extension() != kind) continue;
      const fs::path link = to / entry.path().filename();
      if (::link(entry.path().c_str(), link.c_str()) != 0 && errno != EEXIST)
        return fail_errno(errno, "keeping " + link.string());
    }
  }
  if (error) return fail(Code::kUnavailable, "reading what was pushed: {}", error.message());
  return sync_directory(to);
}

std::string hidden_ref(const std::string& commit) { return "refs/hob/deploying/" + commit; }

}  // namespace

Repositories::Repositories(fs::path directory, BlockingPool& pool, uint64_t push_bytes_max)
    : directory_(std::move(directory)), pool_(pool), push_bytes_max_(push_bytes_max) {}

fs::path Repositories::path_of(const RepositoryName& name) const {
  return directory_ / name.account / (name.service + ".git");
}

Async<Result<void>> Repositories::open() {
  return on_pool(pool_, [directory = directory_, hooks = hooks()]() -> Result<void> {
    HOB_CHECK(make_directories(directory, kPrivate));
    HOB_CHECK(make_directories(hooks, kPrivate));
    return write_file_durably(hooks / "pre-receive", pre_receive_program(), kPrivate);
  });
}

Async<Result<bool>> Repositories::has(RepositoryName name) {
  return on_pool(pool_, [path = path_of(name)]() -> Result<bool> {
    std::error_code error;
    return fs::exists(path / "HEAD", error);
  });
}

Async<Result<void>> Repositories::ensure(RepositoryName name) {
  const fs::path path = path_of(name);
  HOB_CO_TRY(const bool there, co_await has(name));
  if (there) co_return Result<void>();
  HOB_CO_CHECK(co_await on_pool(pool_, [account = directory_ / name.account]() -> Result<void> {
    HOB_CHECK(make_directories(account, kPrivate));
    std::error_code error;
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(account, error)) ++count;
    if (count >= kRepositoriesMax) {
      return fail(Code::kLimit,
                  "the account has {} repositories, the most there can be: remove some",
                  kRepositoriesMax);
    }
    return {};
  }));
  // Beside its place, and whole before it is there: what a killed init left is gone over again.
  const fs::path fresh = path.parent_path() / ("." + name.service + ".new");
  Command init{.argv = {"git", "init", "--quiet", "--bare", "--template=", "--initial-branch=main",
                        "--", fresh.string()},
               .environment = git_environment(hooks(), push_bytes_max_),
               .directory = "/"};
  HOB_CO_CHECK(co_await run_ok(std::move(init), kCommandWithin));
  co_return co_await on_pool(pool_, [fresh, path]() -> Result<void> {
    std::error_code error;
    fs::rename(fresh, path, error);
    // Another push made it meanwhile.
    if (error && !fs::exists(path / "HEAD"))
      return fail_errno(error.value(), "making " + path.string());
    return remove_tree(fresh);
  });
}

Async<Result<void>> Repositories::git(RepositoryName name, std::vector<std::string> arguments,
                                      Duration timeout) {
  Command command{.argv = {"git", "--git-dir=" + path_of(name).string()},
                  .environment = git_environment(hooks(), push_bytes_max_),
                  .directory = "/"};
  command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
  HOB_CO_CHECK(co_await run_ok(std::move(command), timeout));
  co_return Result<void>();
}

Async<Result<void>> Repositories::check_room(RepositoryName name) {
  const auto measured = [this, name] {
    return on_pool(pool_, [path = path_of(name)] { return measure(path); });
  };
  Measure size = co_await measured();
  if (size.bytes <= kRepositoryBytesMax) co_return Result<void>();
  HOB_CO_CHECK(co_await git(name, {"repack", "-a", "-d", "-q"}, kCollectWithin));
  size = co_await measured();
  if (size.bytes <= kRepositoryBytesMax) co_return Result<void>();
  co_return fail(Code::kLimit,
                 "the repository holds {} MiB, at most {}: delete branches and tags, or begin anew",
                 size.bytes >> 20, kRepositoryBytesMax >> 20);
}

Async<Result<void>> Repositories::keep(RepositoryName name, const PushQuestion& question,
                                       std::string commit) {
  if (!question.quarantine.empty()) {
    HOB_CO_CHECK(co_await on_pool(
        pool_,
        [from = fs::path(question.quarantine).lexically_normal(),
         to = path_of(name)]() -> Result<void> {
          // git's own folder, as its hook told us: nothing else is linked.
          if (from.parent_path() != to / "objects" ||
              !from.filename().string().starts_with("tmp_objdir-incoming"))
            return fail(Code::kInternal, "{} is no quarantine of {}", from.string(), to.string());
          return link_packs(from, to);
        }));
  }
  std::vector<std::string> arguments = {"update-ref", hidden_ref(commit), commit};
  co_return co_await git(std::move(name), std::move(arguments), kCommandWithin);
}

Async<Result<void>> Repositories::forget(RepositoryName name, std::string commit) {
  std::vector<std::string> arguments = {"update-ref", "-d", hidden_ref(commit)};
  co_return co_await git(std::move(name), std::move(arguments), kCommandWithin);
}

Async<Result<void>> Repositories::point_head(RepositoryName name, std::string branch) {
  std::vector<std::string> arguments = {"symbolic-ref", "HEAD", "refs/heads/" + branch};
  co_return co_await git(std::move(name), std::move(arguments), kCommandWithin);
}

Async<Result<std::string>> Repositories::followed_branch(RepositoryName name) {
  const fs::path path = path_of(name);
  Command command{
      .argv = {"git", "--git-dir=" + path.string(), "rev-parse", "--verify", "--quiet", "HEAD"},
      .environment = git_environment(hooks(), push_bytes_max_),
      .directory = "/"};
  HOB_CO_TRY(const Exit exit, co_await run(std::move(command), kCommandWithin));
  if (exit.status != 0) co_return std::string();  // a branch without a commit
  HOB_CO_TRY(const std::string head, co_await on_pool(pool_, [path] {
               return read_file(path / "HEAD", kRefBytesMax + 16);
             }));
  constexpr std::string_view prefix = "ref: ";
  if (!head.starts_with(prefix)) co_return std::string();
  std::string_view ref = std::string_view(head).substr(prefix.size());
  if (ref.ends_with('\n')) ref.remove_suffix(1);
  co_return std::string(branch_of(ref));
}

Async<Result<void>> Repositories::collect_garbage(RepositoryName name) {
  const Measure size = co_await on_pool(pool_, [path = path_of(name)] { return measure(path); });
  if (size.packs <= kPacksMax) co_return Result<void>();
  std::vector<std::string> arguments = {"repack", "-a", "-d", "-q"};
  co_return co_await git(std::move(name), std::move(arguments), kCollectWithin);
}

Async<Result<void>> Repositories::remove(RepositoryName name) {
  return on_pool(pool_, [path = path_of(name)] { return remove_tree(path); });
}

}  // namespace hob::git
