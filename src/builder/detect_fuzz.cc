// The files that say what an application is, all of one content: a recipe or a refusal.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "builder/detect.h"
#include "builder/ignore.h"
#include "builder/npm_registry.h"
#include "builder/testing_source.h"
#include "builder/version_range.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto runtimes = hob::builder::parse_runtime(
      "name: any\ntitle: Any\norder: 1\ndetect: [exists package.json]\nversions: [{version: '22', "
      "names: [ANY]}]\nversion-from: [json package.json /engines/node, line .nvmrc]\nstart: [{run: "
      "'${json package.json /main}'}]\n");
  if (!runtimes) abort();
  const std::string text(reinterpret_cast<const char*>(data), size);
  const hob::builder::TestSource source(
      {{"package.json", text}, {".nvmrc", text}, {"Procfile", text}, {"package-lock.json", text}});
  const auto recipe = hob::builder::make_recipe(source, {*runtimes});
  if (recipe && recipe->runtime.runtime == nullptr) abort();
  static_cast<void>(hob::builder::VersionRange::parse(text));
  static_cast<void>(hob::builder::choose_npm_version(text, "22"));
  hob::builder::IgnoreRules rules;
  if (rules.add("", text)) static_cast<void>(rules.ignored("src/main.js", false));
  return 0;
}
