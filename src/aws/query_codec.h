// The readers and writers of AWS's Query protocol (form in, XML out), as generated code calls them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "aws/constraints.h"
#include "aws/service.h"
#include "base/result.h"
#include "base/time.h"

namespace hob::aws {

// "Tags.member.1.Key=a" as a tree: Tags, member, 1, Key.
struct FormNode {
  std::string value{};
  bool set = false;  // a value was given here
  std::map<std::string, FormNode, std::less<>> children{};
};

// A value being read; see JsonIn. False: absent.
class QueryIn final : public InputNode {
 public:
  QueryIn(const FormNode& root, Problems& problems) : InputNode(problems), node_(&root) {}

  explicit operator bool() const { return node_ != nullptr; }
  void expect_structure() const {}
  QueryIn member(std::string_view name) const;
  QueryIn required(std::string_view name) const;
  // By number, whatever the gaps. Empty `item_name`: flattened, the numbers stand at the list
  // itself.
  std::vector<QueryIn> items(std::string_view item_name) const;
  std::vector<Entry<QueryIn>> entries(std::string_view entry_name, std::string_view key_name,
                                      std::string_view value_name) const;

  void text(std::string& out) const { out = node_->value; }
  void text(std::string& out, const TextConstraint& constraint) const;
  void blob(std::string& out) const;
  void blob(std::string& out, const TextConstraint& constraint) const;
  void boolean(bool& out) const;
  void integer(int& out) const;
  void integer(int& out, const NumberConstraint& constraint) const;
  void integer(int64_t& out) const;
  void integer(int64_t& out, const NumberConstraint& constraint) const;
  void number(double& out) const;
  void number(double& out, const NumberConstraint& constraint) const;
  void time(Instant& out) const;

  std::string shown() const override;

 private:
  QueryIn(const QueryIn& parent, Kind kind, std::string_view name, const FormNode* node,
          size_t index = 0)
      : InputNode(parent, kind, name, index), node_(node) {}
  void wrong(std::string_view wanted) const;

  const FormNode* node_ = nullptr;
};

// Builds the tree. kInvalid (MalformedQueryString): a name nested deeper than kInputDepthMax or
// with an empty part, or bytes that are no UTF-8.
class QueryDocument {
 public:
  explicit QueryDocument(const Call& call);
  const Result<void>& parsed() const { return parsed_; }
  QueryIn root(Problems& problems) const { return QueryIn(root_, problems); }

 private:
  FormNode root_{};
  Result<void> parsed_{};
};

// Writes <OpResponse
// xmlns=…><OpResult>…</OpResult><ResponseMetadata>…</ResponseMetadata></OpResponse>.
class XmlOut {
 public:
  XmlOut(const ServiceModel& model, std::string_view operation, std::string_view wrapper);

  void begin_structure() {}
  void end_structure() {}
  void begin_member(std::string_view name) { open(name); }
  void end_member(std::string_view name) { close(name); }
  void begin_list() {}
  void end_list() {}
  void begin_item(std::string_view name) { open(name); }
  void end_item(std::string_view name) { close(name); }
  void begin_map() {}
  void end_map() {}
  void begin_entry(std::string_view key, std::string_view key_name, std::string_view value_name);
  void end_entry(std::string_view value_name);

  void text(std::string_view value);
  void blob(std::string_view value);
  void boolean(bool value) { text_ += value ? "true" : "false"; }
  void integer(int64_t value) { text_ += std::to_string(value); }
  void number(double value);
  void time(Instant value) { text_ += iso8601(value); }

  std::string finish(std::string_view request_id) &&;

 private:
  void open(std::string_view name);
  void close(std::string_view name);

  std::string text_{};
  std::string operation_{};
  std::string wrapper_{};
};

// Appends `value` as XML text; what XML 1.0 cannot hold, or is no UTF-8, becomes U+FFFD.
void append_xml_text(std::string& out, std::string_view value);

}  // namespace hob::aws
