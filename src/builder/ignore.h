// Which files of a source folder do not belong to the source: the rules of .gitignore
// (git-scm.com/docs/gitignore), read from .gitignore and .hobignore alike. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::builder {

inline constexpr size_t kIgnoreBytesMax = 256 * 1024;  // of one file
inline constexpr size_t kIgnoreRulesMax = 2'000;       // of all files together
inline constexpr size_t kIgnorePatternBytesMax = 256;
inline constexpr size_t kIgnoreStarsMax = 6;  // in one pattern: each may cost a pass over the name

// Whether `path` ("src/app/main.js") fits `pattern`: "*" and "?" and "[a-z]" within a name, "**"
// for any number of directories. Takes time in the product of both lengths, whatever they hold.
bool glob_matches(std::string_view pattern, std::string_view path);

class IgnoreRules {
 public:
  // The rules of a file in `directory` ("" or "src/app"); later rules win. Lines beyond
  // kIgnorePatternBytesMax are no patterns. kLimit: over a limit above.
  Result<void> add(std::string_view directory, std::string_view text);
  // A file in an ignored directory is not asked about: whoever walks does not enter it.
  bool ignored(std::string_view path, bool is_directory) const;

 private:
  struct Rule {
    std::string directory{};
    std::string pattern{};
    bool keeps = false;             // "!pattern"
    bool only_directories = false;  // "pattern/"
    bool whole_path = false;        // has a "/": from `directory`, else any name below it
  };
  std::vector<Rule> rules_;
};

}  // namespace hob::builder
