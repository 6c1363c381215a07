#include "microvm/api/json.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/json_text.h"

namespace hob::microvm {
namespace {

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<Json> whole() {
    HOB_TRY(Json json, value(0));
    skip_blanks();
    if (at_ < text_.size()) return wrong("trailing characters");
    return json;
  }

 private:
  std::unexpected<Error> wrong(std::string_view what) const {
    const std::string_view before = text_.substr(0, std::min(at_, text_.size()));
    const auto line = std::ranges::count(before, '\n') + 1;
    const size_t line_at = before.rfind('\n');
    const size_t column = before.size() - (line_at == std::string_view::npos ? 0 : line_at + 1);
    return fail(Code::kInvalid, "{} at line {} column {}", what, line, column);
  }
  void skip_blanks() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").contains(text_[at_])) ++at_;
  }
  bool take(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool take_word(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) return false;
    at_ += word.size();
    return true;
  }

  Result<Json> value(int depth) {
    if (depth == kJsonDepthMax) return wrong("recursion limit exceeded");
    skip_blanks();
    if (at_ == text_.size()) return wrong("EOF while parsing a value");
    switch (text_[at_]) {
      case '{':
        return object(depth);
      case '[':
        return array(depth);
      case '"': {
        HOB_TRY(std::string text, string());
        return Json(Json::Value(std::move(text)));
      }
      case 't':
        if (take_word("true")) return Json(Json::Value(true));
        break;
      case 'f':
        if (take_word("false")) return Json(Json::Value(false));
        break;
      case 'n':
        if (take_word("null")) return Json();
        break;
      default:
        return number();
    }
    return wrong("expected value");
  }

  Result<Json> array(int depth) {
    ++at_;
    Json::Array items;
    skip_blanks();
    if (take(']')) return Json(Json::Value(std::move(items)));
    while (true) {
      HOB_TRY(Json item, value(depth + 1));
      items.push_back(std::move(item));
      skip_blanks();
      if (take(']')) return Json(Json::Value(std::move(items)));
      if (!take(','))
        return wrong(at_ == text_.size() ? "EOF while parsing a list" : "expected `,` or `]`");
    }
  }

  Result<Json> object(int depth) {
    ++at_;
    Json::Object members;
    skip_blanks();
    if (take('}')) return Json(Json::Value(std::move(members)));
    while (true) {
      skip_blanks();
      if (at_ == text_.size()) return wrong("EOF while parsing an object");
      if (text_[at_] != '"') return wrong("key must be a string");
      HOB_TRY(std::string key, string());
      skip_blanks();
      if (!take(':')) return wrong("expected `:`");
      HOB_TRY(Json member, value(depth + 1));
      members.emplace_back(std::move(key), std::move(member));
      skip_blanks();
      if (take('}')) return Json(Json::Value(std::move(members)));
      if (!take(','))
        return wrong(at_ == text_.size() ? "EOF while parsing an object" : "expected `,` or `}`");
    }
  }

  size_t digits() {
    const size_t from = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    return at_ - from;
  }

  Result<Json> number() {
    const size_t from = at_;
    const bool negative = take('-');
    const size_t first = at_;
    const size_t whole = digits();
    if (whole == 0) return wrong("expected value");
    if (whole > 1 && text_[first] == '0') return wrong("invalid number");
    bool integer = true;
    if (take('.')) {
      integer = false;
      if (digits() == 0) return wrong("invalid number");
    }
    if (take('e') || take('E')) {
      integer = false;
      if (!take('+')) take('-');
      if (digits() == 0) return wrong("invalid number");
    }
    const char* begin = text_.data() + from;
    const char* end = text_.data() + at_;
    if (integer && negative) {
      int64_t value = 0;
      if (std::from_chars(begin, end, value).ec == std::errc()) return Json(Json::Value(value));
    } else if (integer) {
      uint64_t value = 0;
      if (std::from_chars(begin, end, value).ec == std::errc()) return Json(Json::Value(value));
    }
    double value = 0;
    if (std::from_chars(begin, end, value).ec != std::errc() || !std::isfinite(value))
      return wrong("number out of range");
    return Json(Json::Value(value));
  }

