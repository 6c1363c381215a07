#include "runner/command_line.h"

#include <gtest/gtest.h>

#include "runner/extensions.h"

namespace hob::runner {
namespace {

std::string show(const std::vector<std::string>& words) {
  std::string all;
  for (const std::string& word : words) all += "<" + word + ">";
  return all;
}

TEST(CommandLine, SplitsAsAShellDoes) {
  struct Case {
    const char* text;
    const char* want;
  };
  for (const Case& c : {
           Case{"node server.js", "<node><server.js>"},
           Case{"  a \t b  ", "<a><b>"},
           Case{"a 'b c' d", "<a><b c><d>"},
           Case{"a \"b c\"d", "<a><b cd>"},
           Case{"a ''", "<a><>"},
           Case{R"(a\ b)", "<a b>"},
           Case{R"("a\"b\$c\d")", R"(<a"b$c\d>)"},
           Case{R"('a\b')", R"(<a\b>)"},
           Case{"sh -c \"exec app $PORT\"", "<sh><-c><exec app $PORT>"},
       }) {
    const auto words = split_command_line(c.text);
    ASSERT_TRUE(words) << c.text;
    EXPECT_EQ(show(*words), c.want) << c.text;
  }
  for (const char* bad : {"", "   ", "a 'b", "a \"b", "a\\"})
    EXPECT_FALSE(split_command_line(bad)) << bad;
  std::string many;
  for (size_t i = 0; i < kArgumentsMax; ++i) many += "a ";
  EXPECT_TRUE(split_command_line(many));
  EXPECT_EQ(split_command_line(many + "a").error().code, Code::kLimit);
}

TEST(Extensions, AreCheckedWhenTheyAreSet) {
  using Tags = std::map<std::string, std::string>;
  EXPECT_EQ(parse_extensions({{"team", "web"}}).value(), Extensions{});
  EXPECT_EQ(parse_extensions({{"hob:request-timeout", "5m"}, {"hob:idle-timeout", "30s"}}).value(),
            (Extensions{.request_timeout = Duration(300'000), .idle_timeout = Duration(30'000)}));
  EXPECT_EQ(parse_extensions({{"hob:sticky", "1d"}})->sticky, Duration(86'400'000));
  EXPECT_EQ(parse_extensions({{"hob:request-timeout", "0"}})->request_timeout, Duration(0));
  EXPECT_EQ(parse_extensions({{"hob:min-size", "0"},
                              {"hob:min-size-schedule", "Mon-Fri 08:00-18:00 2"},
                              {"hob:sleep-after", "off"},
                              {"hob:stop-after", "7m"}})
                .value(),
            (Extensions{.min_size = 0,
                        .schedule = {{0, 4, 480, 1080, 2}},
                        .sleep_after = Duration(0),
                        .stop_after = Duration(420'000)}));
  EXPECT_EQ(parse_extensions({{"hob:protocol", "http2"}})->protocol, link::TargetProtocol::kHttp2);
  EXPECT_EQ(parse_extensions({{"hob:protocol", "http1"}})->protocol, link::TargetProtocol::kHttp1);
  EXPECT_EQ(parse_extensions({{"hob:isolation", "microvm"}})->isolation, link::Isolation::kMicrovm);
  EXPECT_EQ(parse_extensions({{"hob:isolation", "container"}})->isolation,
            link::Isolation::kContainer);
  EXPECT_EQ(parse_extensions({{"hob:request-timeout", "500ms"}})->request_timeout, Duration(500));
  for (const Tags& bad : {Tags{{"hob:request-timeout", ""}},
                          Tags{{"hob:request-timeout", "5"}},
                          Tags{{"hob:request-timeout", "-5s"}},
                          Tags{{"hob:request-timeout", "5 s"}},
                          Tags{{"hob:request-timeout", "25h"}},
                          Tags{{"hob:request-timeout", "99999999999999999999s"}},
                          Tags{{"hob:idle-timeout", "0s"}},
                          Tags{{"hob:idle-timeout", "999ms"}},
                          Tags{{"hob:protocol", "h2"}},
                          Tags{{"hob:protocol", ""}},
                          Tags{{"hob:isolation", "vm"}},
                          Tags{{"hob:isolation", ""}},
                          Tags{{"hob:unheard-of", "1"}},
                          Tags{{"hob:min-size", ""}},
                          Tags{{"hob:min-size", "-1"}},
                          Tags{{"hob:min-size", "1001"}},
                          Tags{{"hob:min-size", "1 "}},
                          Tags{{"hob:sleep-after", "0s"}},
                          Tags{{"hob:sleep-after", "25h"}},
                          Tags{{"hob:stop-after", "off"}},
                          Tags{{"hob:stop-after", "169h"}},
                          Tags{{"hob:sticky", "999ms"}},
                          Tags{{"hob:sticky", "8d"}},
                          Tags{{"hob:strategy", "canary"}},
                          Tags{{"hob:min-size-schedule", "Mon 2"}}}) {
    const auto result = parse_extensions(bad);
    ASSERT_FALSE(result) << bad.begin()->first << "=" << bad.begin()->second;
    EXPECT_NE(result.error().message.find(bad.begin()->first), std::string::npos)
        << result.error().message;
  }
}

}  // namespace
}  // namespace hob::runner
