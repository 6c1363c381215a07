#include "host/cri_log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "base/file.h"
#include "base/time.h"
#include "host/log_reader.h"

namespace hob::host {
namespace {

const std::string kStamp = "2026-11-23T22:11:49.123456789+00:00 stdout ";
std::string line(const std::string& text, char tag = 'F') {
  return kStamp + tag + " " + text + "\n";
}

TEST(CriLog, ReadsLines) {
  struct Case {
    const char* name;
    std::string line;
    const char* want;  // "time|text", "" if it is not of the format
  };
  for (const Case& c : {
           Case{"plain", kStamp + "F hello", "2026-11-23T22:11:49.123Z|hello"},
           Case{"text with blanks", kStamp + "F  a b ", "2026-11-23T22:11:49.123Z| a b "},
           Case{"empty", kStamp + "F ", "2026-11-23T22:11:49.123Z|"},
           Case{"empty without a blank", kStamp + "F", "2026-11-23T22:11:49.123Z|"},
           Case{"east", "2026-11-24T00:11:49.5+02:00 stderr F x", "2026-11-23T22:11:49.500Z|x"},
           Case{"west", "2026-11-23T17:11:49-05:00 stderr F x", "2026-11-23T22:11:49.000Z|x"},
           Case{"Z", "2026-11-23T22:11:49Z stderr F x", "2026-11-23T22:11:49.000Z|x"},
           Case{"no time", "hello stdout F x", ""},
           Case{"no such day", "2026-02-30T00:00:00Z stdout F x", ""},
           Case{"no such hour", "2026-02-03T25:00:00Z stdout F x", ""},
           Case{"no zone", "2026-02-03T05:00:00 stdout F x", ""},
           Case{"another stream", "2026-02-03T05:00:00Z stdlog F x", ""},
           Case{"another tag", "2026-02-03T05:00:00Z stdout X x", ""},
           Case{"cut off", "2026-02-03T05:00:00Z stdout", ""},
           Case{"nothing", "", ""},
       }) {
    const std::optional<CriEntry> entry = parse_cri_line(c.line);
    EXPECT_EQ(entry ? iso8601(entry->at) + "|" + std::string(entry->text) : "", c.want) << c.name;
  }
}

TEST(CriLog, PutsPartsTogether) {
  const std::string text =
      line("a", 'P') + line("b", 'P') + line("c") + "garbage\n" + line("d") + line("e", 'P');
  const ParsedLog parsed = parse_cri_log(text, 100, 1000);
  ASSERT_EQ(parsed.lines.size(), 2u);
  EXPECT_EQ(parsed.lines[0].text, "abc");
  EXPECT_EQ(parsed.lines[1].text, "d");
  // The part that is not whole is read again.
  EXPECT_EQ(parsed.consumed, text.size() - line("e", 'P').size());
}

TEST(CriLog, KeepsItsLimits) {
  std::string text;
  for (int i = 0; i < 10; ++i) text += line("x");
  EXPECT_EQ(parse_cri_log(text, 3, 1000).lines.size(), 3u);
  EXPECT_EQ(parse_cri_log(text, 3, 1000).consumed, 3 * line("x").size());
  EXPECT_EQ(parse_cri_log(text, 100, 2).lines.size(), 2u);
  std::string parts;
  for (int i = 0; i < 20; ++i) parts += line(std::string(8000, 'x'), 'P');
  const ParsedLog long_line = parse_cri_log(parts, 100, parts.size());
  ASSERT_EQ(long_line.lines.size(), 2u);  // split where it reaches the limit
  EXPECT_GE(long_line.lines[0].text.size(), kLogLineBytesMax);
}

TEST(CriLog, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(to_utf8("h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x98\x80"),
            "h\xc3\xa9llo \xe2\x82\xac \xf0\x9f\x98\x80");
  for (const char* bad :
       {"\xff", "\xc0\x80", "\xc3", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80"}) {
    const std::string text = to_utf8(bad);
    EXPECT_TRUE(text.starts_with("\xEF\xBF\xBD")) << bad;
    EXPECT_EQ(to_utf8(text), text);
  }
}

class LogFiles : public ::testing::Test {
 protected:
  LogFiles() {
    std::string pattern = (std::filesystem::temp_directory_path() / "hob-log-test-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    log_ = directory_ / "log";
  }
  ~LogFiles() override { (void)remove_tree(directory_); }

  void append(const std::string& text) { std::ofstream(log_, std::ios::app) << text; }
  void rotate() { std::filesystem::rename(log_, log_.string() + ".1"); }
  // Reads all there is; moves `at_` on.
  std::string read(int64_t until = INT64_MAX) {
    std::string all;
    for (;;) {
      const Result<ReadLines> more = read_lines(log_, at_, until);
      EXPECT_TRUE(more.has_value());
      if (!more || more->next == at_) return all;
      for (const link::LogLine& one : more->lines) all += one.text + ";";
      at_ = more->next;
    }
  }

  std::filesystem::path directory_;
  std::filesystem::path log_;
  LogPosition at_;
};

TEST_F(LogFiles, AreReadOnWhereTheyWereLeft) {
  EXPECT_EQ(read(), "");  // there is none yet
  append(line("a") + line("b"));
  EXPECT_EQ(read(), "a;b;");
  EXPECT_EQ(read(), "");
  append(line("c") + kStamp + "F half");
  EXPECT_EQ(read(), "c;");
  append(" line\n");
  EXPECT_EQ(read(), "half line;");
}

TEST_F(LogFiles, AreReadOverARotation) {
  append(line("a"));
  EXPECT_EQ(read(), "a;");
  append(line("b"));
  rotate();
  EXPECT_EQ(read(), "b;");  // the rest of the old one, the new one is not there yet
  append(line("c"));
  EXPECT_EQ(read(), "c;");
  EXPECT_EQ(at_.position, static_cast<int64_t>(3 * line("a").size()));
  append(line("d"));
  rotate();
  append(line("e"));
  EXPECT_EQ(read(), "d;e;");
}

TEST_F(LogFiles, GoOnWithTheNewestWhenTheOldIsLost) {
  append(line("a"));
  EXPECT_EQ(read(), "a;");
  // Held open: the kernel's clock is too coarse to tell files apart that are made within a few
  // milliseconds, if the second is given the number of the first.
  const std::ifstream held(log_);
  rotate();
  append(line("b"));
  rotate();
  append(line("c"));
  EXPECT_EQ(read(), "c;");
}

TEST_F(LogFiles, AreReadUpToAPosition) {
  append(line("a") + line("b") + line("c"));
  EXPECT_EQ(read(static_cast<int64_t>(2 * line("a").size())), "a;b;");
  EXPECT_EQ(read(), "c;");
}

TEST_F(LogFiles, GiveTheirLastLines) {
  EXPECT_TRUE(read_last_lines(log_, 3, 100).empty());
  append(line("a") + line("b"));
  rotate();
  append(line("c") + line(std::string(2000, 'x')));
  const std::vector<std::string> lines = read_last_lines(log_, 3, 100);
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0], "b");
  EXPECT_EQ(lines[1], "c");
  EXPECT_LE(lines[2].size(), 100u);
  for (int i = 0; i < 5000; ++i) append(line(std::to_string(i)));
  EXPECT_EQ(read_last_lines(log_, 2, 100), (std::vector<std::string>{"4998", "4999"}));
}

}  // namespace
}  // namespace hob::host
