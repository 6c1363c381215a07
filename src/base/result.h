// Result<T>: a value or an Error. Every failure in Hob is one of these; no exception crosses a room.
//
//   HOB_TRY(Manifest manifest, parse_manifest(text));          // in a function
//   HOB_CO_TRY(Revision revision, co_await store.commit(...));  // in a coroutine
//   return fail(Code::kInvalid, "{} has {} layers, at most {}", ref, count, kImageLayersMax);
#pragma once

#include <fmt/core.h>

#include <expected>
#include <string>
#include <utility>

namespace hob {

// What kind of failure it is, for code that must tell them apart; `message` is for people.
enum class Code {
  kInvalid,      // the input breaks a rule; doing it again will not help
  kNotFound,     // what was named does not exist
  kExists,       // what was to be made exists already
  kConflict,     // somebody else changed it meanwhile; read again and retry
  kLimit,        // a named limit is reached
  kTimeout,      // the deadline passed
  kUnavailable,  // the world failed us (network, disk, process); may work later
  kDenied,       // not allowed
  kCancelled,    // the caller gave up
  kCorrupt,      // stored or received data is not what its digest or format says
  kInternal,     // we failed; logged with ids where it is turned into an answer
};

// The lower-case word of a code, for logs: "not_found".
const char* word(Code code);

struct Error {
  Code code = Code::kInternal;
  std::string message{};
  std::string aws_code{};  // set by the generated AWS factories alone: the error shape's name
};

template <class T>
class [[nodiscard]] Result : public std::expected<T, Error> {
 public:
  using std::expected<T, Error>::expected;
};

template <class... Args>
std::unexpected<Error> fail(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return std::unexpected(
      Error{.code = code, .message = fmt::format(format, std::forward<Args>(args)...)});
}

inline std::unexpected<Error> fail(Error error) { return std::unexpected(std::move(error)); }

// Adds what *we* were doing in front of an error's message, once per room, outermost first.
template <class T, class... Args>
Result<T> context(Result<T> result, fmt::format_string<Args...> format, Args&&... args) {
  if (!result) {
    result.error().message = fmt::format(format, std::forward<Args>(args)...) + ": " +
                             std::move(result.error().message);
  }
  return result;
}

// "opening /x: No such file or directory": an Error from errno.
std::unexpected<Error> fail_errno(int errno_value, std::string doing);

}  // namespace hob

#define HOB_CONCAT_INNER(a, b) a##b
#define HOB_CONCAT(a, b) HOB_CONCAT_INNER(a, b)
#define HOB_TRY_INNER(keyword, tmp, declaration, ...)     \
  auto tmp = __VA_ARGS__;                                 \
  if (!tmp) keyword ::hob::fail(std::move(tmp).error());  \
  declaration = std::move(*tmp)
#define HOB_CHECK_INNER(keyword, tmp, ...)                \
  if (auto tmp = __VA_ARGS__; !tmp) keyword ::hob::fail(std::move(tmp).error())

// HOB_TRY(declaration, expression): declares from the value, or returns the error.
#define HOB_TRY(declaration, ...) \
  HOB_TRY_INNER(return, HOB_CONCAT(hob_try_, __LINE__), declaration, __VA_ARGS__)
#define HOB_CO_TRY(declaration, ...) \
  HOB_TRY_INNER(co_return, HOB_CONCAT(hob_try_, __LINE__), declaration, __VA_ARGS__)
// HOB_CHECK(expression): for Result<void>.
#define HOB_CHECK(...) HOB_CHECK_INNER(return, HOB_CONCAT(hob_check_, __LINE__), __VA_ARGS__)
#define HOB_CO_CHECK(...) HOB_CHECK_INNER(co_return, HOB_CONCAT(hob_check_, __LINE__), __VA_ARGS__)
