// Times as AWS's protocols read them.
#pragma once

#include <optional>
#include <string_view>

#include "base/time.h"

namespace hob::aws {

// Seconds since 1970 with fraction, rounded to milliseconds. nullopt: not finite, or outside the
// years 0001 to 9999.
std::optional<Instant> timestamp_from_seconds(double seconds);
// "2026-11-23T22:11:49Z", with a fraction of up to nine digits or none, 'Z' or "+hh:mm"; or a
// number of seconds.
std::optional<Instant> timestamp_from_text(std::string_view text);
// "20261123T221149Z".
std::optional<Instant> timestamp_from_basic(std::string_view text);
// "Mon, 23 Nov 2026 22:11:49 GMT", as the HTTP Date header has it.
std::optional<Instant> timestamp_from_http_date(std::string_view text);

}  // namespace hob::aws
