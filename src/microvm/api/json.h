// JSON as Firecracker takes it: RFC 8259 to the letter, 128 levels deep, integers apart from other
// numbers; and objects read as structs, whose refusals are worded as its clients know them
// ("missing field `x`").
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"

namespace hob::microvm {

inline constexpr int kJsonDepthMax = 128;

class Json {
 public:
  using Array = std::vector<Json>;
  using Object =
      std::vector<std::pair<std::string, Json>>;  // as written: order kept, a key may come twice
  using Value =
      std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string, Array, Object>;

  Json() = default;
  Json(Value value) : value(std::move(value)) {}  // NOLINT: a value is one

  // kInvalid with the reason.
  static Result<Json> parse(std::string_view text);
  std::string text() const;  // compact

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value); }
  template <class T>
  const T* as() const {
    return std::get_if<T>(&value);
  }

  Value value = nullptr;
};

// Reads an object's fields into a struct. The first thing wrong is kept, and `finish` says it.
//
//   Fields fields(json, "struct BootSource", {"kernel_image_path", "boot_args"});
//   fields.required("kernel_image_path", source.kernel_path);
//   fields.optional("boot_args", source.arguments);
//   HOB_CHECK(fields.finish());
class Fields {
 public:
  enum class Unknown { kRefused, kIgnored };
  Fields(const Json& json, std::string_view type, std::initializer_list<std::string_view> known,
         Unknown unknown = Unknown::kRefused);

  // T: bool, uint8_t, uint16_t, uint32_t, uint64_t, std::string.
  template <class T>
  void required(std::string_view name, T& into) {
    const Json* field = find(name);
    if (field == nullptr) return fail_with(missing(name));
    convert(*field, into);
  }
  // Absent or null: nullopt.
  template <class T>
  void optional(std::string_view name, std::optional<T>& into) {
    const Json* field = find(name);
    if (field == nullptr || field->is_null()) return;
    T value{};
    convert(*field, value);
    into = std::move(value);
  }
  // Absent: stays. Null is no value of it.
  template <class T>
  void defaulted(std::string_view name, T& into) {
    if (const Json* field = find(name)) convert(*field, into);
  }
  // One of `words`, by its place in them.
  void variant(std::string_view name, std::initializer_list<std::string_view> words, size_t& into);
  const Json* find(std::string_view name) const;
  void fail_with(std::string reason) {
    if (!reason_) reason_ = std::move(reason);
  }
  static std::string missing(std::string_view name);
  Result<void> finish() const;

 private:
  void convert(const Json& json, bool& into);
  void convert(const Json& json, uint8_t& into) {
    into = static_cast<uint8_t>(number(json, 0xff, "u8"));
  }
  void convert(const Json& json, uint16_t& into) {
    into = static_cast<uint16_t>(number(json, 0xffff, "u16"));
  }
  void convert(const Json& json, uint32_t& into) {
    into = static_cast<uint32_t>(number(json, 0xffffffff, "u32"));
  }
  void convert(const Json& json, uint64_t& into) { into = number(json, UINT64_MAX, "u64"); }
  void convert(const Json& json, std::string& into);
  uint64_t number(const Json& json, uint64_t max, std::string_view type);

  const Json::Object* object_ = nullptr;
  std::optional<std::string> reason_;
};

}  // namespace hob::microvm
