#include "builder/parts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/json.hpp>
#include <optional>
#include <set>

#include "aws/utf8.h"
#include "base/file.h"
#include "base/http.h"
#include "guest/task_root.h"

namespace hob::builder {

namespace {

namespace fs = std::filesystem;
namespace json = boost::json;

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

// Calls `take` with each line, without its end.
template <class Take>
void each_line(std::string_view text, Take take) {
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    take(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void add(std::vector<Part>& parts, Part part) {
  for (std::string* text : {&part.name, &part.version, &part.license}) {
    if (text->size() > kPartTextBytesMax) text->clear();
    *text = aws::to_utf8(*text);
    std::ranges::replace_if(
        *text, [](char c) { return c >= 0 && c < ' '; }, ' ');
  }
  if (!part.name.empty() && !part.version.empty()) parts.push_back(std::move(part));
}

// "Key: value" → value
std::optional<std::string> value_after(std::string_view line, std::string_view key) {
  if (!line.starts_with(key)) return std::nullopt;
  return std::string(trim(line.substr(key.size())));
}

json::value parsed(std::string_view text) {
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  return error ? json::value() : value;
}

std::string text_at(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->as_string()) : std::string();
}

// The text in the quotes of `version = "1.0"`.
std::string quoted(std::string_view line) {
  const size_t first = line.find('"');
  const size_t last = line.rfind('"');
  return first < last ? std::string(line.substr(first + 1, last - first - 1)) : std::string();
}

}  // namespace

std::string package_url(const Part& part) {
  const auto escaped = [](std::string_view text) {
    return http::percent_encode(text, http::Slash::kEscape);
  };
  std::string url = "pkg:" + part.type + "/" + (part.type == "deb" ? "debian/" : "");
  std::string_view name = part.name;
  while (true) {
    const size_t slash = name.find('/');
    url += escaped(name.substr(0, slash));
    if (slash == std::string_view::npos) break;
    url += "/";
    name.remove_prefix(slash + 1);
  }
  url += "@" + escaped(part.version);
  return part.type == "deb" ? url + "?distro=debian-12" : url;
}

std::vector<Part> parts_of_dpkg_status(std::string_view text) {
  std::vector<Part> parts;
  Part part{.type = "deb"};
  bool installed = false;
  const auto end_paragraph = [&] {
    if (installed) add(parts, part);
    part = {.type = "deb"};
    installed = false;
  };
  each_line(text, [&](std::string_view line) {
    if (line.empty()) end_paragraph();
    if (const auto name = value_after(line, "Package:")) part.name = *name;
    if (const auto version = value_after(line, "Version:")) part.version = *version;
    if (const auto status = value_after(line, "Status:"))
      installed = status->ends_with(" installed");
  });
  end_paragraph();
  return parts;
}

std::vector<Part> parts_of_npm_lock(std::string_view text) {
  std::vector<Part> parts;
  const json::value lock = parsed(text);
  const json::value* packages =
      lock.is_object() ? lock.as_object().if_contains("packages") : nullptr;
  if (packages == nullptr || !packages->is_object()) return parts;
  constexpr std::string_view kFolder = "node_modules/";
  for (const auto& [path, described] : packages->as_object()) {
    const std::string_view place(path);
    const size_t folder = place.rfind(kFolder);
    if (folder == std::string_view::npos || !described.is_object()) continue;
    const json::object& object = described.as_object();
    std::string name = text_at(object, "name");  // of an alias
    if (name.empty()) name = place.substr(folder + kFolder.size());
    add(parts, {.type = "npm",
                .name = std::move(name),
                .version = text_at(object, "version"),
                .license = text_at(object, "license")});
  }
  return parts;
}

std::vector<Part> parts_of_python_metadata(std::string_view text) {
  Part part{.type = "pypi"};
  bool header = true;
  each_line(text, [&](std::string_view line) {
    header = header && !trim(line).empty();
    if (!header) return;
    if (const auto name = value_after(line, "Name:")) part.name = *name;
    if (const auto version = value_after(line, "Version:")) part.version = *version;
    if (const auto license = value_after(line, "License:")) part.license = *license;
  });
  // A package URL has it so.
  for (char& c : part.name)
    c = c == '_' ? '-' : (c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c);
  std::vector<Part> parts;
  add(parts, std::move(part));
  return parts;
}

std::vector<Part> parts_of_cargo_lock(std::string_view text) {
  std::vector<Part> parts;
  Part part{.type = "cargo"};
  each_line(text, [&](std::string_view line) {
    if (line.starts_with("[")) part = {.type = "cargo"};
    if (value_after(line, "name =")) part.name = quoted(line);
    if (value_after(line, "version =")) part.version = quoted(line);
    // The application itself comes from nowhere.
    if (value_after(line, "source =")) add(parts, part);
  });
  return parts;
}

std::vector<Part> parts_of_composer_lock(std::string_view text) {
  std::vector<Part> parts;
  const json::value lock = parsed(text);
  const json::value* packages =
      lock.is_object() ? lock.as_object().if_contains("packages") : nullptr;
  if (packages == nullptr || !packages->is_array()) return parts;
  for (const json::value& each : packages->as_array()) {
    if (!each.is_object()) continue;
    add(parts, {.type = "composer",
                .name = text_at(each.as_object(), "name"),
                .version = text_at(each.as_object(), "version")});
  }
  return parts;
}

std::vector<Part> parts_of_gemfile_lock(std::string_view text) {
  std::vector<Part> parts;
  bool specs = false;
  each_line(text, [&](std::string_view line) {
    if (!line.starts_with(" ")) specs = false;
    if (line == "  specs:") specs = true;
    // "    rack (3.0.0)"; what it depends on is further in.
    if (!specs || !line.starts_with("    ") || line.starts_with("     ")) return;
    const size_t open = line.find(" (");
    if (open == std::string_view::npos || !line.ends_with(')')) return;
    add(parts, {.type = "gem",
                .name = std::string(trim(line.substr(0, open))),
                .version = std::string(line.substr(open + 2, line.size() - open - 3))});
  });
  return parts;
}

std::vector<Part> parts_of_go_mod(std::string_view text) {
  std::vector<Part> parts;
  bool block = false;
  each_line(text, [&](std::string_view line) {
    line = trim(line.substr(0, line.find("//")));
    if (line == "require (") {
      block = true;
      return;
    }
    if (line == ")") block = false;
    const bool one = line.starts_with("require ");
    if (!block && !one) return;
    if (one) line = trim(line.substr(8));
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) return;
    add(parts, {.type = "golang",
                .name = std::string(line.substr(0, space)),
                .version = std::string(trim(line.substr(space)))});
  });
  return parts;
}

std::vector<Part> parts_of_npm_files(std::string_view text) {
  std::vector<Part> parts;
  each_line(text, [&](std::string_view line) {
    const size_t space = line.find(' ');
    if (space == std::string_view::npos) return;
    add(parts, {.type = "npm",
                .name = std::string(line.substr(0, space)),
                .version = std::string(line.substr(space + 1))});
  });
  return parts;
}

namespace {

constexpr int kDepthMax = 16;
constexpr size_t kEntriesMax = 200'000;  // looked at, of a tree

using Parser = std::vector<Part> (*)(std::string_view text);

Parser parser_for(const std::string& path) {
  struct Known {
    std::string_view name;  // how the path ends
    Parser parse;
  };
  constexpr Known kKnown[] = {{"/node_modules/.package-lock.json", parts_of_npm_lock},
                              {".dist-info/METADATA", parts_of_python_metadata},
                              {"app/Cargo.lock", parts_of_cargo_lock},
                              {"app/composer.lock", parts_of_composer_lock},
                              {"app/Gemfile.lock", parts_of_gemfile_lock},
                              {"app/go.mod", parts_of_go_mod}};
  for (const Known& each : kKnown) {
    if (path.ends_with(each.name)) return each.parse;
  }
  return nullptr;
}

// Trees do not change, but what is in them was made by an application.
std::string read_plain(const fs::path& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  struct stat status {};
  if (!file || ::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  const Result<std::string> text =
      read_file("/proc/self/fd/" + std::to_string(file.get()), kPartsFileBytesMax);
  return text ? *text : std::string();
}

}  // namespace

std::vector<Part> image_parts(const std::vector<fs::path>& trees) {
  std::set<Part> all;
  const auto take = [&](std::vector<Part> parts) {
    for (Part& part : parts) {
      if (all.size() < kPartsMax) all.insert(std::move(part));
    }
  };
  std::vector<Part> debian;
  std::error_code error;
  for (const fs::path& tree : trees) {
    const Result<guest::TaskRoot> root = guest::TaskRoot::open(tree);
    if (!root) continue;
    const std::string status = root->read("/var/lib/dpkg/status", kPartsFileBytesMax);
    if (!status.empty()) debian = parts_of_dpkg_status(status);  // of all below it, too
    take(parts_of_npm_files(root->read(std::string("/") + kNpmFilesList, kPartsFileBytesMax)));
    size_t entries = 0;
    if (!fs::is_directory(fs::symlink_status(tree / "app", error))) continue;
    for (auto at = fs::recursive_directory_iterator(tree / "app", error);
         !error && at != fs::recursive_directory_iterator() && ++entries < kEntriesMax;
         at.increment(error)) {
      const std::string path = at->path().string().substr(tree.string().size() + 1);
      // What npm installed is in its hidden lock file: no need to look through it all.
      const bool in_modules = path.find("/node_modules/") != std::string::npos;
      if (in_modules || at.depth() >= kDepthMax) at.disable_recursion_pending();
      if (const Parser parse = parser_for(path)) take(parse(read_plain(at->path())));
    }
  }
  take(std::move(debian));
  return {all.begin(), all.end()};
}

}  // namespace hob::builder
