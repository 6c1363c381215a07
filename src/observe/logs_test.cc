#include "observe/logs.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdlib>
#include <fstream>

#include "base/file.h"
#include "observe/segment.h"

namespace hob::observe {
namespace {

using namespace std::chrono_literals;

class ManualClock final : public Clock {
 public:
  Instant now() const override { return at; }
  Instant at{Duration(1'000'000)};
};

class LogsTest : public testing::Test {
 protected:
  LogsTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "hob-logs-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    open();
  }
  ~LogsTest() override {
    logs_.reset();
    std::filesystem::remove_all(directory_);
  }

  template <class T>
  T run(Async<T> work) {
    std::optional<T> value;
    scope_.spawn("test", [](Async<T> body, std::optional<T>& into) -> Async<> {
      into.emplace(co_await std::move(body));
    }(std::move(work), value));
    loop_.restart();
    loop_.run();
    return std::move(*value);
  }

  // What a restart does; kill -9 differs only in what is on disk.
  void open(LogLimits limits = {}) {
    logs_ = std::make_unique<Logs>(directory_ / "logs", pool_, clock_, limits);
    ASSERT_TRUE(run(logs_->open()));
  }
  StreamName name(const std::string& stream = "s") {
    return {"000000000001", "/aws/apprunner/a/b/service", stream};
  }
  int64_t append(std::vector<std::string> texts, std::optional<int64_t> position = {},
                 const std::string& stream = "s") {
    std::vector<link::LogLine> lines;
    for (std::string& text : texts)
      lines.push_back({.at = clock_.at + Duration(tick_++), .text = std::move(text)});
    const auto result = run(logs_->append(name(stream), std::move(lines), position));
    EXPECT_TRUE(result) << result.error().message;
    return result.value_or(-2);
  }
  LogPage read(ReadRequest request) {
    if (request.name.account.empty()) request.name = name();
    auto page = run(logs_->read(std::move(request)));
    EXPECT_TRUE(page);
    return page.value_or(LogPage{});
  }
  static std::string texts(const std::vector<LogEvent>& events) {
    std::string all;
    for (const LogEvent& event : events) all += (all.empty() ? "" : ",") + event.text;
    return all;
  }
  std::vector<std::filesystem::path> segments() {
    std::vector<std::filesystem::path> found;
    for (const auto& file : std::filesystem::recursive_directory_iterator(directory_)) {
      if (file.path().extension() == ".log") found.push_back(file.path());
    }
    std::ranges::sort(found);
    return found;
  }

  boost::asio::io_context loop_{1};
  AsyncScope scope_{loop_.get_executor()};
  BlockingPool pool_{2};
  ManualClock clock_;
  int tick_ = 0;
  std::filesystem::path directory_;
  std::unique_ptr<Logs> logs_;
};

TEST_F(LogsTest, WhatWasAppendedIsReadAlsoAfterARestart) {
  append({"one", "two\nlines\t\\"});
  append({"three"});
  EXPECT_EQ(texts(read({}).events), "one,two\nlines\t\\,three");
  open();
  append({"four"});
  EXPECT_EQ(texts(read({}).events), "one,two\nlines\t\\,three,four");
}

TEST_F(LogsTest, ARepeatedBatchAddsNothing) {
  EXPECT_EQ(append({"one"}, 10), 10);
  EXPECT_EQ(append({"one"}, 10), 10);
  EXPECT_EQ(append({"old"}, 5), 10);
  open();
  EXPECT_EQ(append({"one"}, 10), 10);
  EXPECT_EQ(append({"two"}, 11), 11);
  EXPECT_EQ(texts(read({}).events), "one,two");
}

TEST_F(LogsTest, ABatchThatWasCutOffIsDroppedAndComesAgain) {
  append({"one"}, 1);
  append({"two", "three"}, 3);
  const auto file = segments().at(0);
  const auto whole = std::filesystem::file_size(file);
  for (size_t cut = 1; cut <= 20; ++cut) {
    std::filesystem::resize_file(file, whole - cut);
    open();
    EXPECT_EQ(texts(read({}).events), "one") << cut;
    EXPECT_EQ(append({"two", "three"}, 3), 3) << cut;
    EXPECT_EQ(texts(read({}).events), "one,two,three") << cut;
    ASSERT_EQ(std::filesystem::file_size(file), whole);
  }
}

TEST_F(LogsTest, ALongBatchThatWasCutOffIsDropped) {
  append({"one"}, 1);
  append(std::vector<std::string>(1000, std::string(1000, 'x')), 2);
  const auto file = segments().at(0);
  std::filesystem::resize_file(file, std::filesystem::file_size(file) - 3);
  open();
  EXPECT_EQ(texts(read({}).events), "one");
  const auto list = logs_->list("000000000001", "");
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].last_event_at, list[0].first_event_at);
}

