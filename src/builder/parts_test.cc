#include "builder/parts.h"

#include <gtest/gtest.h>

#include "builder/testing_directory.h"

namespace hob::builder {
namespace {

std::vector<std::string> urls(const std::vector<Part>& parts) {
  std::vector<std::string> all;
  for (const Part& part : parts) all.push_back(package_url(part));
  return all;
}
using Urls = std::vector<std::string>;

TEST(Parts, OfEachPackageManagersFile) {
  EXPECT_EQ(urls(parts_of_dpkg_status("Package: libc6\nStatus: install ok installed\n"
                                      "Version: 2.36-9+deb12u9\n\nPackage: gone\n"
                                      "Status: deinstall ok config-files\nVersion: 1\n")),
            Urls{"pkg:deb/debian/libc6@2.36-9%2Bdeb12u9?distro=debian-12"});
  const auto npm = parts_of_npm_lock(
      R"({"packages": {"": {"version": "1"}, "node_modules/a/node_modules/@s/b":
          {"version": "2.0.0", "license": "MIT"}, "node_modules/c": {"name": "d", "version": "3"}}})");
  EXPECT_EQ(urls(npm), (Urls{"pkg:npm/%40s/b@2.0.0", "pkg:npm/d@3"}));
  EXPECT_EQ(npm.front().license, "MIT");
  EXPECT_EQ(
      urls(parts_of_python_metadata("Metadata-Version: 2.1\nName: Flask_Login\nVersion: 0.6\n\n"
                                    "Name: in the description\n")),
      Urls{"pkg:pypi/flask-login@0.6"});
  EXPECT_EQ(urls(parts_of_cargo_lock("[[package]]\nname = \"app\"\nversion = \"0.1.0\"\n\n"
                                     "[[package]]\nname = \"serde\"\nversion = \"1.0.0\"\n"
                                     "source = \"registry+https://github.com/…\"\n")),
            Urls{"pkg:cargo/serde@1.0.0"});
  EXPECT_EQ(urls(parts_of_composer_lock(R"({"packages": [{"name": "a/b", "version": "v1"}]})")),
            Urls{"pkg:composer/a/b@v1"});
  EXPECT_EQ(urls(parts_of_gemfile_lock("GEM\n  remote: https://rubygems.org/\n  specs:\n"
                                       "    puma (6.0)\n      nio4r (~> 2.0)\n\nDEPENDENCIES\n"
                                       "    puma (6.0)\n")),
            Urls{"pkg:gem/puma@6.0"});
  EXPECT_EQ(urls(parts_of_go_mod("module app\ngo 1.19\nrequire example.com/a v1.0.0 // indirect\n"
                                 "require (\n\texample.com/b/v2 v2.1.0\n)\n")),
            (Urls{"pkg:golang/example.com/a@v1.0.0", "pkg:golang/example.com/b/v2@v2.1.0"}));
}

TEST(Parts, WhatIsNoSuchFileIsNoPart) {
  for (const char* text : {"", "{", "null", "[[[", "Package:", "  specs:\n    a (", "require ("}) {
    EXPECT_TRUE(parts_of_npm_lock(text).empty());
    EXPECT_TRUE(parts_of_dpkg_status(text).empty());
    EXPECT_TRUE(parts_of_gemfile_lock(text).empty());
    EXPECT_TRUE(parts_of_go_mod(text).empty());
  }
}

TEST(Parts, OfAnImageEachOnceAndNoLinkIsFollowed) {
  const TestDirectory place;
  place.write("0/var/lib/dpkg/status", "Package: a\nStatus: install ok installed\nVersion: 1\n");
  place.write(
      "1/var/lib/dpkg/status",
      "Package: a\nStatus: install ok installed\nVersion: 1\n\nPackage: b\nStatus: install ok "
      "installed\nVersion: 2\n");
  place.write("2/app/node_modules/.package-lock.json",
              R"({"packages": {"node_modules/c": {"version": "3"}}})");
  place.write("2/app/node_modules/c/node_modules/.package-lock.json",
              R"({"packages": {"node_modules/hidden": {"version": "4"}}})");
  place.write("outside", R"({"packages": {"node_modules/outside": {"version": "5"}}})");
  std::filesystem::create_directories(place.path() / "3/app/node_modules");
  std::filesystem::create_symlink(place.path() / "outside",
                                  place.path() / "3/app/node_modules/.package-lock.json");
  EXPECT_EQ(urls(image_parts(
                {place.path() / "0", place.path() / "1", place.path() / "2", place.path() / "3"})),
            (Urls{"pkg:deb/debian/a@1?distro=debian-12", "pkg:deb/debian/b@2?distro=debian-12",
                  "pkg:npm/c@3"}));
}

}  // namespace
}  // namespace hob::builder
