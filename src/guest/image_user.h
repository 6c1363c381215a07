// Who a task runs as: an image's USER ("", "1000", "www-data", "app:staff", "0:0") looked up in its
// own /etc/passwd and /etc/group, by Docker's rules. Pure; the texts come from the image and are
// not trusted.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::guest {

inline constexpr size_t kAccountFileBytesMax =
    1024 * 1024;                           // of an image's /etc/passwd, /etc/group that we read
inline constexpr size_t kGroupsMax = 256;  // supplementary groups of a task's user
inline constexpr uint32_t kUserIdsMax = 65'536;  // a task's ids are below

struct ImageUser {
  uint32_t user = 0;
  uint32_t group = 0;
  std::vector<uint32_t> groups{};  // supplementary, sorted; at most kGroupsMax
  std::string home = "/";          // for HOME
};

// A number needs no entry; without one its group is 0. A name needs one. With a group given, it is
// the only one; else the user's own and those it is listed in. Lines that are no entries are passed
// over. kInvalid, in Docker's words: no such user or group, or a number that a task's id range does
// not hold.
Result<ImageUser> resolve_user(std::string_view user, std::string_view passwd,
                               std::string_view group);

}  // namespace hob::guest
