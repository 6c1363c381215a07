// The log files that containers' output lies in: lines "2026-11-23T22:11:49.123456789+00:00 stdout
// F text" (the CRI log format; P instead of F: the line goes on in the next entry). Pure but for
// read_last_lines().
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/time.h"
#include "link/messages.h"

namespace hob::host {

inline constexpr size_t kLogLineBytesMax =
    64 * 1024;  // of one line put together; beyond, it is split

struct CriEntry {
  Instant at{};
  bool partial = false;
  std::string_view text{};  // into the line
};

// One line without its '\n'. nullopt: not of this format.
std::optional<CriEntry> parse_cri_line(std::string_view line);

struct ParsedLog {
  std::vector<link::LogLine> lines{};
  size_t consumed =
      0;  // bytes of the text that the lines take: whole lines, partial ones put together
};
// As many whole lines as there are in `text`, at most `lines_max` and `bytes_max` of text. What is
// not of the format is skipped. Bytes that are not UTF-8 are replaced, since lines travel as JSON.
ParsedLog parse_cri_log(std::string_view text, size_t lines_max, size_t bytes_max);

// The last `lines_max` lines of the log at `path` (and of what was rotated to `path`.1), each cut
// to `bytes_max`. Blocks, briefly. No log: none.
std::vector<std::string> read_last_lines(const std::filesystem::path& path, size_t lines_max,
                                         size_t bytes_max);

// Replaces what is not UTF-8 by U+FFFD.
std::string to_utf8(std::string_view bytes);

}  // namespace hob::host
