// Structured logs: a constant event, then fields; one JSON object a line on stderr, which the supervisor keeps.
//
//   log::info("task stopped", {{"task", id.value}, {"exit_code", code}});
// error = a person must act; warn = we coped, but look; info = a state changed; debug = the rest (HOB_LOG=debug).
// Secrets are Secret<T> and never reach a field. Any thread.
#pragma once

#include <fmt/core.h>

#include <initializer_list>
#include <string>
#include <string_view>

namespace hob::log {

enum class Level { kDebug, kInfo, kWarn, kError };

struct Field {
  Field(std::string_view key, std::string_view text) : name(key), value(text) {}
  Field(std::string_view key, const std::string& text) : name(key), value(text) {}
  Field(std::string_view key, const char* text) : name(key), value(text) {}
  template <class Number>
    requires std::is_arithmetic_v<Number>
  Field(std::string_view key, Number number) : name(key), value(fmt::format("{}", number)), bare(true) {}
  std::string_view name;
  std::string value;
  bool bare = false;  // written without quotes
};

using Fields = std::initializer_list<Field>;

// Who writes ("control", "host", "edge", "hob"): set once, in main.
void set_process(std::string_view name);
void set_level(Level level);
void write(Level level, std::string_view event, Fields fields);

inline void debug(std::string_view event, Fields fields = {}) { write(Level::kDebug, event, fields); }
inline void info(std::string_view event, Fields fields = {}) { write(Level::kInfo, event, fields); }
inline void warn(std::string_view event, Fields fields = {}) { write(Level::kWarn, event, fields); }
inline void error(std::string_view event, Fields fields = {}) { write(Level::kError, event, fields); }

}  // namespace hob::log

namespace hob {

// A value that must not be printed: formatted as "***", compared and read on purpose only.
template <class T>
class Secret {
 public:
  Secret() = default;
  explicit Secret(T value) : value_(std::move(value)) {}
  const T& reveal() const { return value_; }

 private:
  T value_{};
};

}  // namespace hob
