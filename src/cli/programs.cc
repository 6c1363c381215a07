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

}  // namespace hob::cli
