// JSON's strings, for those who write JSON without a library: log lines, and programs that use
// nothing of Boost.
#pragma once

#include <string>
#include <string_view>

namespace hob {

// In quotes (RFC 8259 section 7). Bytes from 0x80 on go as they are, DEL and controls as \u00XX, so
// that nothing in it steers a terminal.
inline void append_json_quoted(std::string& out, std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (byte < 0x20 || byte == 0x7f) {
      out += "\\u00";
      out += kDigits[byte >> 4];
      out += kDigits[byte & 15];
    } else {
      out += c;
    }
  }
  out += '"';
}

}  // namespace hob
