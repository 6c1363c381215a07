#include "microvm/mmds/metadata.h"

#include <sys/random.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <map>

#include "base/assert.h"

namespace hob::microvm {
namespace {

constexpr size_t kTokenBytes = 48;  // the expiry and its hash, hexadecimal

// Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012), with the 128-bit output of
// their reference implementation.
std::array<uint64_t, 2> siphash(const std::array<uint64_t, 2>& key, std::string_view bytes) {
  std::array<uint64_t, 4> v = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d ^ 0xee,
                               key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};
  const auto rounds = [&v](int count) {
    for (; count > 0; --count) {
      v[0] += v[1], v[2] += v[3];
      v[1] = std::rotl(v[1], 13) ^ v[0], v[3] = std::rotl(v[3], 16) ^ v[2];
      v[0] = std::rotl(v[0], 32);
      v[2] += v[1], v[0] += v[3];
      v[1] = std::rotl(v[1], 17) ^ v[2], v[3] = std::rotl(v[3], 21) ^ v[0];
      v[2] = std::rotl(v[2], 32);
    }
  };
  const auto word = [&](std::string_view part) {
    uint64_t value = 0;
    for (size_t i = 0; i < part.size(); ++i)
      value |= uint64_t{static_cast<uint8_t>(part[i])} << (8 * i);
    return value;
  };
  const uint64_t length = bytes.size();
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
    const uint64_t m = word(bytes.substr(0, 8));
    v[3] ^= m, rounds(2), v[0] ^= m;
  }
  const uint64_t last = word(bytes) | length << 56;
  v[3] ^= last, rounds(2), v[0] ^= last;
  v[2] ^= 0xee, rounds(4);
  const uint64_t first = v[0] ^ v[1] ^ v[2] ^ v[3];
  v[1] ^= 0xdd, rounds(4);
  return {first, v[0] ^ v[1] ^ v[2] ^ v[3]};
}

// Keys in order, each once: the last one given counts.
void normalize(Json& json) {
  if (auto* list = std::get_if<Json::Array>(&json.value)) {
    for (Json& item : *list) normalize(item);
  }
  auto* object = std::get_if<Json::Object>(&json.value);
  if (object == nullptr) return;
  std::map<std::string, Json> members;
  for (auto& [key, value] : *object) {
    normalize(value);
    members.insert_or_assign(key, std::move(value));
  }
  object->assign(members.begin(), members.end());
}

// RFC 7396, section 2.
Json merged(Json target, const Json& change) {
  const auto* changes = change.as<Json::Object>();
  if (changes == nullptr) return change;
  if (target.as<Json::Object>() == nullptr) target = Json(Json::Object{});
  auto& members = std::get<Json::Object>(target.value);
  for (const auto& [key, value] : *changes) {
    const auto found = std::ranges::find(members, key, [](const auto& one) { return one.first; });
    if (value.is_null()) {
      if (found != members.end()) members.erase(found);
    } else if (found != members.end()) {
      found->second = merged(std::move(found->second), value);
    } else {
      members.emplace_back(key, merged(Json(), value));
    }
  }
  return target;
}

}  // namespace

TokenAuthority::TokenAuthority(std::string_view instance_id, MonotonicClock clock)
    : id_(instance_id), clock_(clock) {
  HOB_ASSERT(getrandom(key_.data(), sizeof key_, 0) == sizeof key_);
}

uint64_t TokenAuthority::now_ms() const {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(clock_().time_since_epoch()).count());
}

std::string TokenAuthority::sign(uint64_t expiry_ms) const {
  const std::string expiry = fmt::format("{:016x}", expiry_ms);
  const auto hash = siphash(key_, expiry + id_);
  return fmt::format("{}{:016x}{:016x}", expiry, hash[0], hash[1]);
}

std::string TokenAuthority::issue(uint32_t seconds) const {
  return sign(now_ms() + uint64_t{1000} * seconds);
}

bool TokenAuthority::accepts(std::string_view token) const {
  if (token.size() != kTokenBytes) return false;
  uint64_t expiry_ms = 0;
  const auto [end, error] = std::from_chars(token.data(), token.data() + 16, expiry_ms, 16);
  if (error != std::errc() || end != token.data() + 16) return false;
  // All of it is compared, whatever differs.
  const std::string wanted = sign(expiry_ms);
  unsigned difference = 0;
  for (size_t i = 0; i < kTokenBytes; ++i)
    difference |= static_cast<unsigned>(static_cast<uint8_t>(wanted[i] ^ token[i]));
  return difference == 0 && now_ms() < expiry_ms;
}

Result<void> Metadata::put(Json document) {
  normalize(document);
  if (document.text().size() > bytes_max_)
    return fail(Code::kLimit, "The MMDS patch request doesn't fit.");
  document_ = std::move(document);
  initialized_ = true;
  return {};
}

Result<void> Metadata::patch(const Json& change) {
  if (!initialized_) return fail(Code::kNotFound, "The MMDS data store is not initialized.");
  Json sorted = change;
  normalize(sorted);
  return put(merged(document_, sorted));
}

const Json* Metadata::find(std::string_view pointer) const {
  if (pointer.ends_with('/')) pointer.remove_suffix(1);
  const Json* at = &document_;
  while (!pointer.empty()) {
    if (!pointer.starts_with('/')) return nullptr;
    pointer.remove_prefix(1);
    std::string key(pointer.substr(0, pointer.find('/')));
    pointer.remove_prefix(key.size());
    for (size_t i = key.find('~'); i != std::string::npos; i = key.find('~', i + 1)) {
      if (key.compare(i, 2, "~1") == 0) key.replace(i, 2, "/");
      if (key.compare(i, 2, "~0") == 0) key.replace(i, 2, "~");
    }
    if (const auto* object = at->as<Json::Object>()) {
      const auto found = std::ranges::find(*object, key, [](const auto& one) { return one.first; });
      if (found == object->end()) return nullptr;
      at = &found->second;
    } else if (const auto* list = at->as<Json::Array>()) {
      size_t index = 0;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
      const bool plain = error == std::errc() && end == key.data() + key.size() &&
                         (key.size() == 1 || key[0] != '0');
      if (!plain || index >= list->size()) return nullptr;
      at = &(*list)[index];
    } else {
      return nullptr;
    }
  }
  return at;
}

std::optional<std::string> imds_text(const Json& value) {
  if (const auto* text = value.as<std::string>()) return *text;
  const auto* object = value.as<Json::Object>();
  if (object == nullptr) return std::nullopt;
  std::string lines;
  for (const auto& [key, member] : *object) {
    if (!lines.empty()) lines += '\n';
    lines += key;
    if (member.as<Json::Object>() != nullptr) lines += '/';
  }
  return lines;
}

}  // namespace hob::microvm
