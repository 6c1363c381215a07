#include "cli/programs.h"

#include <unistd.h>

namespace hob::cli {

std::string find_program(const std::string& name) {
  for (const char* folder :
       {"/usr/bin/", "/usr/sbin/", "/bin/", "/sbin/", "/usr/local/bin/", "/usr/local/sbin/"}) {
    if (access((folder + name).c_str(), X_OK) == 0) return folder + name;
  }
  return {};
}

Result<std::filesystem::path> find_own_program(const std::string& name) {
  std::error_code error;
  const std::filesystem::path own =
      std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  for (const std::filesystem::path& folder : {own, own.parent_path() / "libexec"}) {
    if (std::filesystem::exists(folder / name, error)) return folder / name;
  }
  return fail(Code::kNotFound, "{} is not beside {}; `make build` puts it there", name,
              own.string());
}

}  // namespace hob::cli
