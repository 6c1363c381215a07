// Plain structs as bytes, for snapshots. A struct is told its members once (BOOST_DESCRIBE_STRUCT):
//
//   struct BlockState { uint64_t sectors = 0; };
//   BOOST_DESCRIBE_STRUCT(BlockState, (), (sectors))
//   std::string bytes = encode(BlockState{.sectors = 8});
//   HOB_TRY(BlockState state, decode<BlockState>(bytes));
//
// Numbers are little-endian in their own size; texts and lists have their count in front, structs
// their length: members are added at a struct's end alone, and one that an older file has not got
// keeps its default. What is not described (Linux's own structs for KVM) is kept as it lies in
// memory and must have the same size when read. Nothing that is read is trusted: no more elements
// than kElementsMax, nothing behind a struct's end. Pure.
#pragma once

#include <boost/describe.hpp>
#include <boost/mp11.hpp>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace hob::microvm {

inline constexpr uint32_t kElementsMax = 1024;  // of a list

class Decoder {
 public:
  explicit Decoder(std::string_view bytes) : rest_(bytes) {}
  bool empty() const { return rest_.empty(); }
  // kCorrupt: fewer than `count` bytes are left.
  Result<std::string_view> take(size_t count) {
    if (count > rest_.size())
      return fail(Code::kCorrupt, "{} bytes wanted, {} left", count, rest_.size());
    const std::string_view head = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return head;
  }
  Result<uint32_t> count() {
    HOB_TRY(const std::string_view bytes, take(sizeof(uint32_t)));
    uint32_t value = 0;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }

 private:
  std::string_view rest_;
};

namespace encoding {

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};
template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <class T>
using Members = boost::describe::describe_members<T, boost::describe::mod_public>;

inline void put_count(std::string& out, size_t count) {
  const auto value = static_cast<uint32_t>(count);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
void put(std::string& out, const T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    out += static_cast<char>(value ? 1 : 0);
  } else if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  } else if constexpr (std::is_same_v<T, std::string>) {
    put_count(out, value.size());
    out += value;
  } else if constexpr (IsVector<T>::value) {
    put_count(out, value.size());
    for (const auto& element : value) put(out, element);
  } else if constexpr (IsOptional<T>::value) {
    put(out, value.has_value());
    if (value) put(out, *value);
  } else if constexpr (boost::describe::has_describe_members<T>::value) {
    const size_t at = out.size();
    put_count(out, 0);
    boost::mp11::mp_for_each<Members<T>>([&](auto member) { put(out, value.*member.pointer); });
    const auto length = static_cast<uint32_t>(out.size() - at - sizeof(uint32_t));
    std::memcpy(out.data() + at, &length, sizeof length);
  } else {
    static_assert(std::is_trivially_copyable_v<T>);
    put_count(out, sizeof value);
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
}

template <class T>
Result<void> get(Decoder& in, T& value) {
  if constexpr (std::is_same_v<T, bool>) {
    HOB_TRY(const std::string_view byte, in.take(1));
    if (byte[0] != 0 && byte[0] != 1) return fail(Code::kCorrupt, "a truth value is neither");
    value = byte[0] == 1;
  } else if constexpr (std::is_arithmetic_v<T> || std::is_enum_v<T>) {
    HOB_TRY(const std::string_view bytes, in.take(sizeof value));
    std::memcpy(&value, bytes.data(), sizeof value);
  } else if constexpr (std::is_same_v<T, std::string>) {
    HOB_TRY(const uint32_t count, in.count());
    HOB_TRY(value, in.take(count));
  } else if constexpr (IsVector<T>::value) {
    HOB_TRY(const uint32_t count, in.count());
    if (count > kElementsMax)
      return fail(Code::kCorrupt, "a list of {}, at most {}", count, kElementsMax);
    value.clear();
    for (uint32_t i = 0; i < count; ++i) {
      typename T::value_type element{};
      HOB_CHECK(get(in, element));
      value.push_back(std::move(element));
    }
  } else if constexpr (IsOptional<T>::value) {
    bool there = false;
    HOB_CHECK(get(in, there));
    value.reset();
    if (there) HOB_CHECK(get(in, value.emplace()));
  } else if constexpr (boost::describe::has_describe_members<T>::value) {
    HOB_TRY(const uint32_t length, in.count());
    HOB_TRY(const std::string_view bytes, in.take(length));
    Decoder inner(bytes);
    Result<void> outcome;
    boost::mp11::mp_for_each<Members<T>>([&](auto member) {
      if (outcome && !inner.empty()) outcome = get(inner, value.*member.pointer);
    });
    HOB_CHECK(std::move(outcome));
    if (!inner.empty()) return fail(Code::kCorrupt, "a record has members that are not known");
  } else {
    static_assert(std::is_trivially_copyable_v<T>);
    HOB_TRY(const uint32_t length, in.count());
    if (length != sizeof value)
      return fail(Code::kCorrupt, "a record of {} bytes where {} belong", length, sizeof value);
    HOB_TRY(const std::string_view bytes, in.take(length));
    std::memcpy(&value, bytes.data(), sizeof value);
  }
  return {};
}

}  // namespace encoding

template <class T>
std::string encode(const T& value) {
  std::string out;
  encoding::put(out, value);
  return out;
}

// kCorrupt: the bytes are not one T and nothing else.
template <class T>
Result<T> decode(std::string_view bytes) {
  Decoder in(bytes);
  T value{};
  HOB_CHECK(encoding::get(in, value));
  if (!in.empty()) return fail(Code::kCorrupt, "bytes are left behind the record");
  return value;
}

}  // namespace hob::microvm
