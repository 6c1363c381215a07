#include <cstddef>
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "guest/image_user.h"

// The user, the passwd and the group file, split at the first two 0x00 bytes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::guest;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const size_t first = std::min(text.find('\0'), size);
  const std::string rest = first < size ? text.substr(first + 1) : "";
  const size_t second = std::min(rest.find('\0'), rest.size());
  const auto user = resolve_user(text.substr(0, first), rest.substr(0, second),
                                 second < rest.size() ? rest.substr(second + 1) : "");
  if (user) {
    HOB_ASSERT(user->user < kUserIdsMax);
    HOB_ASSERT(user->group < kUserIdsMax);
    HOB_ASSERT(user->groups.size() <= kGroupsMax);
  }
  return 0;
}
