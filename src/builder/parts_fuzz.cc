// The files of package managers, which an application brings: any text is some parts, each with a
// name and a version.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "builder/parts.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  using hob::builder::Part;
  for (const auto parse :
       {hob::builder::parts_of_dpkg_status, hob::builder::parts_of_npm_lock,
        hob::builder::parts_of_python_metadata, hob::builder::parts_of_cargo_lock,
        hob::builder::parts_of_composer_lock, hob::builder::parts_of_gemfile_lock,
        hob::builder::parts_of_go_mod, hob::builder::parts_of_npm_files}) {
    for (const Part& part : parse(text)) {
      if (part.name.empty() || part.version.empty()) abort();
      if (!hob::builder::package_url(part).starts_with("pkg:")) abort();
    }
  }
  return 0;
}
