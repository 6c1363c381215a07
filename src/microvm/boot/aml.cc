#include "microvm/boot/aml.h"

#include "base/assert.h"

namespace hob::microvm::aml {
namespace {

template <class Number>
Bytes little_endian(Number value) {
  Bytes bytes;
  for (size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>(value >> (8 * i) & 0xff);
  return bytes;
}

// In front of `content`: its length, the length's own bytes counted (20.2.4).
Bytes with_length(const Bytes& content) {
  if (content.size() + 1 < 0x40) return Bytes(1, static_cast<char>(content.size() + 1)) + content;
  size_t more = 1;
  while (content.size() + 1 + more >= size_t{1} << (4 + 8 * more)) ++more;
  HOB_ASSERT(more <= 3);
  const size_t length = content.size() + 1 + more;
  Bytes bytes(1, static_cast<char>(more << 6 | (length & 0xf)));
  for (size_t i = 0; i < more; ++i) bytes += static_cast<char>(length >> (4 + 8 * i) & 0xff);
  return bytes + content;
}

void check_name(std::string_view name) {
  if (name.starts_with('\\')) name.remove_prefix(1);
  HOB_ASSERT(name.size() == 4);
}

}  // namespace

Bytes scope(std::string_view path, const Bytes& terms) {
  check_name(path);
  return "\x10" + with_length(Bytes(path) + terms);
}

Bytes device(std::string_view name, const Bytes& terms) {
  check_name(name);
  return "\x5b\x82" + with_length(Bytes(name) + terms);
}

Bytes name(std::string_view name, const Bytes& value) {
  check_name(name);
  return "\x08" + Bytes(name) + value;
}

Bytes method(std::string_view name, int arguments, const Bytes& terms) {
  check_name(name);
  HOB_ASSERT(arguments >= 0 && arguments <= 7);
  return "\x14" + with_length(Bytes(name) + static_cast<char>(arguments) + terms);
}

Bytes if_argument_is(uint64_t value, const Bytes& terms) {
  return "\xa0" + with_length("\x93\x68" + integer(value) + terms);
}

Bytes notify(std::string_view path, uint8_t value) {
  HOB_ASSERT(path.size() == 10 && path[0] == '\\' && path[5] == '.');
  // DualNamePrefix, 20.2.2.
  return "\x86\\\x2e" + Bytes(path.substr(1, 4)) + Bytes(path.substr(6)) + integer(value);
}

Bytes integer(uint64_t value) {
  if (value <= 1) return Bytes(1, static_cast<char>(value));
  if (value <= 0xff) return "\x0a" + little_endian(static_cast<uint8_t>(value));
  if (value <= 0xffff) return "\x0b" + little_endian(static_cast<uint16_t>(value));
  if (value <= 0xffffffff) return "\x0c" + little_endian(static_cast<uint32_t>(value));
  return "\x0e" + little_endian(value);
}

Bytes text(std::string_view text) { return "\x0d" + Bytes(text) + Bytes(1, '\0'); }

Bytes eisa_id(std::string_view id) {
  HOB_ASSERT(id.size() == 7);
  // Three letters of five bits, then four hex digits, the whole big-endian (19.3.4).
  uint32_t value = 0;
  for (size_t i = 0; i < 3; ++i) value = value << 5 | (static_cast<uint32_t>(id[i]) - 0x40);
  for (size_t i = 3; i < 7; ++i) {
    const char digit = id[i];
    value = value << 4 | static_cast<uint32_t>(digit <= '9' ? digit - '0' : digit - 'A' + 10);
  }
  return "\x0c" + little_endian(__builtin_bswap32(value));
}

Bytes package(int elements, const Bytes& values) {
  HOB_ASSERT(elements >= 0 && elements <= 255);
  return "\x12" + with_length(Bytes(1, static_cast<char>(elements)) + values);
}

Bytes resources(const Bytes& descriptors) {
  const Bytes list = descriptors + Bytes("\x79\x00", 2);  // the end, unchecked
  return "\x11" + with_length(integer(list.size()) + list);
}

Bytes memory32(uint32_t base, uint32_t bytes) {
  return Bytes("\x86\x09\x00\x01", 4) + little_endian(base) + little_endian(bytes);
}

Bytes interrupt(uint32_t gsi) {
  constexpr char kConsumerEdgeHighExclusive = 0x03;
  return Bytes("\x89\x06\x00", 3) + kConsumerEdgeHighExclusive + "\x01" + little_endian(gsi);
}

Bytes ports(uint16_t first, uint8_t count) {
  return "\x47\x01" + little_endian(first) + little_endian(first) + "\x01" +
         Bytes(1, static_cast<char>(count));
}

}  // namespace hob::microvm::aml
