#include "runner/command_line.h"

#include <optional>

namespace hob::runner {

Result<std::vector<std::string>> split_command_line(std::string_view text) {
  std::vector<std::string> words;
  std::optional<std::string> word;  // '' is a word, too
  size_t i = 0;
  if (text.find('\0') != std::string_view::npos)
    return fail(Code::kInvalid, "it holds a NUL character");
  const auto append = [&word](char c) {
    if (!word) word.emplace();
    word->push_back(c);
  };
  while (i < text.size()) {
    const char c = text[i++];
    switch (c) {
      case ' ':
      case '\t':
        if (word) words.push_back(std::move(*word));
        word.reset();
        if (words.size() > kArgumentsMax) return fail(Code::kLimit, "over {} words", kArgumentsMax);
        break;
      case '\'': {
        const size_t end = text.find('\'', i);
        if (end == std::string_view::npos)
          return fail(Code::kInvalid, "a single quote is not closed");
        if (!word) word.emplace();
        word->append(text.substr(i, end - i));
        i = end + 1;
        break;
      }
      case '"': {
        if (!word) word.emplace();
        while (i < text.size() && text[i] != '"') {
          constexpr std::string_view kEscapable = "$`\"\\";
          const bool escapes = text[i] == '\\' && i + 1 < text.size() &&
                               kEscapable.find(text[i + 1]) != std::string_view::npos;
          if (escapes) ++i;
          word->push_back(text[i++]);
        }
        if (i == text.size()) return fail(Code::kInvalid, "a double quote is not closed");
        ++i;
        break;
      }
      case '\\':
        if (i == text.size()) return fail(Code::kInvalid, "a backslash ends it");
        append(text[i++]);
        break;
      default:
        append(c);
    }
  }
  if (word) words.push_back(std::move(*word));
  if (words.empty()) return fail(Code::kInvalid, "it holds no word");
  if (words.size() > kArgumentsMax) return fail(Code::kLimit, "over {} words", kArgumentsMax);
  return words;
}

}  // namespace hob::runner
