// Identifiers as distinct types, and fresh random ones.
#pragma once

#include <compare>
#include <functional>
#include <string>
#include <string_view>

namespace hob {

// A string that names one kind of thing: TaskId and ServiceId do not mix.
template <class Tag>
struct Id {
  std::string value{};
  auto operator<=>(const Id&) const = default;
  bool empty() const { return value.empty(); }
};

// The randomness port: ids, jitter, choices. Real code passes SystemRandom, simulations a seeded one.
class Random {
 public:
  virtual ~Random() = default;
  virtual void fill(void* out, size_t size) = 0;
};

class SystemRandom final : public Random {
 public:
  void fill(void* out, size_t size) override;  // getrandom(2)
};

// `digits` lower-case hex digits (even number): task and service ids have 32.
std::string random_hex(Random& random, size_t digits);
// A version 4 UUID with dashes: operation and request ids.
std::string random_uuid(Random& random);
// `length` characters of `alphabet` (2..256 characters), unbiased.
std::string random_word(Random& random, size_t length, std::string_view alphabet);

}  // namespace hob

template <class Tag>
struct std::hash<hob::Id<Tag>> {
  size_t operator()(const hob::Id<Tag>& id) const { return std::hash<std::string>{}(id.value); }
};
