// What a guest may learn about itself (MMDS): one JSON document, and how it is asked for.
//
// The loop's thread alone.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "microvm/api/json.h"
#include "microvm/devices/timer.h"

namespace hob::microvm {

inline constexpr uint32_t kTokenSecondsMin = 1;
inline constexpr uint32_t kTokenSecondsMax = 21600;

enum class MmdsVersion { kV1, kV2 };

// Tokens tell their expiry, and that we made them: a keyed hash (SipHash-2-4, 128 bits) of it and
// of the microVM's id. The key is this process's own, so none outlives it.
class TokenAuthority {
 public:
  TokenAuthority(std::string_view instance_id, MonotonicClock clock);
  // `seconds`: kTokenSecondsMin..kTokenSecondsMax.
  std::string issue(uint32_t seconds) const;
  bool accepts(std::string_view token) const;

 private:
  std::string sign(uint64_t expiry_ms) const;
  uint64_t now_ms() const;
  std::string id_;
  MonotonicClock clock_;
  std::array<uint64_t, 2> key_{};
};

class Metadata {
 public:
  Metadata(std::string_view instance_id, size_t bytes_max,
           MonotonicClock clock = &std::chrono::steady_clock::now)
      : tokens(instance_id, clock), bytes_max_(bytes_max) {}

  // kLimit: its compact form is longer than `bytes_max`. Nothing has changed then.
  Result<void> put(Json document);
  // RFC 7396. kNotFound: nothing was put yet.
  Result<void> patch(const Json& change);
  // null: nothing was put.
  const Json& document() const { return document_; }
  bool initialized() const { return initialized_; }
  // The value at a JSON pointer, of which a slash at its end is ignored. nullptr: there is none.
  const Json* find(std::string_view pointer) const;

  TokenAuthority tokens;
  MmdsVersion version = MmdsVersion::kV1;
  bool text_always = false;  // imds_compat
  struct Counts {
    uint64_t no_token = 0, invalid_token = 0;
  } counts{};

 private:
  size_t bytes_max_;
  Json document_;
  bool initialized_ = false;
};

// As EC2's metadata service writes it: an object's keys a line each, with a slash behind those that
// hold objects; a string as it is. nullopt: another type.
std::optional<std::string> imds_text(const Json& value);

}  // namespace hob::microvm
