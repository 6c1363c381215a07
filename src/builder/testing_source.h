// A source tree made up by a test.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "builder/source.h"

namespace hob::builder {

class TestSource final : public Source {
 public:
  // path → content; the folders above are made.
  explicit TestSource(std::map<std::string, std::string> contents)
      : contents_(std::move(contents)) {
    std::map<std::string, SourceFile> all;
    for (const auto& [path, content] : contents_) {
      for (size_t slash = path.find('/'); slash != std::string::npos;
           slash = path.find('/', slash + 1)) {
        const std::string folder = path.substr(0, slash);
        all[folder] = {.path = folder, .kind = SourceFile::Kind::kDirectory};
      }
      all[path] = {.path = path, .size = content.size()};
    }
    for (auto& [path, file] : all) files_.push_back(std::move(file));
  }
  const std::vector<SourceFile>& files() const override { return files_; }
  Result<std::string> read(const std::string& path, size_t bytes_max) const override {
    const auto found = contents_.find(path);
    if (found == contents_.end()) return fail(Code::kNotFound, "there is no file {}", path);
    if (found->second.size() > bytes_max) return fail(Code::kLimit, "{} is too large", path);
    return found->second;
  }

 private:
  std::map<std::string, std::string> contents_;
  std::vector<SourceFile> files_;
};

}  // namespace hob::builder
