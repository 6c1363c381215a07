#include "base/metrics.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>

#include "base/assert.h"
#include "base/file.h"

namespace hob {

namespace {

constexpr std::string_view kHelp = "# HELP ";

std::string escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\')
      escaped += "\\\\";
    else if (c == '"')
      escaped += "\\\"";
    else if (c == '\n')
      escaped += "\\n";
    else
      escaped.push_back(c);
  }
  return escaped;
}

std::string show(const Labels& labels) {
  if (labels.empty()) return "";
  std::string text = "{";
  for (const auto& [name, value] : labels) {
    if (text.size() > 1) text += ",";
    text += name + "=\"" + escape(value) + "\"";
  }
  return text + "}";
}

void write_gauge(std::string& out, const std::string& labels, std::string_view name,
                 std::string_view help, double value, bool counter = false) {
  out += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n{0}{4} {3}\n", name, help,
                     counter ? "counter" : "gauge", value, labels);
}

// The field of /proc/self/stat after the program's name, counted from its state (1).
double stat_field(const std::string& stat, int wanted) {
  size_t at = stat.rfind(')');
  if (at == std::string::npos) return 0;
  ++at;
  for (int field = 0; field < wanted && at != std::string::npos; ++field) {
    at = stat.find(' ', at);
    if (at != std::string::npos) ++at;
  }
  if (at == std::string::npos) return 0;
  return std::strtod(stat.c_str() + at, nullptr);
}

void write_process(std::string& out, const std::string& labels) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  write_gauge(out, labels, "process_cpu_seconds_total",
              "CPU time of this process, user and system.",
              seconds(usage.ru_utime) + seconds(usage.ru_stime), true);
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  if (const auto statm = read_file("/proc/self/statm", 4096)) {
    const size_t space = statm->find(' ');
    if (space != std::string::npos) {
      write_gauge(out, labels, "process_resident_memory_bytes", "Resident memory of this process.",
                  std::strtod(statm->c_str() + space, nullptr) * page);
    }
  }
  std::error_code error;
  double files = 0;
  for (std::filesystem::directory_iterator entry("/proc/self/fd", error), end;
       !error && entry != end; entry.increment(error)) {
    ++files;
  }
  if (!error)
    write_gauge(out, labels, "process_open_fds", "Open file descriptors.",
                files - 1);  // but for the listing's own
  const auto stat = read_file("/proc/self/stat", 4096);
  const auto system = read_file("/proc/stat", 4 * 1024 * 1024);
  if (stat && system) {
    const size_t boot = system->find("\nbtime ");
    if (boot != std::string::npos) {
      const double started = std::strtod(system->c_str() + boot + 7, nullptr) +
                             stat_field(*stat, 20) / static_cast<double>(sysconf(_SC_CLK_TCK));
      write_gauge(out, labels, "process_start_time_seconds",
                  "When this process started, seconds since 1970.", started);
    }
  }
}

}  // namespace

Counter& Metrics::counter(const std::string& name, const std::string& help, const Labels& labels) {
  const std::lock_guard lock(mutex_);
  Family& family = families_[name];
  HOB_ASSERT(family.gauges.empty());
  family.help = help;
  auto& counter = family.counters[labels];
  if (!counter) counter = std::make_unique<Counter>();
  return *counter;
}

void Metrics::gauge(const std::string& name, const std::string& help, std::function<double()> read,
                    const Labels& labels) {
  const std::lock_guard lock(mutex_);
  Family& family = families_[name];
  HOB_ASSERT(family.counters.empty());
  family.help = help;
  family.gauges[labels] = std::move(read);
}

std::string Metrics::render(const Labels& own) const {
  const auto with_own = [&](Labels labels) {
    labels.insert(own.begin(), own.end());
    return show(labels);
  };
  std::string out;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, family] : families_) {
      out += fmt::format("# HELP {0} {1}\n# TYPE {0} {2}\n", name, family.help,
                         family.gauges.empty() ? "counter" : "gauge");
      for (const auto& [labels, counter] : family.counters) {
        out += fmt::format("{}{} {}\n", name, with_own(labels), counter->value());
      }
      for (const auto& [labels, read] : family.gauges)
        out += fmt::format("{}{} {}\n", name, with_own(labels), read());
    }
  }
  write_process(out, show(own));
  return out;
}

std::string merge_expositions(const std::vector<std::string>& texts) {
  struct Family {
    std::string comments{};
    std::string lines{};
  };
  std::map<std::string, Family, std::less<>> families;
  for (const std::string& text : texts) {
    Family* current = nullptr;
    for (std::string_view rest = text; !rest.empty();) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      if (line.starts_with(kHelp)) {
        const std::string_view tail = line.substr(kHelp.size());
        current = &families[std::string(tail.substr(0, tail.find(' ')))];
      }
      if (current == nullptr || line.empty()) continue;
      if (!line.starts_with('#')) {
        current->lines.append(line).append("\n");
      } else if (current->lines.empty()) {
        current->comments.append(line).append("\n");
      }
    }
  }
  std::string out;
  for (const auto& [name, family] : families) out += family.comments + family.lines;
  return out;
}

}  // namespace hob
