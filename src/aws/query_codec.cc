#include "aws/query_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "aws/timestamp.h"
#include "aws/utf8.h"
#include "base/digest.h"

namespace hob::aws {

namespace {

// The children whose names are numbers, by number.
std::vector<std::pair<uint32_t, const FormNode*>> numbered(const FormNode& node) {
  std::vector<std::pair<uint32_t, const FormNode*>> out;
  for (const auto& [name, child] : node.children) {
    uint32_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error == std::errc() && end == name.data() + name.size()) out.emplace_back(number, &child);
  }
  std::ranges::sort(out, {}, &std::pair<uint32_t, const FormNode*>::first);
  return out;
}

const FormNode* child(const FormNode* node, std::string_view name) {
  if (node == nullptr) return nullptr;
  const auto found = node->children.find(name);
  return found == node->children.end() ? nullptr : &found->second;
}

template <class Number>
bool parse_number(std::string_view text, Number& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size();
}

}  // namespace

void QueryIn::wrong(std::string_view wanted) const {
  problems_->unreadable(fmt::format("The value at '{}' is not {}", path(), wanted));
}

QueryIn QueryIn::member(std::string_view name) const {
  return QueryIn(*this, Kind::kMember, name, child(node_, name));
}

QueryIn QueryIn::required(std::string_view name) const {
  QueryIn found = member(name);
  if (!found) missing(name);
  return found;
}

std::vector<QueryIn> QueryIn::items(std::string_view item_name) const {
  std::vector<QueryIn> out;
  const FormNode* list = item_name.empty() ? node_ : child(node_, item_name);
  if (list == nullptr) return out;  // "Tags=": an empty list
  for (const auto& [number, item] : numbered(*list)) {
    out.push_back(QueryIn(*this, Kind::kItem, "", item, out.size() + 1));
  }
  return out;
}

std::vector<Entry<QueryIn>> QueryIn::entries(std::string_view entry_name, std::string_view key_name,
                                             std::string_view value_name) const {
  std::vector<Entry<QueryIn>> out;
  const FormNode* map = entry_name.empty() ? node_ : child(node_, entry_name);
  if (map == nullptr) return out;
  for (const auto& [number, entry] : numbered(*map)) {
    const FormNode* key = child(entry, key_name);
    const FormNode* value = child(entry, value_name);
    if (key == nullptr || value == nullptr) {
      wrong("a map: each entry needs its key and its value");
      continue;
    }
    out.push_back({QueryIn(*this, Kind::kKey, key->value, key),
                   QueryIn(*this, Kind::kValue, key->value, value)});
  }
  return out;
}

void QueryIn::text(std::string& out, const TextConstraint& constraint) const {
  out = node_->value;
  check_text(out, constraint);
}

void QueryIn::blob(std::string& out) const { blob(out, TextConstraint{}); }
void QueryIn::blob(std::string& out, const TextConstraint& constraint) const {
  std::optional<std::string> decoded = unbase64(node_->value);
  if (!decoded) return wrong("base64");
  out = std::move(*decoded);
  check_blob(out, constraint);
}

void QueryIn::boolean(bool& out) const {
  if (node_->value != "true" && node_->value != "false") return wrong("true or false");
  out = node_->value == "true";
}

void QueryIn::integer(int& out) const { integer(out, NumberConstraint{}); }
void QueryIn::integer(int& out, const NumberConstraint& constraint) const {
  if (!parse_number(node_->value, out)) return wrong("a whole number in range");
  check_number(out, constraint);
}
void QueryIn::integer(int64_t& out) const { integer(out, NumberConstraint{}); }
void QueryIn::integer(int64_t& out, const NumberConstraint& constraint) const {
  if (!parse_number(node_->value, out)) return wrong("a whole number in range");
  check_number(static_cast<double>(out), constraint);
}

