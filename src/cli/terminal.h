// What a command prints: for people on a terminal, or one JSON document with --json.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::cli {

// Columns padded to their widest cell; the first row is the heading.
std::string table(const std::vector<std::vector<std::string>>& rows);
// How long ago, in the unit that says enough: "40 s", "3 h". `since`: seconds since 1970.
std::string age(double since);
// A word for a POSIX shell: quoted where it must be.
std::string shell_quoted(std::string_view text);
// Control characters of what came from outside, made visible, so that it cannot steer a terminal.
std::string printable(std::string_view text);

// One line that is rewritten while something goes on, and a line for each thing that is done.
// Without a terminal: lines alone.
class Progress {
 public:
  // quiet: says nothing (--json).
  explicit Progress(bool quiet);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  // What is going on now; replaces the line before. `detail` changes while it goes on (" (3 s)"):
  // without a terminal it is left out, and a phase is one line.
  void now(const std::string& phase, const std::string& detail = {});
  // Stays.
  void line(const std::string& text);
  // Takes away what goes on now: before something else is printed.
  void clear();

 private:
  bool quiet_;
  bool terminal_;
  std::string shown_;
};

// A password or token: asked for on the terminal without showing it, or a line of stdin. kInvalid:
// nothing was given.
Result<std::string> read_secret(const char* prompt, bool from_stdin);

}  // namespace hob::cli
