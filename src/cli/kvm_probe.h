// Does KVM really work here? Found out by running guest code, not by looking at /dev/kvm.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"

namespace hob::cli {

// Runs a few instructions in a virtual machine of one page, in a child process that is killed after
// a second: some machines open /dev/kvm and then hang, or interpret instructions. The value: what
// worked, for people. The error's message: why not.
Result<std::string> probe_kvm();

// Whether tasks of an instance run in microVMs: as it was told ("microvm", "container"), else where
// a kernel was installed for them and KVM works.
bool runs_microvms(const std::string& isolation, const std::filesystem::path& kernel);

}  // namespace hob::cli