  std::optional<uint32_t> hex4() {
    if (text_.size() - at_ < 4) return std::nullopt;
    uint32_t value = 0;
    const char* begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, begin + 4, value, 16);
    if (error != std::errc() || end != begin + 4) return std::nullopt;
    at_ += 4;
    return value;
  }

  static void append_utf8(std::string& text, uint32_t point) {
    const auto tail = [&](int shift) { text += static_cast<char>(0x80 | (point >> shift & 0x3f)); };
    if (point < 0x80) {
      text += static_cast<char>(point);
    } else if (point < 0x800) {
      text += static_cast<char>(0xc0 | point >> 6);
      tail(0);
    } else if (point < 0x10000) {
      text += static_cast<char>(0xe0 | point >> 12);
      tail(6), tail(0);
    } else {
      text += static_cast<char>(0xf0 | point >> 18);
      tail(12), tail(6), tail(0);
    }
  }

  // A character of several bytes, checked to be the shortest form of a code point (RFC 3629).
  bool take_utf8(std::string& text) {
    const auto byte = [&](size_t i) { return static_cast<uint8_t>(text_[at_ + i]); };
    const uint8_t lead = byte(0);
    const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text_.size() - at_ < length) return false;
    for (size_t i = 1; i < length; ++i) {
      if ((byte(i) & 0xc0) != 0x80) return false;
    }
    if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) > 0x9f) ||
        (lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) > 0x8f))
      return false;
    text += text_.substr(at_, length);
    at_ += length;
    return true;
  }

  Result<std::string> string() {
    ++at_;
    std::string text;
    while (true) {
      if (at_ == text_.size()) return wrong("EOF while parsing a string");
      const char c = text_[at_];
      if (c == '"') {
        ++at_;
        return text;
      }
      if (static_cast<uint8_t>(c) < 0x20)
        return wrong("control character (\\u0000-\\u001F) found while parsing a string");
      if (static_cast<uint8_t>(c) >= 0x80) {
        if (!take_utf8(text)) return wrong("invalid unicode code point");
      } else if (c == '\\') {
        ++at_;
        HOB_CHECK(escape(text));
      } else {
        text += c;
        ++at_;
      }
    }
  }

  Result<void> escape(std::string& text) {
    if (at_ == text_.size()) return wrong("EOF while parsing a string");
    const char c = text_[at_++];
    constexpr std::string_view kFrom = "\"\\/bfnrt";
    constexpr std::string_view kTo = "\"\\/\b\f\n\r\t";
    if (const size_t i = kFrom.find(c); i != std::string_view::npos) {
      text += kTo[i];
      return {};
    }
    if (c != 'u') return wrong("invalid escape");
    auto point = hex4();
    if (!point) return wrong("invalid escape");
    if (*point >= 0xdc00 && *point <= 0xdfff) return wrong("lone leading surrogate in hex escape");
    if (*point >= 0xd800 && *point <= 0xdbff) {
      if (!take_word("\\u")) return wrong("unexpected end of hex escape");
      const auto low = hex4();
      if (!low || *low < 0xdc00 || *low > 0xdfff)
        return wrong("lone leading surrogate in hex escape");
      point = 0x10000 + ((*point - 0xd800) << 10) + (*low - 0xdc00);
    }
    append_utf8(text, *point);
    return {};
  }

  std::string_view text_;
  size_t at_ = 0;
};

void append(std::string& out, const Json& json) {
  if (const auto* flag = json.as<bool>())
    out += *flag ? "true" : "false";
  else if (const auto* negative = json.as<int64_t>())
    out += fmt::format("{}", *negative);
  else if (const auto* positive = json.as<uint64_t>())
    out += fmt::format("{}", *positive);
  else if (const auto* real = json.as<double>())
    out += fmt::format("{}", *real);
  else if (const auto* text = json.as<std::string>())
    append_json_quoted(out, *text);
  else if (const auto* array = json.as<Json::Array>()) {
    out += '[';
    for (const Json& item : *array) {
      if (&item != array->data()) out += ',';
      append(out, item);
    }
    out += ']';
  } else if (const auto* object = json.as<Json::Object>()) {
    out += '{';
    for (const auto& member : *object) {
      if (&member != object->data()) out += ',';
      append_json_quoted(out, member.first);
      out += ':';
      append(out, member.second);
    }
    out += '}';
  } else {
    out += "null";
  }
}