TEST_F(LogsTest, AFileThatIsNoSegmentDisturbsNothing) {
  append({"one"});
  const auto file = segments().at(0);
  std::ofstream(file.parent_path() / "0000000000000001.log") << "garbage";
  std::ofstream(file.parent_path() / "notes.txt") << "garbage";
  open();
  append({"two"});
  EXPECT_EQ(texts(read({}).events), "one,two");
}

TEST_F(LogsTest, PagesForwardAndBackwardMeetEveryLineOnce) {
  open({.segment_bytes_max = 200, .segments_max = 100});
  std::string want;
  for (int i = 0; i < 40; ++i) {
    append({std::to_string(i)});
    want += (i ? "," : "") + std::to_string(i);
  }
  ASSERT_GT(segments().size(), 5u);
  std::string forward;
  StreamPlace place{};
  for (;;) {
    const LogPage page = read({.place = place, .limit = 7});
    if (page.events.empty()) {
      EXPECT_EQ(page.after, place);  // the same token back: the end
      break;
    }
    forward += (forward.empty() ? "" : ",") + texts(page.events);
    place = page.after;
  }
  EXPECT_EQ(forward, want);
  append({"late"});
  EXPECT_EQ(texts(read({.place = place}).events), "late");

  std::string backward;
  place = kStreamEnd;
  for (;;) {
    const LogPage page = read({.place = place, .direction = ReadDirection::kBackward, .limit = 7});
    if (page.events.empty()) {
      EXPECT_EQ(page.before, place);
      break;
    }
    backward = texts(page.events) + (backward.empty() ? "" : ",") + backward;
    place = page.before;
  }
  EXPECT_EQ(backward, want + ",late");
  const LogPage last =
      read({.place = kStreamEnd, .direction = ReadDirection::kBackward, .limit = 2});
  EXPECT_EQ(texts(last.events), "39,late");
  EXPECT_TRUE(read({.place = last.after}).events.empty());
}

TEST_F(LogsTest, AnEmptyRangeStillGivesAPlaceToFollowFrom) {
  append({"one"});
  const TimeRange never{.from = Instant(Duration(1)), .to = Instant(Duration(2))};
  const LogPage page =
      read({.range = never, .place = kStreamEnd, .direction = ReadDirection::kBackward});
  EXPECT_TRUE(page.events.empty());
  append({"two"});
  EXPECT_EQ(texts(read({.place = page.after}).events), "two");
}

