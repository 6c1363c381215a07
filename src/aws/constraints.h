// What the service models demand of input, and AWS's words when it is not so.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "aws/pattern.h"
#include "base/result.h"

namespace hob::aws {

inline constexpr size_t kViolationsMax = 20;    // told in one answer; the rest is not looked for
inline constexpr size_t kShownValueMax = 1024;  // bytes of a value repeated in a message
inline constexpr size_t kPatternBytesMax =
    256 * 1024;                            // of a value matched; beyond: it does not match
inline constexpr int kInputDepthMax = 32;  // nested structures, lists and maps

struct TextConstraint {
  int64_t length_min = 0;
  int64_t length_max = -1;  // -1: none. In characters; bytes for a blob
  const Pattern* pattern = nullptr;
  std::span<const std::string_view> words{};  // empty: any
  bool sensitive = false;                     // its value is not repeated
};

struct NumberConstraint {
  std::optional<double> min{};
  std::optional<double> max{};
};

// What was wrong with one input. Unreadable (a wrong type) goes before a broken constraint, as at
// AWS.
class Problems {
 public:
  void unreadable(std::string message) {
    if (unreadable_.empty()) unreadable_ = std::move(message);
  }
  // `value`: nullopt where it is secret.
  void violation(std::optional<std::string> value, const std::string& path,
                 std::string_view constraint);
  // A SerializationException, an error of the code `validation_error`, or nothing wrong.
  Result<void> result(std::string_view validation_error) const;

 private:
  std::string unreadable_{};
  std::vector<std::string> violations_{};
};

// Where a value stands in the input. A node of a chain on the stack: the parent must outlive the
// child.
class InputNode {
 public:
  virtual ~InputNode() = default;
  // The value as AWS prints it in messages: text as it is, lists as [a, b].
  virtual std::string shown() const = 0;

  void check_text(const std::string& value, const TextConstraint& constraint) const;
  void check_blob(const std::string& value, const TextConstraint& constraint) const;
  void check_number(double value, const NumberConstraint& constraint) const;
  // max -1: none.
  void check_count(size_t count, int64_t min, int64_t max) const;

 protected:
  enum class Kind { kRoot, kMember, kItem, kKey, kValue };
  explicit InputNode(Problems& problems) : problems_(&problems) {}
  InputNode(const InputNode& parent, Kind kind, std::string_view name, size_t index = 0)
      : problems_(parent.problems_),
        parent_(&parent),
        kind_(kind),
        name_(name),
        index_(index),
        depth_(parent.depth_ + 1) {}
  InputNode(const InputNode&) = default;
  InputNode& operator=(const InputNode&) = default;

  // "sourceConfiguration.imageRepository.imageIdentifier", "tags.1.member.key".
  std::string path() const;
  void missing(std::string_view name) const;
  // Records the violations of the value itself: `broken` of all the constraints there are, `every`.
  void report(std::vector<std::string> broken, const std::vector<std::string>& every,
              bool secret) const;

  Problems* problems_;
  const InputNode* parent_ = nullptr;
  Kind kind_ = Kind::kRoot;
  std::string_view name_{};
  size_t index_ = 0;  // of an item, from 1
  int depth_ = 0;
};

// One entry of a map being read.
template <class In>
struct Entry {
  In key;
  In value;
};

}  // namespace hob::aws
