// What an image is made of: the packages that package managers' own files name. Pure but for
// image_parts().
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hob::builder {

inline constexpr size_t kPartsMax = 50'000;  // of an image; more are left out
inline constexpr size_t kPartsFileBytesMax = 32ULL << 20;
inline constexpr size_t kPartTextBytesMax = 500;  // of a name, version or licence; longer: left out

struct Part {
  std::string type{};  // of its package URL (github.com/package-url/purl-spec): "deb", "npm"
  std::string name{};
  std::string version{};
  std::string license{};  // as its own metadata says it; empty: it does not
  auto operator<=>(const Part&) const = default;
};

// "pkg:npm/%40scope/name@1.2.3"
std::string package_url(const Part& part);

// Each reads one kind of file and leaves out what it cannot make sense of.
std::vector<Part> parts_of_dpkg_status(std::string_view text);
std::vector<Part> parts_of_npm_lock(std::string_view text);  // package-lock.json, version 2 or 3
std::vector<Part> parts_of_python_metadata(std::string_view text);  // *.dist-info/METADATA
std::vector<Part> parts_of_cargo_lock(std::string_view text);
std::vector<Part> parts_of_composer_lock(std::string_view text);
std::vector<Part> parts_of_gemfile_lock(std::string_view text);
std::vector<Part> parts_of_go_mod(std::string_view text);
std::vector<Part> parts_of_npm_files(std::string_view text);  // kNpmFilesList

// Written where Node.js and npm are put into an image: a line "NAME VERSION" for each.
inline constexpr const char* kNpmFilesList = "usr/local/share/hob/npm-packages";

// Of the layers' trees, bottom first: each once, in order. Links are not followed. Blocking.
std::vector<Part> image_parts(const std::vector<std::filesystem::path>& trees);

}  // namespace hob::builder
