#include "base/log.h"

#include <unistd.h>

#include <atomic>

#include "base/json_text.h"
#include "base/time.h"

namespace hob::log {

namespace {

std::atomic<Level> g_level = Level::kInfo;
std::string g_process = "hob";  // written once, before threads start

const char* word(Level level) {
  switch (level) {
    case Level::kDebug: return "debug";
    case Level::kInfo: return "info";
    case Level::kWarn: return "warn";
    case Level::kError: return "error";
  }
  return "error";
}

}  // namespace

void set_process(std::string_view name) { g_process = name; }
void set_level(Level level) { g_level = level; }

void write(Level level, std::string_view event, Fields fields) {
  if (level < g_level.load(std::memory_order_relaxed)) return;
  std::string line = fmt::format(R"({{"time":"{}","level":"{}","process":"{}","event":)",
                                 iso8601(SystemClock().now()), word(level), g_process);
  append_json_quoted(line, event);
  for (const Field& field : fields) {
    line.push_back(',');
    append_json_quoted(line, field.name);
    line.push_back(':');
    if (field.bare) line += field.value;
    else
      append_json_quoted(line, field.value);
  }
  line += "}\n";
  // One write a line, so that lines of several threads do not mix. A full pipe or disk must not stop us.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace hob::log
