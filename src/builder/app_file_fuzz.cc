// An apprunner.yaml from anybody's repository: read whole or refused.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "builder/app_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file =
      hob::builder::parse_app_file(std::string_view(reinterpret_cast<const char*>(data), size));
  if (file && (file->build.empty() || file->command.empty() || file->port == 0)) abort();
  return 0;
}
