#include "base/record.h"

#include <gtest/gtest.h>

namespace hob {
namespace {

enum class Status { kUnknown, kOperationInProgress };
BOOST_DESCRIBE_ENUM(Status, kUnknown, kOperationInProgress)

using ThingId = Id<struct ThingTag>;

struct Part {
  std::string name{};
  int count = 0;
};
BOOST_DESCRIBE_STRUCT(Part, (), (name, count))

struct Thing {
  ThingId id{};
  Status status = Status::kUnknown;
  bool on = false;
  uint16_t port = 8080;
  Instant at{};
  Duration delay{};
  std::optional<int> maybe{};
  Part part{};
  std::vector<Part> parts{};
  std::map<std::string, std::string> tags{};
};
BOOST_DESCRIBE_STRUCT(Thing, (), (id, status, on, port, at, delay, maybe, part, parts, tags))

Thing sample() {
  return {.id = ThingId{"x"},
          .status = Status::kOperationInProgress,
          .on = true,
          .port = 1,
          .at = Instant(Duration(5)),
          .delay = Duration(7),
          .maybe = 3,
          .part = {"p", 1},
          .parts = {{"q", 2}, {"r", 3}},
          .tags = {{"a", "b"}}};
}

TEST(Record, ComesBackAsItWas) {
  const std::string text = record::encode(sample());
  EXPECT_EQ(
      text,
      R"({"id":"x","status":"OPERATION_IN_PROGRESS","on":true,"port":1,"at":5,"delay":7,"maybe":3,)"
      R"("part":{"name":"p","count":1},"parts":[{"name":"q","count":2},{"name":"r","count":3}],"tags":{"a":"b"}})");
  const Result<Thing> thing = record::decode<Thing>(text);
  ASSERT_TRUE(thing.has_value());
  EXPECT_EQ(record::encode(*thing), text);
}

TEST(Record, WhatIsMissingHasItsDefault) {
  const Result<Thing> thing = record::decode<Thing>("{}");
  ASSERT_TRUE(thing.has_value());
  EXPECT_EQ(thing->port, 8080);
  EXPECT_EQ(thing->maybe, std::nullopt);
  EXPECT_EQ(record::encode(*thing).find("maybe"), std::string::npos);
}

TEST(Record, UnknownFieldsAreKept) {
  const std::string newer = R"({"id":"x","new":{"a":[1]},"part":{"name":"p","extra":7}})";
  const Result<Thing> thing = record::decode<Thing>(newer);
  ASSERT_TRUE(thing.has_value());
  Thing changed = *thing;
  changed.part.count = 9;
  const std::string written = record::encode_over(changed, newer);
  EXPECT_NE(written.find(R"("new":{"a":[1]})"), std::string::npos) << written;
  EXPECT_NE(written.find(R"("part":{"name":"p","count":9,"extra":7})"), std::string::npos)
      << written;
}

TEST(Record, RefusesAndNamesTheField) {
  struct Case {
    const char* text;
    const char* has;
  };
  for (const Case& c : {
           Case{"", "not JSON"},
           Case{"{", "not JSON"},
           Case{"[]", "an object expected"},
           Case{R"({"new":[1,{"a":1E1452247522}]})", "a number out of range"},
           Case{R"({"id":7})", "id: a string expected"},
           Case{R"({"status":"SPLENDID"})", "status: unknown word 'SPLENDID'"},
           Case{R"({"port":65536})", "port: a whole number in range expected"},
           Case{R"({"port":-1})", "port: a whole number in range expected"},
           Case{R"({"port":1.5})", "port: a whole number in range expected"},
           Case{R"({"on":1})", "on: true or false expected"},
           Case{R"({"parts":[{"name":"a"},{"count":"b"}]})",
                "parts: [1]: count: a number expected"},
           Case{R"({"tags":{"a":1}})", "tags: a: a string expected"},
       }) {
    const Result<Thing> thing = record::decode<Thing>(c.text);
    ASSERT_FALSE(thing.has_value()) << c.text;
    EXPECT_NE(thing.error().message.find(c.has), std::string::npos) << thing.error().message;
  }
}

TEST(Record, HasBounds) {
  EXPECT_FALSE(record::parse(std::string(record::kRecordBytesMax + 1, ' ')).has_value());
  const auto nested = [](int depth) {
    return std::string(static_cast<size_t>(depth), '[') +
           std::string(static_cast<size_t>(depth), ']');
  };
  EXPECT_TRUE(record::parse(nested(record::kDepthMax)).has_value());
  EXPECT_FALSE(record::parse(nested(record::kDepthMax + 1)).has_value());
  for (const int64_t most : {record::kMillisecondsMax, -record::kMillisecondsMax}) {
    const int64_t beyond = most > 0 ? most + 1 : most - 1;
    for (const char* field : {"at", "delay"}) {
      EXPECT_TRUE(record::decode<Thing>(fmt::format(R"({{"{}":{}}})", field, most)).has_value());
      EXPECT_FALSE(record::decode<Thing>(fmt::format(R"({{"{}":{}}})", field, beyond)).has_value());
    }
  }
}

TEST(Record, EnumsAreWords) {
  EXPECT_EQ(record::enum_word("kOperationInProgress"), "OPERATION_IN_PROGRESS");
  EXPECT_EQ(record::word(Status::kUnknown), "UNKNOWN");
  EXPECT_EQ(record::from_word<Status>("OPERATION_IN_PROGRESS"), Status::kOperationInProgress);
  EXPECT_EQ(record::from_word<Status>("kUnknown"), std::nullopt);
}

}  // namespace
}  // namespace hob
