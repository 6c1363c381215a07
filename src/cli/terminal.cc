#include "cli/terminal.h"

#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>

namespace hob::cli {

std::string table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string out;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - row[i].size() + 2, ' ');
    }
    out += '\n';
  }
  return out;
}

std::string age(double since) {
  const double now = epoch_seconds(SystemClock().now());
  const auto seconds = static_cast<int64_t>(std::max(0.0, now - since));
  if (seconds < 120) return fmt::format("{} s", seconds);
  if (seconds < 7200) return fmt::format("{} min", seconds / 60);
  if (seconds < 172'800) return fmt::format("{} h", seconds / 3600);
  return fmt::format("{} d", seconds / 86'400);
}

std::string shell_quoted(std::string_view text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("-_./:@%+=,").find(c) != std::string_view::npos;
  };
  if (!text.empty() && std::ranges::all_of(text, plain)) return std::string(text);
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'')
      out += "'\\''";
    else
      out += c;
  }
  return out + "'";
}

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\t' || (byte >= 0x20 && byte != 0x7f))
      out += c;
    else if (c == '\n')
      out += "\\n";
    else
      out += "\\x" + std::string(1, "0123456789abcdef"[byte >> 4]) + "0123456789abcdef"[byte & 15];
  }
  return out;
}

Progress::Progress(bool quiet) : quiet_(quiet), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() { clear(); }

void Progress::clear() {
  if (terminal_ && !shown_.empty()) {
    fputs("\r\033[K", stderr);
    shown_.clear();
  }
}

void Progress::now(const std::string& phase, const std::string& detail) {
  const std::string text = terminal_ ? phase + detail : phase;
  if (quiet_ || text == shown_) return;
  if (!terminal_) {
    fprintf(stderr, "%s\n", text.c_str());
    shown_ = text;
    return;
  }
  clear();
  shown_ = text;
  fputs(text.c_str(), stderr);
  fflush(stderr);
}

void Progress::line(const std::string& text) {
  if (quiet_) return;
  clear();
  fprintf(stderr, "%s\n", text.c_str());
}

Result<std::string> read_secret(const char* prompt, bool from_stdin) {
  std::string secret;
  termios before{};
  const bool terminal =
      !from_stdin && isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &before) == 0;
  if (terminal) {
    termios quiet = before;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &quiet);
    fputs(prompt, stderr);
  }
  std::getline(std::cin, secret);
  if (terminal) {
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    fputs("\n", stderr);
  }
  if (secret.empty()) return fail(Code::kInvalid, "nothing was given");
  return secret;
}

}  // namespace hob::cli
