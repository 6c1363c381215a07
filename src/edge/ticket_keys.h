// The keys that session tickets are sealed with (RFC 5077, RFC 8446 section 4.6.1).
//
// Kept in a file of the edge's own, so that clients resume their sessions with whoever comes after
// it: started again, or of another version. Whoever has a key can read what was said in sessions
// that its tickets resume, so none is older than 2 * kTicketKeyLife anywhere.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"

namespace hob::edge {

// A ticket is good for this long, and up to twice as long after its key was made.
inline constexpr Duration kTicketKeyLife = std::chrono::hours(12);
inline constexpr size_t kTicketKeysBytesMax = 4096;  // of the file

// Of one edge: shared by its loops. A client whose ticket cannot be opened shakes hands in full.
struct TicketKeys {
  struct Key {
    std::array<uint8_t, 16> name{};  // sent with the ticket
    std::array<uint8_t, 32> cipher{};
    std::array<uint8_t, 32> mac{};
    bool operator==(const Key&) const = default;
  };
  Key current{};
  std::optional<Key> previous{};  // still opens tickets, which are then renewed
  Instant made{};                 // current
  bool operator==(const TicketKeys&) const = default;
};
// What is good at `now` of those that were, or new ones: rotated after kTicketKeyLife, forgotten
// after twice that, and where they are from the future.
TicketKeys ticket_keys_at(const std::optional<TicketKeys>& kept, Random& random, Instant now);

std::string encode(const TicketKeys& keys);  // secret
// kInvalid: not what encode() wrote.
Result<TicketKeys> decode_ticket_keys(std::string_view text);

}  // namespace hob::edge
