// A git repository as a source: one commit of it, fetched and laid out as a folder. Blocking.
//
// The machine's git does it, as a user that owns nothing else, over HTTP alone, with limits and
// with no configuration, hook or filter but ours: what a repository holds is never run or followed
// here.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace hob::builder {

struct GitRequest {
  std::string url{};        // https or http; may hold user and password
  std::string reference{};  // a branch, a tag or a whole commit id; empty: the remote's own choice
  std::string directory{};  // the application's, within the repository; empty: all of it
};

// What may be told of a repository's address, and what must not.
struct GitAddress {
  std::string url{};  // without user and password
  std::string user{};
  std::string password{};
};

// kInvalid, with what is wrong with it, for people.
Result<GitAddress> parse_git_url(std::string_view url);
// kInvalid: git could take it for something else than a branch, a tag or a commit.
Result<void> check_git_reference(std::string_view reference);
// kInvalid: it leads out of the repository.
Result<void> check_source_directory(std::string_view directory);

// Where git works, in the machine's place for temporary files: another user has to get there. Gone
// with its owner.
class FetchFolder {
 public:
  static Result<FetchFolder> make();
  FetchFolder(FetchFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  FetchFolder& operator=(FetchFolder&&) = delete;
  ~FetchFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit FetchFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

struct GitCheckout {
  std::filesystem::path folder{};  // the application's
  std::string commit{};            // 40 hex
  std::string url{};               // without user and password
};

// What is fetched lies in `place`, which nothing was fetched into before. kInvalid: there is no
// such repository, reference or folder, or they are not ours to read. kLimit: it holds more than a
// source may (source.h). kUnavailable: it could not be reached. kCancelled.
Result<GitCheckout> fetch_git(const GitRequest& request, const FetchFolder& place,
                              const std::atomic<bool>& cancelled,
                              const std::function<void(std::string_view)>& stage);

}  // namespace hob::builder
