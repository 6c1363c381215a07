#include "network/forwarding.h"

#include <algorithm>
#include <vector>

#include "base/file.h"
#include "network/namespaces.h"

namespace hob::network {

namespace {

namespace fs = std::filesystem;

// A claim is a file "<interface>@<instance>": that instance needs the switch, which was off before
// the first of ours came.
struct Claim {
  std::string interface{};
  std::string instance{};
  fs::path file{};
};

Result<std::vector<Claim>> claims(const fs::path& directory) {
  std::vector<Claim> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    const size_t at = name.rfind('@');
    if (at == std::string::npos) continue;
    found.push_back(
        {.interface = name.substr(0, at), .instance = name.substr(at + 1), .file = entry.path()});
  }
  if (error) return fail(Code::kUnavailable, "reading {}: {}", directory.string(), error.message());
  return found;
}

std::string switch_of(const std::string& interface) {
  return "ipv4/conf/" + interface + "/forwarding";
}

}  // namespace

Result<std::set<std::string>> lacking_forwarding(const fs::path& shared_directory,
                                                 const std::set<std::string>& interfaces) {
  HOB_TRY(const std::vector<Claim> all, claims(shared_directory));
  std::set<std::string> lacking;
  for (const std::string& interface : interfaces) {
    const bool claimed =
        std::ranges::any_of(all, [&](const Claim& claim) { return claim.interface == interface; });
    HOB_TRY(const std::string now, get_sysctl(switch_of(interface)));
    if (claimed || now == "0") lacking.insert(interface);
  }
  return lacking;
}

Result<void> claim_forwarding(const fs::path& shared_directory, const std::string& instance,
                              const std::set<std::string>& lacking) {
  for (const std::string& interface : lacking) {
    // The claim is durable before the switch moves, so that a crash between the two is put right at
    // tear-down.
    HOB_CHECK(write_file_durably(shared_directory / (interface + "@" + instance), "", 0600));
    HOB_CHECK(set_sysctl(switch_of(interface), "1"));
  }
  return {};
}

Result<void> release_forwarding(const fs::path& shared_directory, const std::string& instance) {
  HOB_TRY(const std::vector<Claim> all, claims(shared_directory));
  for (const Claim& mine : all) {
    if (mine.instance != instance) continue;
    const bool last = std::ranges::none_of(all, [&](const Claim& other) {
      return other.interface == mine.interface && other.instance != instance;
    });
    // The interface may be gone: then there is nothing to put back.
    if (last) {
      auto restored = set_sysctl(switch_of(mine.interface), "0");
      if (!restored && restored.error().code != Code::kNotFound) return restored;
    }
    HOB_CHECK(remove_tree(mine.file));
  }
  return {};
}

}  // namespace hob::network
