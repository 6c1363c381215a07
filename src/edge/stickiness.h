// The cookie by which a client returns to its target, and to its version.
//
// Its value names both by HMACs keyed with their ids, which are drawn at random and which clients
// do not learn: nobody can make one, or read an address from it, and every loop, every edge and an
// edge that was restarted knows it again with no key to share (docs/decisions/stickiness.md).
// Pure; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/http_parser.h"
#include "link/messages.h"

namespace hob::edge {

inline constexpr std::string_view kStickyCookie = "HOBSTICKY";
inline constexpr size_t kTargetTokenBytes = 32;               // of text
inline constexpr size_t kVersionTokenBytes = 16;              // likewise
inline constexpr uint64_t kStickyMaxSeconds = 7 * 24 * 3600;  // as ALB's

std::string token_of_target(const std::string& service, const TaskId& task);
std::string token_of_version(const std::string& service, const std::string& version);

struct StickyTokens {
  std::string_view version{};
  std::string_view target{};
};
// The first cookie of ours that has the right form; empty: there is none. Views of `head`.
StickyTokens sticky_tokens(const http::RequestHead& head);

// "Set-Cookie: …\r\n"
std::string sticky_line(const StickyTokens& tokens, uint64_t seconds, bool secure);

}  // namespace hob::edge