TEST_F(LogsTest, AStreamIsBoundedAndKeepsItsPosition) {
  open({.segment_bytes_max = 1000, .segments_max = 3});
  for (int i = 0; i < 200; ++i) append({std::string(50, 'x') + std::to_string(i)}, i);
  EXPECT_EQ(segments().size(), 3u);
  size_t bytes = 0;
  for (const auto& file : segments()) bytes += std::filesystem::file_size(file);
  EXPECT_LE(bytes, 3'000u);
  EXPECT_TRUE(read({}).events.back().text.ends_with("199"));
  open({.segment_bytes_max = 1000, .segments_max = 3});
  EXPECT_EQ(append({"again"}, 199), 199);
  EXPECT_TRUE(read({}).events.back().text.ends_with("199"));
}

TEST_F(LogsTest, AllLogsAreBoundedByDroppingWhatWasWrittenLongestAgo) {
  open({.total_bytes_max = 3 * kSegmentCharge});
  for (const char* stream : {"a", "b", "c", "a", "d"}) {
    clock_.at += 1s;
    append({stream}, {}, stream);
  }
  std::string left;
  for (const StreamSummary& summary : logs_->list("000000000001", "")) left += summary.stream;
  EXPECT_EQ(left, "acd");
  EXPECT_EQ(run(logs_->read({.name = name("b")})).error().code, Code::kNotFound);
}

TEST_F(LogsTest, FilteredPagesMergeStreamsByTime) {
  append({"a1 x", "a2"}, {}, "a");
  append({"b1 x"}, {}, "b");
  append({"a3 x"}, {}, "a");
  FilterRequest request{
      .account = "000000000001", .group = name().group, .pattern = {.all = {"x"}}, .limit = 2};
  const auto first = run(logs_->filter(request));
  ASSERT_TRUE(first);
  EXPECT_EQ(texts(first->events), "a1 x,b1 x");
  ASSERT_TRUE(first->next);
  request.after = first->next;
  const auto second = run(logs_->filter(request));
  EXPECT_EQ(texts(second->events), "a3 x");
  EXPECT_FALSE(second->next);
  request = {.account = "000000000001", .group = name().group, .stream_prefix = "b"};
  EXPECT_EQ(texts(run(logs_->filter(request))->events), "b1 x");
  request.streams = {"missing"};
  EXPECT_EQ(run(logs_->filter(request)).error().code, Code::kNotFound);
  EXPECT_EQ(run(logs_->filter({.account = "000000000001", .group = "none"})).error().code,
            Code::kNotFound);
  EXPECT_EQ(run(logs_->filter({.account = "000000000002", .group = name().group})).error().code,
            Code::kNotFound);
}

TEST_F(LogsTest, NamesThatCannotBeAreRefused) {
  for (const StreamName& bad :
       {StreamName{"", "g", "s"}, StreamName{"..", "g", "s"}, StreamName{"1", "", "s"},
        StreamName{"1", "g", ""}, StreamName{"1", std::string(513, 'g'), "s"}}) {
    EXPECT_EQ(run(logs_->append(bad, {}, {})).error().code, Code::kInvalid);
  }
}

TEST(FilterPattern, ChoosesLines) {
  struct Case {
    const char* pattern;
    const char* line;
    bool want;
  };
  for (const Case& c : {
           Case{"", "anything", true},
           Case{"ERROR", "an ERROR came", true},
           Case{"ERROR", "an error came", false},
           Case{"a b", "b then a", true},
           Case{"a b", "only a", false},
           Case{"\"a b\"", "a b", true},
           Case{"\"a b\"", "b a", false},
           Case{"\"say \\\"x\\\"\"", "say \"x\"", true},
           Case{"a -b", "a b", false},
           Case{"a -\"c d\"", "a c", true},
           Case{"?a ?b", "only b", true},
           Case{"?a ?b", "none", false},
           Case{"- ?", "anything", true},
       }) {
    const auto pattern = parse_filter_pattern(c.pattern);
    ASSERT_TRUE(pattern) << c.pattern;
    EXPECT_EQ(matches(*pattern, c.line), c.want) << c.pattern << " on " << c.line;
  }
  for (const char* bad : {"{ $.a = 1 }", "[a, b]", "%x+%", "\"open"}) {
    EXPECT_FALSE(parse_filter_pattern(bad)) << bad;
  }
  EXPECT_FALSE(parse_filter_pattern(std::string(kPatternBytesMax + 1, 'x')));
}

TEST(Segment, WhatIsWrittenIsRead) {
  const SegmentHeader header{
      .created_at = Instant(5ms), .position = 7, .group = "g\n\t\\", .stream = "s"};
  const std::string text =
      format_header(header) + format_event(Instant(-1ms), Instant(2ms), "a\nb") + format_commit(8);
  size_t at = 0;
  EXPECT_EQ(parse_header(text, &at).value(), header);
  const auto event = next_item(text, at);
  ASSERT_TRUE(event && !event->commit);
  EXPECT_EQ(event->text, "a\nb");
  EXPECT_EQ(event->at, Instant(-1ms));
  const auto commit = next_item(text, event->end);
  ASSERT_TRUE(commit && commit->commit);
  EXPECT_EQ(commit->position, 8);
  EXPECT_EQ(committed_bytes(text), text.size());
  EXPECT_EQ(committed_bytes(text + "E 1 2 torn"), text.size());
}

}  // namespace
}  // namespace hob::observe
