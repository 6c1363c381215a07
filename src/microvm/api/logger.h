// The log as Firecracker writes it: a line for each request and its outcome, and what befell the
// machine. Nothing is written until it has a file.
//
// On the loop.
#pragma once

#include <optional>
#include <source_location>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"

namespace hob::microvm {

enum class LogLevel { kOff, kError, kWarning, kInfo, kDebug, kTrace };
// In any case; "Warn" is a warning, too. nullopt: none of the words.
std::optional<LogLevel> parse_level(std::string_view word);

struct LoggerUpdate {  // what is not given stays
  std::optional<std::string> path{};
  std::optional<LogLevel> level{};
  std::optional<bool> show_level{};
  std::optional<bool> show_origin{};
};

class Logger {
 public:
  explicit Logger(std::string id) : id_(std::move(id)) {}
  // A file, made if it is not there, or a named pipe: nobody waits for its reader.
  Result<void> update(const LoggerUpdate& update);
  bool writes(LogLevel level) const { return file_ && level <= level_; }
  // `thread`: "main", "fc_api". Characters that would end the line, or move the cursor, are
  // escaped.
  void log(LogLevel level, std::string_view thread, std::string_view text,
           std::source_location origin = std::source_location::current());
  uint64_t missed() const { return missed_; }

 private:
  std::string id_;
  Fd file_;
  LogLevel level_ = LogLevel::kInfo;
  bool show_level_ = false;
  bool show_origin_ = false;
  uint64_t missed_ = 0;  // lines that the file did not take
};

// A log's or the metrics' file, for lines at its end.
Result<Fd> open_for_lines(const std::string& path);

}  // namespace hob::microvm
