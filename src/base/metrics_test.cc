#include "base/metrics.h"

#include <gtest/gtest.h>

namespace hob {
namespace {

TEST(Metrics, OwnLabelsAreOnEveryLine) {
  Metrics metrics;
  metrics.counter("a_total", "A.", {{"code", "2xx"}}).add(3);
  metrics.gauge("b", "B.", [] { return 1.5; });
  const std::string text = metrics.render({{"draining", "7"}});
  EXPECT_NE(text.find("a_total{code=\"2xx\",draining=\"7\"} 3\n"), std::string::npos) << text;
  EXPECT_NE(text.find("b{draining=\"7\"} 1.5\n"), std::string::npos) << text;
  EXPECT_NE(text.find("\nprocess_resident_memory_bytes{draining=\"7\"} "), std::string::npos)
      << text;
}

TEST(Metrics, ExpositionsAreMergedByFamily) {
  struct Case {
    const char* name;
    std::vector<std::string> texts;
    const char* want;
  };
  for (const Case& c : {
           Case{"nothing", {}, ""},
           Case{"an edge that does not drain says nothing",
                {"# HELP a A.\n# TYPE a counter\na 1\n", ""},
                "# HELP a A.\n# TYPE a counter\na 1\n"},
           Case{"lines of a family stand together",
                {"# HELP a A.\n# TYPE a counter\na 1\n# HELP b B.\n# TYPE b gauge\nb 2\n",
                 "# HELP a A.\n# TYPE a counter\na{d=\"1\"} 3\n# HELP b B.\n# TYPE b gauge\n"
                 "b{d=\"1\"} 4\n"},
                "# HELP a A.\n# TYPE a counter\na 1\na{d=\"1\"} 3\n"
                "# HELP b B.\n# TYPE b gauge\nb 2\nb{d=\"1\"} 4\n"},
           Case{"a family of another version's",
                {"# HELP a A.\n# TYPE a counter\na 1\n", "# HELP c C.\n# TYPE c gauge\nc 9\n"},
                "# HELP a A.\n# TYPE a counter\na 1\n# HELP c C.\n# TYPE c gauge\nc 9\n"},
           Case{"no last newline", {"# HELP a A.\na 1"}, "# HELP a A.\na 1\n"},
           Case{"a line before any family", {"x 1\n# HELP a A.\na 1\n"}, "# HELP a A.\na 1\n"},
       }) {
    EXPECT_EQ(merge_expositions(c.texts), c.want) << c.name;
  }
}

}  // namespace
}  // namespace hob
