// Hashes and encodings: SHA-256, HMAC, hex, base64.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace hob {

using Sha256 = std::array<unsigned char, 32>;

// Incremental SHA-256.
class Sha256Hasher {
 public:
  Sha256Hasher();
  ~Sha256Hasher();
  Sha256Hasher(Sha256Hasher&&) noexcept;
  Sha256Hasher& operator=(Sha256Hasher&&) noexcept;
  void update(std::string_view bytes);
  Sha256 finish();  // once

 private:
  struct State;
  std::unique_ptr<State> state_;
};

Sha256 sha256(std::string_view bytes);
Sha256 hmac_sha256(std::string_view key, std::string_view message);
// Lower case.
std::string hex(std::span<const unsigned char> bytes);
std::optional<std::string> unhex(std::string_view text);
std::string base64(std::string_view bytes);
// nullopt: not base64 (padding is required, no line breaks).
std::optional<std::string> unbase64(std::string_view text);
// Takes the same time wherever they differ; false at once if the lengths do.
bool equal_in_constant_time(std::string_view a, std::string_view b);

}  // namespace hob
