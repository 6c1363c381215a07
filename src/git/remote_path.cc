#include "git/remote_path.h"

#include <algorithm>
#include <cctype>

namespace hob::git {

namespace {
constexpr size_t kNameBytesMin = 4;
constexpr size_t kNameBytesMax = 40;
constexpr std::string_view kSuffix = ".git";

bool is_alphanumeric(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}
}  // namespace

bool is_service_name(std::string_view name) {
  return name.size() >= kNameBytesMin && name.size() <= kNameBytesMax &&
         is_alphanumeric(name.front()) && std::ranges::all_of(name, [](char c) {
           return is_alphanumeric(c) || c == '-' || c == '_';
         });
}

std::string_view word(GitService service) {
  return service == GitService::kUploadPack ? "git-upload-pack" : "git-receive-pack";
}

std::optional<RemotePath> parse_remote_path(std::string_view method, std::string_view path,
                                            std::string_view query) {
  if (!path.starts_with(kRemoteRoot)) return std::nullopt;
  path.remove_prefix(kRemoteRoot.size());
  if (!path.starts_with('/')) return std::nullopt;
  path.remove_prefix(1);
  const size_t slash = path.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  std::string_view name = path.substr(0, slash);
  const std::string_view rest = path.substr(slash + 1);
  if (name.ends_with(kSuffix)) name.remove_suffix(kSuffix.size());
  if (!is_service_name(name)) return std::nullopt;
  for (const GitService service : {GitService::kUploadPack, GitService::kReceivePack}) {
    const bool asks = method == "GET" && rest == "info/refs" && query.starts_with("service=") &&
                      query.substr(8) == word(service);
    const bool sends = method == "POST" && rest == word(service) && query.empty();
    if (asks || sends)
      return RemotePath{.service = std::string(name), .git = service, .advertises = asks};
  }
  return std::nullopt;
}

}  // namespace hob::git
