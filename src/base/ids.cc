#include "base/ids.h"

#include <sys/random.h>

#include <array>
#include <cerrno>

#include "base/assert.h"

namespace hob {

void SystemRandom::fill(void* out, size_t size) {
  auto* at = static_cast<unsigned char*>(out);
  while (size > 0) {
    const ssize_t got = getrandom(at, size, 0);
    if (got < 0 && errno == EINTR) continue;
    HOB_ASSERT(got > 0);  // the kernel's pool is always ready after boot
    at += got;
    size -= static_cast<size_t>(got);
  }
}

std::string random_hex(Random& random, size_t digits) {
  return random_word(random, digits, "0123456789abcdef");
}

std::string random_uuid(Random& random) {
  std::string hex = random_hex(random, 32);
  hex[12] = '4';
  constexpr std::string_view kVariant = "89ab";
  hex[16] = kVariant[static_cast<size_t>(hex[16]) & 3];
  return hex.substr(0, 8) + "-" + hex.substr(8, 4) + "-" + hex.substr(12, 4) + "-" +
         hex.substr(16, 4) + "-" + hex.substr(20);
}

std::string random_word(Random& random, size_t length, std::string_view alphabet) {
  HOB_ASSERT(alphabet.size() >= 2);
  HOB_ASSERT(alphabet.size() <= 256);
  const size_t fair = 256 - 256 % alphabet.size();  // bytes from here on would favour the first letters
  std::string word;
  word.reserve(length);
  std::array<unsigned char, 64> bytes{};
  while (word.size() < length) {
    random.fill(bytes.data(), bytes.size());
    for (const unsigned char byte : bytes) {
      if (byte < fair && word.size() < length) word.push_back(alphabet[byte % alphabet.size()]);
    }
  }
  return word;
}

}  // namespace hob
