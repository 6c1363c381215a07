// What CloudWatch Logs' page tokens hold here. They mean nothing to clients and are checked when
// they come back.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "observe/logs.h"

namespace hob::observe {

// Of GetLogEvents: "f/<segment>:<offset>", "b/…".
struct PageToken {
  ReadDirection direction = ReadDirection::kForward;
  StreamPlace place{};
  bool operator==(const PageToken&) const = default;
};
std::string format_token(const PageToken& token);
std::optional<PageToken> parse_page_token(std::string_view text);

// Of FilterLogEvents.
std::string format_token(const FilterPlace& place);
std::optional<FilterPlace> parse_filter_token(std::string_view text);

// 56 digits, unique among an account's events and ascending within a stream.
std::string event_id(const LogEvent& event);

}  // namespace hob::observe