void QueryIn::number(double& out) const { number(out, NumberConstraint{}); }
void QueryIn::number(double& out, const NumberConstraint& constraint) const {
  double value = 0;
  if (!parse_number(node_->value, value) || !std::isfinite(value)) return wrong("a number");
  out = value;
  check_number(out, constraint);
}

void QueryIn::time(Instant& out) const {
  const std::optional<Instant> read = timestamp_from_text(node_->value);
  if (!read) return wrong("a time, as 2026-11-23T22:11:49Z");
  out = *read;
}

std::string QueryIn::shown() const {
  if (node_ == nullptr) return "null";
  if (node_->children.empty()) return node_->value;
  // A list's items stand under "member" or, flattened, at the list itself.
  const FormNode& list = node_->children.size() == 1 && numbered(*node_).empty()
                             ? node_->children.begin()->second
                             : *node_;
  std::string out = "[";
  for (const auto& [number, item] : numbered(list)) {
    if (out.size() > kShownValueMax) break;
    if (out.size() > 1) out += ", ";
    out += item->children.empty() ? item->value : "{...}";
  }
  return out + "]";
}

QueryDocument::QueryDocument(const Call& call) {
  for (const auto& [name, value] : call.form) {
    if (!is_utf8(name) || !is_utf8(value)) {
      parsed_ = fail(Error{.code = Code::kInvalid,
                           .message = "The form holds bytes that are not UTF-8",
                           .aws_code = "MalformedQueryString"});
      return;
    }
    FormNode* node = &root_;
    std::string_view rest = name;
    int depth = 0;
    while (true) {
      const size_t dot = rest.find('.');
      const std::string_view part = rest.substr(0, dot);
      if (part.empty() || ++depth > 2 * kInputDepthMax) {
        parsed_ = fail(Error{
            .code = Code::kInvalid,
            .message = fmt::format("The parameter name '{}' is malformed", name.substr(0, 100)),
            .aws_code = "MalformedQueryString"});
        return;
      }
      node = &node->children[std::string(part)];
      if (dot == std::string_view::npos) break;
      rest.remove_prefix(dot + 1);
    }
    node->value = value;
    node->set = true;
  }
}

XmlOut::XmlOut(const ServiceModel& model, std::string_view operation, std::string_view wrapper)
    : operation_(operation), wrapper_(wrapper) {
  text_ = fmt::format("<{}Response xmlns=\"{}\">", operation, model.xml_namespace);
  if (!wrapper_.empty()) open(wrapper_);
}

void XmlOut::open(std::string_view name) { text_.append("<").append(name).append(">"); }
void XmlOut::close(std::string_view name) { text_.append("</").append(name).append(">"); }

void XmlOut::begin_entry(std::string_view key, std::string_view key_name,
                         std::string_view value_name) {
  open("entry");
  open(key_name);
  text(key);
  close(key_name);
  open(value_name);
}

void XmlOut::end_entry(std::string_view value_name) {
  close(value_name);
  close("entry");
}

void XmlOut::text(std::string_view value) { append_xml_text(text_, value); }
void XmlOut::blob(std::string_view value) { text_ += base64(value); }
void XmlOut::number(double value) {
  text_ += std::isfinite(value) ? fmt::format("{}", value) : "0";
}

std::string XmlOut::finish(std::string_view request_id) && {
  if (!wrapper_.empty()) close(wrapper_);
  text_ += "<ResponseMetadata><RequestId>";
  append_xml_text(text_, request_id);
  text_ += "</RequestId></ResponseMetadata>";
  close(operation_ + "Response");
  return std::move(text_);
}

void append_xml_text(std::string& out, std::string_view value) {
  if (!is_utf8(value)) return append_xml_text(out, to_utf8(value));
  for (const char c : value) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\r':
        out += "&#13;";
        break;  // a bare one would be read as a line feed
      default:
        if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t')
          out += "\xEF\xBF\xBD";
        else
          out += c;
    }
  }
}

}  // namespace hob::aws
