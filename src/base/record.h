// Records: plain structs described once (BOOST_DESCRIBE_STRUCT / BOOST_DESCRIBE_ENUM), to JSON and back.
//
// Include this in a room's records.cc only (it is dear to compile) and declare there, for each record:
//   std::string encode(const Task&);                   -> record::encode(task)
//   Result<Task> decode_task(std::string_view json);   -> record::decode<Task>(json)
//
// Rules (style.md §12): a missing field keeps its initialiser; an unknown field is ignored when read and kept by
// encode_over(); enums are words (kOperationInProgress <-> "OPERATION_IN_PROGRESS"), an unknown word is an error
// that names the field. Supported fields: bool, integers, std::string, Id<>, Instant and Duration (as milliseconds),
// enums, std::optional (absent when empty), std::vector, std::map<std::string, T>, described structs. No double:
// Boost.JSON 1.81 reads one of many digits a little off, so that it would drift each time it is rewritten.
#pragma once

#include <boost/describe.hpp>
#include <boost/json.hpp>
#include <boost/mp11.hpp>

#include <concepts>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"

namespace hob::record {

namespace json = boost::json;

inline constexpr int kDepthMax = 32;                    // nested arrays and objects in a record
inline constexpr size_t kRecordBytesMax = 4 * 1024 * 1024;  // one encoded record
// Before and after 1970, about 10,000 years: whoever wrote a record, sums and differences of its times do not overflow.
inline constexpr int64_t kMillisecondsMax = 315'569'520'000'000;

// "kOperationInProgress" -> "OPERATION_IN_PROGRESS".
std::string enum_word(std::string_view enumerator);
// Parses with the limits above. kInvalid: not JSON, too deep or long, or with a number beyond double's range.
Result<json::value> parse(std::string_view text);

template <class T>
concept Described = boost::describe::has_describe_members<T>::value && !std::is_union_v<T>;
template <class T>
concept DescribedEnum = std::is_enum_v<T> && boost::describe::has_describe_enumerators<T>::value;
template <class T> struct is_optional : std::false_type {};
template <class T> struct is_optional<std::optional<T>> : std::true_type {};
template <class T> struct is_vector : std::false_type {};
template <class T> struct is_vector<std::vector<T>> : std::true_type {};
template <class T> struct is_map : std::false_type {};
template <class T> struct is_map<std::map<std::string, T>> : std::true_type {};
template <class T> struct is_id : std::false_type {};
template <class T> struct is_id<Id<T>> : std::true_type {};

template <class T>
using Members =
    boost::describe::describe_members<T, boost::describe::mod_any_access | boost::describe::mod_inherited>;

template <DescribedEnum E>
std::string word(E value) {
  std::string found;
  boost::mp11::mp_for_each<boost::describe::describe_enumerators<E>>([&](auto e) {
    if (e.value == value) found = enum_word(e.name);
  });
  return found;
}

template <DescribedEnum E>
std::optional<E> from_word(std::string_view text) {
  std::optional<E> found;
  boost::mp11::mp_for_each<boost::describe::describe_enumerators<E>>([&](auto e) {
    if (enum_word(e.name) == text) found = e.value;
  });
  return found;
}

template <class T>
json::value to_json(const T& value) {
  if constexpr (std::same_as<T, bool> || std::same_as<T, std::string>) {
    return json::value(value);
  } else if constexpr (std::integral<T>) {
    if constexpr (std::is_signed_v<T>) return json::value(static_cast<int64_t>(value));
    else return json::value(static_cast<uint64_t>(value));
  } else if constexpr (DescribedEnum<T>) {
    return json::value(word(value));
  } else if constexpr (std::same_as<T, Instant>) {
    return json::value(static_cast<int64_t>(value.time_since_epoch().count()));
  } else if constexpr (std::same_as<T, Duration>) {
    return json::value(static_cast<int64_t>(value.count()));
  } else if constexpr (is_id<T>::value) {
    return json::value(value.value);
  } else if constexpr (is_vector<T>::value) {
    json::array array;
    array.reserve(value.size());
    for (const auto& item : value) array.push_back(to_json(item));
    return array;
  } else if constexpr (is_map<T>::value) {
    json::object object;
    for (const auto& [key, item] : value) object.emplace(key, to_json(item));
    return object;
  } else {
    static_assert(Described<T>, "describe the struct with BOOST_DESCRIBE_STRUCT");
    json::object object;
    boost::mp11::mp_for_each<Members<T>>([&](auto member) {
      const auto& field = value.*member.pointer;
      using Field = std::remove_cvref_t<decltype(field)>;
      if constexpr (is_optional<Field>::value) {
        if (field) object.emplace(member.name, to_json(*field));
      } else {
        object.emplace(member.name, to_json(field));
      }
    });
    return object;
  }
}

// Reads `value` from `source`; on failure the error names the path of the field.
template <class T>
Result<void> from_json(const json::value& source, T& value) {
  const auto wrong = [](const char* wanted) { return fail(Code::kCorrupt, "{} expected", wanted); };
  if constexpr (std::same_as<T, bool>) {
    if (!source.is_bool()) return wrong("true or false");
    value = source.get_bool();
  } else if constexpr (std::same_as<T, std::string>) {
    if (!source.is_string()) return wrong("a string");
    value = std::string(source.get_string());
  } else if constexpr (std::integral<T>) {
    boost::json::error_code error;
    if (!source.is_number()) return wrong("a number");
    value = source.to_number<T>(error);
    if (error) return wrong("a whole number in range");
  } else if constexpr (DescribedEnum<T>) {
    if (!source.is_string()) return wrong("a word");
    const auto found = from_word<T>(std::string_view(source.get_string()));
    if (!found) return fail(Code::kCorrupt, "unknown word '{}'", std::string_view(source.get_string()));
    value = *found;
  } else if constexpr (std::same_as<T, Instant>) {
    Duration since_1970{};
    HOB_CHECK(from_json(source, since_1970));
    value = Instant(since_1970);
  } else if constexpr (std::same_as<T, Duration>) {
    int64_t count = 0;
    HOB_CHECK(from_json(source, count));
    if (count < -kMillisecondsMax || count > kMillisecondsMax) return wrong("milliseconds in range");
    value = Duration(count);
  } else if constexpr (is_id<T>::value) {
    HOB_CHECK(from_json(source, value.value));
  } else if constexpr (is_vector<T>::value) {
    if (!source.is_array()) return wrong("a list");
    value.clear();
    for (const json::value& item : source.get_array()) {
      HOB_CHECK(context(from_json(item, value.emplace_back()), "[{}]", value.size() - 1));
    }
  } else if constexpr (is_map<T>::value) {
    if (!source.is_object()) return wrong("an object");
    value.clear();
    for (const auto& [key, item] : source.get_object()) {
      HOB_CHECK(context(from_json(item, value[std::string(key)]), "{}", std::string_view(key)));
    }
  } else {
    static_assert(Described<T>, "describe the struct with BOOST_DESCRIBE_STRUCT");
    if (!source.is_object()) return wrong("an object");
    Result<void> result;
    boost::mp11::mp_for_each<Members<T>>([&](auto member) {
      if (!result) return;
      const json::value* found = source.get_object().if_contains(member.name);
      if (found == nullptr) return;
      auto& field = value.*member.pointer;
      using Field = std::remove_cvref_t<decltype(field)>;
      if constexpr (is_optional<Field>::value) {
        if (found->is_null()) return;
        result = context(from_json(*found, field.emplace()), "{}", member.name);
      } else {
        result = context(from_json(*found, field), "{}", member.name);
      }
    });
    return result;
  }
  return {};
}

// Copies into `fields` (an encoded T) those members of `previous` that T does not describe, at any depth of
// described structs; within lists and maps nothing is kept, since their items have no identity.
template <Described T>
void keep_unknown(json::object& fields, const json::object& previous) {
  for (const auto& [key, old] : previous) {
    bool known = false;
    boost::mp11::mp_for_each<Members<T>>([&](auto member) {
      using Field = std::remove_cvref_t<decltype(std::declval<T>().*member.pointer)>;
      if (key != member.name) return;
      known = true;
      if constexpr (Described<Field>) {
        json::value* mine = fields.if_contains(key);
        if (mine != nullptr && mine->is_object() && old.is_object()) {
          keep_unknown<Field>(mine->get_object(), old.get_object());
        }
      }
    });
    if (!known) fields.emplace(key, old);
  }
}

template <class T>
std::string encode(const T& value) {
  return json::serialize(to_json(value));
}

// Encodes `value`, keeping the fields of `previous` (what was read) that this version does not know.
template <class T>
std::string encode_over(const T& value, std::string_view previous) {
  json::value fields = to_json(value);
  if (auto old = parse(previous); old && old->is_object() && fields.is_object()) {
    keep_unknown<T>(fields.get_object(), old->get_object());
  }
  return json::serialize(fields);
}

template <class T>
Result<T> decode(std::string_view text) {
  HOB_TRY(const json::value source, parse(text));
  T value{};
  HOB_CHECK(from_json(source, value));
  return value;
}

}  // namespace hob::record
