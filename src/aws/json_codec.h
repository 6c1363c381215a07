// The readers and writers of AWS's JSON protocols, as generated code calls them (query_codec.h has
// the same calls).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "aws/constraints.h"
#include "aws/service.h"
#include "base/result.h"
#include "base/time.h"

namespace boost::json {
class value;
}

namespace hob::aws {

// A value being read. False: absent, or null. What is wrong with it goes to the Problems; reading
// goes on.
class JsonIn final : public InputNode {
 public:
  JsonIn(const boost::json::value& root, Problems& problems) : InputNode(problems), value_(&root) {}

  explicit operator bool() const { return value_ != nullptr || is_key_; }
  void expect_structure() const;
  JsonIn member(std::string_view name) const;
  JsonIn required(std::string_view name) const;  // a missing one is a violation
  std::vector<JsonIn> items(std::string_view item_name) const;
  std::vector<Entry<JsonIn>> entries(std::string_view entry_name, std::string_view key_name,
                                     std::string_view value_name) const;

  void text(std::string& out) const;
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
  JsonIn(const JsonIn& parent, Kind kind, std::string_view name, const boost::json::value* value,
         size_t index = 0)
      : InputNode(parent, kind, name, index), value_(value) {}
  bool read_text(std::string& out) const;
  bool read_integer(int64_t& out, int64_t min, int64_t max) const;
  bool read_number(double& out) const;
  void wrong(std::string_view wanted) const;

  const boost::json::value* value_ = nullptr;
  bool is_key_ = false;  // a map's key has no JSON value of its own; it is name_
};

// Reads a whole body: Problems hold what is wrong with it. An empty body is an empty structure.
class JsonDocument {
 public:
  explicit JsonDocument(const Call& call);
  ~JsonDocument();
  // kInvalid (SerializationException): not JSON, or nested deeper than kInputDepthMax.
  const Result<void>& parsed() const { return parsed_; }
  JsonIn root(Problems& problems) const;

 private:
  std::unique_ptr<boost::json::value> value_;
  Result<void> parsed_{};
};

// Appends `value` in quotes, escaped; bytes that are no UTF-8 become U+FFFD.
void append_json_string(std::string& out, std::string_view value);

// Writes JSON text; absent members are simply not written.
class JsonOut {
 public:
  JsonOut(const ServiceModel&, std::string_view /*operation*/, std::string_view /*wrapper*/) {}

  void begin_structure() { open('{'); }
  void end_structure() { close('}'); }
  void begin_member(std::string_view name);
  void end_member(std::string_view) {}
  void begin_list() { open('['); }
  void end_list() { close(']'); }
  void begin_item(std::string_view) { separate(); }
  void end_item(std::string_view) {}
  void begin_map() { open('{'); }
  void end_map() { close('}'); }
  void begin_entry(std::string_view key, std::string_view, std::string_view) { begin_member(key); }
  void end_entry(std::string_view) {}

  void text(std::string_view value) { append_json_string(text_, value); }
  void blob(std::string_view value);
  void boolean(bool value) { text_ += value ? "true" : "false"; }
  void integer(int64_t value) { text_ += std::to_string(value); }
  void number(double value);
  void time(Instant value);  // seconds with three decimals where it has any

  // The body. Without an output shape it is empty.
  std::string finish(std::string_view /*request_id*/) && { return std::move(text_); }

 private:
  void separate();
  void open(char bracket);
  void close(char bracket);

  std::string text_{};
  bool first_ = true;  // nothing yet in the innermost bracket
};

}  // namespace hob::aws
