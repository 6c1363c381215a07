#include "cli/microvms.h"

#include "cli/kvm_probe.h"
#include "cli/programs.h"

namespace hob::cli {

Result<void> check_image_tools() {
  if (!find_program("mkfs.erofs").empty()) return {};
  return fail(Code::kNotFound, "there is no mkfs.erofs: apt-get install erofs-utils");
}

Result<void> check_microvms(const std::filesystem::path& kernel) {
  std::error_code ignored;
  if (!std::filesystem::exists(kernel, ignored))
    return fail(Code::kNotFound, "no kernel is installed: hob kernel install");
  HOB_CHECK(check_image_tools());
  HOB_CHECK(probe_kvm());
  return {};
}

bool runs_microvms(const std::string& isolation, bool able) {
  return isolation.empty() ? able : isolation == "microvm";
}

}  // namespace hob::cli