std::string kind(const Json& json) {
  if (json.is_null()) return "null";
  if (const auto* flag = json.as<bool>()) return fmt::format("boolean `{}`", *flag);
  if (const auto* negative = json.as<int64_t>()) return fmt::format("integer `{}`", *negative);
  if (const auto* positive = json.as<uint64_t>()) return fmt::format("integer `{}`", *positive);
  if (const auto* real = json.as<double>()) return fmt::format("floating point `{}`", *real);
  if (const auto* text = json.as<std::string>()) return fmt::format("string \"{}\"", *text);
  return json.as<Json::Array>() != nullptr ? "sequence" : "map";
}

std::string alternatives(std::initializer_list<std::string_view> words) {
  std::string list;
  for (const std::string_view word : words)
    list += fmt::format("{}`{}`", list.empty() ? "" : ", ", word);
  return words.size() == 1 ? list : "one of " + list;
}

}  // namespace

Result<Json> Json::parse(std::string_view text) { return Parser(text).whole(); }

std::string Json::text() const {
  std::string out;
  append(out, *this);
  return out;
}

Fields::Fields(const Json& json, std::string_view type,
               std::initializer_list<std::string_view> known, Unknown unknown)
    : object_(json.as<Json::Object>()) {
  if (object_ == nullptr) {
    fail_with(fmt::format("invalid type: {}, expected {}", kind(json), type));
    return;
  }
  for (auto member = object_->begin(); member != object_->end() && !reason_; ++member) {
    const bool is_known = std::ranges::find(known, member->first) != known.end();
    if (!is_known && unknown == Unknown::kRefused)
      fail_with(fmt::format("unknown field `{}`, expected {}", member->first, alternatives(known)));
    if (is_known && std::any_of(object_->begin(), member,
                                [&](const auto& m) { return m.first == member->first; }))
      fail_with(fmt::format("duplicate field `{}`", member->first));
  }
}

const Json* Fields::find(std::string_view name) const {
  if (object_ == nullptr) return nullptr;
  const auto found = std::ranges::find(
      *object_, name, [](const auto& member) { return std::string_view(member.first); });
  return found == object_->end() ? nullptr : &found->second;
}

std::string Fields::missing(std::string_view name) {
  return fmt::format("missing field `{}`", name);
}

void Fields::convert(const Json& json, bool& into) {
  if (const auto* flag = json.as<bool>())
    into = *flag;
  else
    fail_with(fmt::format("invalid type: {}, expected a boolean", kind(json)));
}

void Fields::convert(const Json& json, std::string& into) {
  if (const auto* text = json.as<std::string>())
    into = *text;
  else
    fail_with(fmt::format("invalid type: {}, expected a string", kind(json)));
}

uint64_t Fields::number(const Json& json, uint64_t max, std::string_view type) {
  const auto* value = json.as<uint64_t>();
  if (value != nullptr && *value <= max) return *value;
  const bool integer = value != nullptr || json.as<int64_t>() != nullptr;
  fail_with(
      fmt::format("invalid {}: {}, expected {}", integer ? "value" : "type", kind(json), type));
  return 0;
}

void Fields::variant(std::string_view name, std::initializer_list<std::string_view> words,
                     size_t& into) {
  const Json* field = find(name);
  if (field == nullptr || field->is_null()) return;
  std::string word;
  convert(*field, word);
  const auto found = std::ranges::find(words, word);
  if (found == words.end())
    return fail_with(fmt::format("unknown variant `{}`, expected {}", word, alternatives(words)));
  into = static_cast<size_t>(found - words.begin());
}

Result<void> Fields::finish() const {
  if (reason_) return fail(Code::kInvalid, "{}", *reason_);
  return {};
}

}  // namespace hob::microvm
