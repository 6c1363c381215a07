#include "base/result.h"

#include <system_error>

namespace hob {

const char* word(Code code) {
  switch (code) {
    case Code::kInvalid: return "invalid";
    case Code::kNotFound: return "not_found";
    case Code::kExists: return "exists";
    case Code::kConflict: return "conflict";
    case Code::kLimit: return "limit";
    case Code::kTimeout: return "timeout";
    case Code::kUnavailable: return "unavailable";
    case Code::kDenied: return "denied";
    case Code::kCancelled: return "cancelled";
    case Code::kCorrupt: return "corrupt";
    case Code::kInternal: return "internal";
  }
  return "internal";
}

std::unexpected<Error> fail_errno(int errno_value, std::string doing) {
  Code code = Code::kUnavailable;
  if (errno_value == ENOENT) code = Code::kNotFound;
  if (errno_value == EEXIST) code = Code::kExists;
  if (errno_value == EACCES || errno_value == EPERM) code = Code::kDenied;
  return std::unexpected(Error{
      .code = code,
      .message = doing + ": " + std::error_code(errno_value, std::generic_category()).message()});
}

}  // namespace hob
