// Does KVM really work here? Found out by running guest code, not by looking at /dev/kvm.
#pragma once

#include <string>

#include "base/result.h"

namespace hob::cli {

// Runs a few instructions in a virtual machine of one page, in a child process that is killed after
// a second: some machines open /dev/kvm and then hang, or interpret instructions. The value: what
// worked, for people. The error's message: why not.
Result<std::string> probe_kvm();

}  // namespace hob::cli
