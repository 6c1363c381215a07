#include "git/push_hook.h"

#include <algorithm>

#include "git/limits.h"

namespace hob::git {

namespace {

constexpr std::string_view kBranches = "refs/heads/";
constexpr std::string_view kTags = "refs/tags/";
constexpr size_t kObjectIdDigits = 40;

// What printf would take for a directive is an argument here; `read -r` leaves backslashes alone.
constexpr std::string_view kProgram = R"(#!/bin/sh
# Written anew at each start. Asks control whether a push is taken; see push_hook.h.
{ printf '%s\n' "$GIT_QUARANTINE_PATH"; cat; printf '\n'; } >&3 || exit 1
while IFS= read -r line <&4; do
  case $line in
    'say '*) printf '%s\n' "${line#say }" ;;
    accept) exit 0 ;;
    *) exit 1 ;;
  esac
done
exit 1
)";

std::string id_or_empty(std::string_view text) {
  return text.find_first_not_of('0') == std::string_view::npos ? std::string() : std::string(text);
}

}  // namespace

std::string_view pre_receive_program() { return kProgram; }

bool is_object_id(std::string_view text) {
  return text.size() == kObjectIdDigits && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

bool is_whole_question(std::string_view text) { return text.ends_with("\n\n"); }

Result<PushQuestion> parse_question(std::string_view text) {
  if (!is_whole_question(text)) return fail(Code::kInvalid, "the hook's question is not whole");
  text.remove_suffix(1);
  const size_t first = text.find('\n');
  PushQuestion question{.quarantine = std::string(text.substr(0, first))};
  text.remove_prefix(first + 1);
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    constexpr size_t kNameAt = 2 * (kObjectIdDigits + 1);
    if (line.size() <= kNameAt || line[kObjectIdDigits] != ' ' || line[kNameAt - 1] != ' ' ||
        !is_object_id(line.substr(0, kObjectIdDigits)) ||
        !is_object_id(line.substr(kObjectIdDigits + 1, kObjectIdDigits)))
      return fail(Code::kInvalid, "the hook's question is malformed");
    if (question.updates.size() >= kUpdatesMax)
      return fail(Code::kLimit, "a push changes at most {} refs at once", kUpdatesMax);
    question.updates.push_back(
        {.name = std::string(line.substr(kNameAt)),
         .previous = id_or_empty(line.substr(0, kObjectIdDigits)),
         .commit = id_or_empty(line.substr(kObjectIdDigits + 1, kObjectIdDigits))});
  }
  if (question.updates.empty()) return fail(Code::kInvalid, "the hook's question names no ref");
  return question;
}

std::string say_line(std::string_view text) {
  std::string line = "say ";
  line.append(text.substr(0, kLineBytesMax));
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return line + "\n";
}

bool is_kept_ref(std::string_view name) {
  if (name.size() > kRefBytesMax) return false;
  std::string_view rest = name;
  if (rest.starts_with(kBranches))
    rest.remove_prefix(kBranches.size());
  else if (rest.starts_with(kTags))
    rest.remove_prefix(kTags.size());
  else
    return false;
  if (rest.empty() || rest.front() == '-' || rest.front() == '/' || rest.back() == '/' ||
      rest.back() == '.')
    return false;
  for (const std::string_view part : {"..", "//", "@{", "/.", ".lock/", "/-"}) {
    if (rest.find(part) != std::string_view::npos) return false;
  }
  if (rest.ends_with(".lock") || rest.front() == '.' || rest == "@") return false;
  return std::ranges::none_of(rest, [](char c) {
    return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f ||
           std::string_view("~^:?*[\\").find(c) != std::string_view::npos;
  });
}

std::string_view branch_of(std::string_view ref) {
  return ref.starts_with(kBranches) ? ref.substr(kBranches.size()) : std::string_view();
}

}  // namespace hob::git
