#include "edge/ticket_keys.h"

#include <algorithm>
#include <boost/describe.hpp>

#include "base/digest.h"
#include "base/record.h"

namespace hob::edge {
namespace {

constexpr size_t kKeyBytes =
    sizeof(TicketKeys::Key::name) + sizeof(TicketKeys::Key::cipher) + sizeof(TicketKeys::Key::mac);

// As it is written.
struct Kept {
  std::string current{};   // base64 of name, cipher and mac
  std::string previous{};  // empty: none
  Instant made{};
};
BOOST_DESCRIBE_STRUCT(Kept, (), (current, previous, made))

TicketKeys::Key new_key(Random& random) {
  TicketKeys::Key key;
  random.fill(key.name.data(), key.name.size());
  random.fill(key.cipher.data(), key.cipher.size());
  random.fill(key.mac.data(), key.mac.size());
  return key;
}

std::string written(const TicketKeys::Key& key) {
  std::string bytes(key.name.begin(), key.name.end());
  bytes.append(key.cipher.begin(), key.cipher.end());
  bytes.append(key.mac.begin(), key.mac.end());
  return base64(bytes);
}

Result<TicketKeys::Key> read(const std::string& text) {
  const auto bytes = unbase64(text);
  if (!bytes || bytes->size() != kKeyBytes) return fail(Code::kInvalid, "no key of a ticket");
  TicketKeys::Key key;
  auto from = bytes->begin();
  for (auto [into, size] : {std::pair(key.name.data(), key.name.size()),
                            std::pair(key.cipher.data(), key.cipher.size()),
                            std::pair(key.mac.data(), key.mac.size())}) {
    std::copy_n(from, size, into);
    from += static_cast<std::ptrdiff_t>(size);
  }
  return key;
}

}  // namespace

TicketKeys ticket_keys_at(const std::optional<TicketKeys>& kept, Random& random, Instant now) {
  if (!kept || kept->made > now || now - kept->made >= 2 * kTicketKeyLife)
    return {.current = new_key(random), .made = now};
  if (now - kept->made < kTicketKeyLife) return *kept;
  return {.current = new_key(random), .previous = kept->current, .made = now};
}

std::string encode(const TicketKeys& keys) {
  return record::encode(Kept{.current = written(keys.current),
                             .previous = keys.previous ? written(*keys.previous) : "",
                             .made = keys.made});
}

Result<TicketKeys> decode_ticket_keys(std::string_view text) {
  HOB_TRY(const Kept kept, record::decode<Kept>(text));
  TicketKeys keys{.made = kept.made};
  HOB_TRY(keys.current, read(kept.current));
  if (kept.previous.empty()) return keys;
  HOB_TRY(keys.previous, read(kept.previous));
  return keys;
}

}  // namespace hob::edge
