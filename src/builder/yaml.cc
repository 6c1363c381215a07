#include "builder/yaml.h"

#include <yaml.h>

#include <algorithm>
#include <memory>

namespace hob::builder {

namespace {

// Frees what libyaml holds.
struct ParserOwner {
  yaml_parser_t parser{};
  ParserOwner() { yaml_parser_initialize(&parser); }
  ~ParserOwner() { yaml_parser_delete(&parser); }
  ParserOwner(const ParserOwner&) = delete;
  ParserOwner& operator=(const ParserOwner&) = delete;
};

struct EventOwner {
  yaml_event_t event{};
  ~EventOwner() { yaml_event_delete(&event); }
  EventOwner() = default;
  EventOwner(const EventOwner&) = delete;
  EventOwner& operator=(const EventOwner&) = delete;
};

YamlPlace place_of(const yaml_mark_t& mark) {
  return {.line = static_cast<int>(mark.line) + 1, .column = static_cast<int>(mark.column) + 1};
}

class Reader {
 public:
  explicit Reader(std::string_view text) {
    yaml_parser_set_encoding(&owner_.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&owner_.parser,
                                 reinterpret_cast<const unsigned char*>(text.data()), text.size());
  }

  Result<YamlNode> document() {
    EventOwner start;
    HOB_CHECK(next(start));
    EventOwner first;
    HOB_CHECK(next(first));
    if (first.event.type == YAML_STREAM_END_EVENT) {
      return fail(Code::kInvalid, "line 1, column 1: the file is empty");
    }
    EventOwner content;
    HOB_CHECK(next(content));
    HOB_TRY(YamlNode root, node(content.event, 0));
    EventOwner end;
    HOB_CHECK(next(end));
    EventOwner after;
    HOB_CHECK(next(after));
    if (after.event.type != YAML_STREAM_END_EVENT) {
      return fail_at(place_of(after.event.start_mark), "a second document; one is expected");
    }
    return root;
  }

 private:
  Result<void> next(EventOwner& into) {
    if (yaml_parser_parse(&owner_.parser, &into.event) == 1) return {};
    const yaml_parser_t& parser = owner_.parser;
    if (parser.problem == nullptr) return fail(Code::kInvalid, "the file is no YAML");
    const std::string_view problem = parser.problem;
    std::string what(problem);
    // A tab is what people see least and mistype most.
    if (problem.find("cannot start any token") != std::string_view::npos) {
      what = "this cannot stand here; YAML is indented by spaces, never by tabs";
    }
    if (parser.error == YAML_READER_ERROR) {
      return fail(Code::kInvalid, "byte {}: {}", parser.problem_offset, what);
    }
    return fail_at(place_of(parser.problem_mark), std::move(what));
  }

  static Result<void> refuse_extras(YamlPlace place, const unsigned char* anchor,
                                    const unsigned char* tag) {
    if (anchor != nullptr) return fail_at(place, "anchors (&name) are not supported; repeat it");
    if (tag != nullptr) return fail_at(place, "tags (!name) are not supported");
    return {};
  }

  Result<YamlNode> node(const yaml_event_t& event, int depth) {
    const YamlPlace place = place_of(event.start_mark);
    if (++nodes_ > kYamlNodesMax) {
      return fail(Code::kLimit, "line {}: more than {} values", place.line, kYamlNodesMax);
    }
    if (depth > kYamlDepthMax) {
      return fail(Code::kLimit, "line {}: nested deeper than {}", place.line, kYamlDepthMax);
    }
    switch (event.type) {
      case YAML_SCALAR_EVENT:
        return scalar(event, place);
      case YAML_SEQUENCE_START_EVENT:
        return list(event, place, depth);
      case YAML_MAPPING_START_EVENT:
        return map(event, place, depth);
      case YAML_ALIAS_EVENT:
        return fail_at(place, "aliases (*name) are not supported; repeat it");
      default:
        return fail_at(place, "a value is expected here");
    }
  }

  static Result<YamlNode> scalar(const yaml_event_t& event, YamlPlace place) {
    const auto& data = event.data.scalar;
    HOB_CHECK(refuse_extras(place, data.anchor, data.tag));
    YamlNode made{.place = place};
    made.text.assign(reinterpret_cast<const char*>(data.value), data.length);
    if (made.text.find('\0') != std::string::npos) return fail_at(place, "a NUL character");
    made.empty = data.style == YAML_PLAIN_SCALAR_STYLE &&
                 (made.text.empty() || made.text == "~" || made.text == "null");
    return made;
  }

  Result<YamlNode> list(const yaml_event_t& event, YamlPlace place, int depth) {
    HOB_CHECK(
        refuse_extras(place, event.data.sequence_start.anchor, event.data.sequence_start.tag));
    YamlNode made{.kind = YamlNode::Kind::kList, .place = place};
    while (true) {
      EventOwner item;
      HOB_CHECK(next(item));
      if (item.event.type == YAML_SEQUENCE_END_EVENT) return made;
      HOB_TRY(YamlNode value, node(item.event, depth + 1));
      made.items.push_back(std::move(value));
    }
  }

  Result<YamlNode> map(const yaml_event_t& event, YamlPlace place, int depth) {
    HOB_CHECK(refuse_extras(place, event.data.mapping_start.anchor, event.data.mapping_start.tag));
    YamlNode made{.kind = YamlNode::Kind::kMap, .place = place};
    while (true) {
      EventOwner first;
      HOB_CHECK(next(first));
      if (first.event.type == YAML_MAPPING_END_EVENT) return made;
      HOB_TRY(YamlNode key, node(first.event, depth + 1));
      if (key.kind != YamlNode::Kind::kScalar) return fail_at(key.place, "a key has to be a word");
      if (const YamlNode* same = made.find(key.text)) {
        return fail_at(key.place, fmt::format("'{}' is here twice (also at line {})", key.text,
                                              same->place.line));
      }
      EventOwner second;
      HOB_CHECK(next(second));
      HOB_TRY(YamlNode value, node(second.event, depth + 1));
      made.keys.push_back(std::move(key));
      made.items.push_back(std::move(value));
    }
  }

  ParserOwner owner_;
  size_t nodes_ = 0;
};

}  // namespace

const YamlNode* YamlNode::find(std::string_view key) const {
  for (size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].text == key) return &items[i];
  }
  return nullptr;
}

const char* word(YamlNode::Kind kind) {
  switch (kind) {
    case YamlNode::Kind::kScalar:
      return "text";
    case YamlNode::Kind::kList:
      return "a list";
    case YamlNode::Kind::kMap:
      return "a map";
  }
  return "";
}

std::unexpected<Error> fail_at(YamlPlace place, std::string what) {
  return fail(Code::kInvalid, "line {}, column {}: {}", place.line, place.column, what);
}

Result<YamlNode> parse_yaml(std::string_view text) {
  if (text.size() > kYamlBytesMax) {
    return fail(Code::kLimit, "{} bytes; at most {}", text.size(), kYamlBytesMax);
  }
  if (text.empty()) return fail(Code::kInvalid, "line 1, column 1: the file is empty");
  return Reader(text).document();
}

}  // namespace hob::builder
