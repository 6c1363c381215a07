// What a git client asks for: the smart protocol's three requests, and nothing else. Pure; any
// thread.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace hob::git {

inline constexpr std::string_view kRemoteRoot = "/git";

enum class GitService { kUploadPack, kReceivePack };  // fetch, push

struct RemotePath {
  std::string service{};  // the name of one of ours, valid
  GitService git = GitService::kUploadPack;
  bool advertises = false;  // GET …/info/refs; false: POST …/git-upload-pack, git-receive-pack
};

// App Runner's rule for names: 4 to 40 of A-Z a-z 0-9 - _, the first a letter or digit.
bool is_service_name(std::string_view name);

// `path` decoded, `query` as sent; nullopt: no request of the smart protocol. The name may lack
// ".git".
std::optional<RemotePath> parse_remote_path(std::string_view method, std::string_view path,
                                            std::string_view query);
// "git-upload-pack", "git-receive-pack".
std::string_view word(GitService service);

}  // namespace hob::git
