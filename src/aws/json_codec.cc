#include "aws/json_codec.h"

#include <fmt/format.h>

#include <boost/json.hpp>
#include <cmath>
#include <limits>
#include <utility>

#include "aws/timestamp.h"
#include "aws/utf8.h"
#include "base/digest.h"

namespace hob::aws {

namespace json = boost::json;

namespace {

constexpr int64_t kIntMin = std::numeric_limits<int>::min();
constexpr int64_t kIntMax = std::numeric_limits<int>::max();
constexpr int64_t kLongMin = std::numeric_limits<int64_t>::min();
constexpr int64_t kLongMax = std::numeric_limits<int64_t>::max();

const char* word(const json::value& value) {
  switch (value.kind()) {
    case json::kind::null:
      return "null";
    case json::kind::bool_:
      return "a boolean";
    case json::kind::int64:
    case json::kind::uint64:
    case json::kind::double_:
      return "a number";
    case json::kind::string:
      return "a string";
    case json::kind::array:
      return "a list";
    case json::kind::object:
      return "a structure";
  }
  return "a value";
}

}  // namespace

void JsonIn::wrong(std::string_view wanted) const {
  const std::string at = path();
  problems_->unreadable(fmt::format("{} found where {} was expected{}{}{}",
                                    value_ == nullptr ? "a key" : word(*value_), wanted,
                                    at.empty() ? "" : " at '", at, at.empty() ? "" : "'"));
}

void JsonIn::expect_structure() const {
  if (value_ == nullptr || !value_->is_object()) wrong("a structure");
}

JsonIn JsonIn::member(std::string_view name) const {
  const json::value* found = nullptr;
  if (value_ != nullptr && value_->is_object()) found = value_->get_object().if_contains(name);
  if (found != nullptr && found->is_null()) found = nullptr;
  return JsonIn(*this, Kind::kMember, name, found);
}

JsonIn JsonIn::required(std::string_view name) const {
  JsonIn found = member(name);
  if (!found) missing(name);
  return found;
}

std::vector<JsonIn> JsonIn::items(std::string_view) const {
  std::vector<JsonIn> out;
  if (value_ == nullptr || !value_->is_array()) {
    wrong("a list");
    return out;
  }
  const json::array& array = value_->get_array();
  out.reserve(array.size());
  for (const json::value& item : array) {
    if (!item.is_null()) out.push_back(JsonIn(*this, Kind::kItem, "", &item, out.size() + 1));
  }
  return out;
}

std::vector<Entry<JsonIn>> JsonIn::entries(std::string_view, std::string_view,
                                           std::string_view) const {
  std::vector<Entry<JsonIn>> out;
  if (value_ == nullptr || !value_->is_object()) {
    wrong("a map");
    return out;
  }
  out.reserve(value_->get_object().size());
  for (const auto& entry : value_->get_object()) {
    if (entry.value().is_null()) continue;
    JsonIn key(*this, Kind::kKey, entry.key(), nullptr);
    key.is_key_ = true;
    out.push_back({std::move(key), JsonIn(*this, Kind::kValue, entry.key(), &entry.value())});
  }
  return out;
}

bool JsonIn::read_text(std::string& out) const {
  if (is_key_) {
    out = name_;
    return true;
  }
  if (!value_->is_string()) {
    wrong("a string");
    return false;
  }
  out = std::string_view(value_->get_string());
  return true;
}

bool JsonIn::read_integer(int64_t& out, int64_t min, int64_t max) const {
  if (value_->is_int64()) {
    out = value_->get_int64();
  } else if (value_->is_double() && std::floor(value_->get_double()) == value_->get_double() &&
             std::fabs(value_->get_double()) < 9e15) {
    out = static_cast<int64_t>(value_->get_double());
  } else if (value_->is_number()) {
    wrong("a whole number in range");
    return false;
  } else {
    wrong("a whole number");
    return false;
  }
  if (out < min || out > max) {
    wrong("a whole number in range");
    return false;
  }
  return true;
}

bool JsonIn::read_number(double& out) const {
  if (!value_->is_number()) {
    wrong("a number");
    return false;
  }
  out = value_->to_number<double>();
  return true;
}

void JsonIn::text(std::string& out) const { read_text(out); }
void JsonIn::text(std::string& out, const TextConstraint& constraint) const {
  if (read_text(out)) check_text(out, constraint);
}

void JsonIn::blob(std::string& out) const { blob(out, TextConstraint{}); }
void JsonIn::blob(std::string& out, const TextConstraint& constraint) const {
  std::string encoded;
  if (!read_text(encoded)) return;
  std::optional<std::string> decoded = unbase64(encoded);
  if (!decoded) return wrong("base64");
  out = std::move(*decoded);
  check_blob(out, constraint);
}

void JsonIn::boolean(bool& out) const {
  if (!value_->is_bool()) return wrong("a boolean");
  out = value_->get_bool();
}

void JsonIn::integer(int& out) const { integer(out, NumberConstraint{}); }
void JsonIn::integer(int& out, const NumberConstraint& constraint) const {
  int64_t value = 0;
  if (!read_integer(value, kIntMin, kIntMax)) return;
  out = static_cast<int>(value);
  check_number(out, constraint);
}
void JsonIn::integer(int64_t& out) const { integer(out, NumberConstraint{}); }
void JsonIn::integer(int64_t& out, const NumberConstraint& constraint) const {
  if (read_integer(out, kLongMin, kLongMax)) check_number(static_cast<double>(out), constraint);
}

void JsonIn::number(double& out) const { read_number(out); }
void JsonIn::number(double& out, const NumberConstraint& constraint) const {
  if (read_number(out)) check_number(out, constraint);
}

void JsonIn::time(Instant& out) const {
  std::optional<Instant> read;
  if (value_->is_number()) read = timestamp_from_seconds(value_->to_number<double>());
  if (value_->is_string()) read = timestamp_from_text(value_->get_string());
  if (!read) return wrong("a time in seconds since 1970");
  out = *read;
}

std::string JsonIn::shown() const {
  if (is_key_) return std::string(name_);
  if (value_ == nullptr) return "null";
  if (value_->is_string()) return std::string(std::string_view(value_->get_string()));
  if (value_->is_array()) {
    std::string out = "[";
    for (const json::value& item : value_->get_array()) {
      if (out.size() > kShownValueMax) break;
      if (out.size() > 1) out += ", ";
      if (item.is_string())
        out += std::string_view(item.get_string());
      else if (item.is_number())
        out += json::serialize(item);
      else
        out += "{...}";
    }
    return out + "]";
  }
  if (value_->is_object()) return value_->get_object().empty() ? "{}" : "{...}";
  return json::serialize(*value_);
}

JsonDocument::JsonDocument(const Call& call) : value_(std::make_unique<json::value>()) {
  if (call.body.empty()) {
    value_->emplace_object();
    return;
  }
  json::parse_options options;
  options.max_depth = kInputDepthMax;
  boost::system::error_code error;
  *value_ = json::parse(call.body, error, {}, options);
  if (error) {
    parsed_ =
        fail(Error{.code = Code::kInvalid,
                   .message = "The request body is not the JSON it should be: " + error.message(),
                   .aws_code = "SerializationException"});
  }
}

JsonDocument::~JsonDocument() = default;

JsonIn JsonDocument::root(Problems& problems) const { return JsonIn(*value_, problems); }

void JsonOut::separate() {
  if (!first_) text_ += ',';
  first_ = false;
}

void JsonOut::open(char bracket) {
  text_ += bracket;
  first_ = true;
}

void JsonOut::close(char bracket) {
  text_ += bracket;
  first_ = false;
}

void JsonOut::begin_member(std::string_view name) {
  separate();
  append_json_string(text_, name);
  text_ += ':';
}

void JsonOut::blob(std::string_view value) { append_json_string(text_, base64(value)); }

void JsonOut::number(double value) {
  text_ += std::isfinite(value) ? fmt::format("{}", value) : "0";
}

void JsonOut::time(Instant value) {
  const int64_t milliseconds = value.time_since_epoch().count();
  if (milliseconds % 1000 == 0)
    text_ += std::to_string(milliseconds / 1000);
  else
    text_ += fmt::format("{:.3f}", static_cast<double>(milliseconds) / 1000.0);
}

void append_json_string(std::string& out, std::string_view value) {
  if (!is_utf8(value)) return append_json_string(out, to_utf8(value));
  out += '"';
  for (const char c : value) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20)
          out += fmt::format("\\u{:04x}", static_cast<int>(c));
        else
          out += c;
    }
  }
  out += '"';
}

}  // namespace hob::aws
