// How the pre-receive hook and control speak: two pipes, a line at a time.
//
// The hook, a few lines of shell that git runs in the child, writes to descriptor 3 where the
// pushed objects wait (git's quarantine), one line "OLD NEW REF" for each ref, and an empty line.
// Then it reads descriptor 4: "say TEXT" is shown to the pusher, "accept" and "refuse" end it. A
// pipe that ends refuses: nothing is taken when control is gone. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::git {

inline constexpr int kHookAsksFd = 3;
inline constexpr int kHookHearsFd = 4;

struct RefUpdate {
  std::string name{};      // "refs/heads/main"
  std::string previous{};  // commit; empty: the ref is new
  std::string commit{};    // empty: the ref is deleted
  bool operator==(const RefUpdate&) const = default;
};

struct PushQuestion {
  std::string quarantine{};  // folder of the pushed objects; empty: a push that only deletes
  std::vector<RefUpdate> updates{};
};

// The hook's program, for the file core.hooksPath/pre-receive.
std::string_view pre_receive_program();

// Whether `text` holds the whole question (its empty line has come).
bool is_whole_question(std::string_view text);
// kInvalid: not what our hook writes. kLimit: too many refs.
Result<PushQuestion> parse_question(std::string_view text);

// Lines for the hook. `text` becomes one line, cut to kLineBytesMax; its control characters are
// shown as '?', since it goes to a terminal.
std::string say_line(std::string_view text);
inline constexpr std::string_view kAcceptLine = "accept\n";
inline constexpr std::string_view kRefuseLine = "refuse\n";

// "refs/heads/NAME" or "refs/tags/NAME", of a length and of characters that no tool takes for
// anything else: no control characters, no leading '-', nothing git's check-ref-format refuses.
bool is_kept_ref(std::string_view name);
// A whole commit id: 40 digits of lower-case hex.
bool is_object_id(std::string_view text);
// "main" of "refs/heads/main"; empty: no branch.
std::string_view branch_of(std::string_view ref);

}  // namespace hob::git
