#include <gtest/gtest.h>

#include "microvm/machine/machine.h"

namespace hob::microvm {
namespace {

std::string line(std::string arguments, bool root = false) {
  MachineOptions options;
  options.boot_arguments = std::move(arguments);
  if (root) options.drives.push_back({.id = "root", .root = true});
  const auto whole = command_line(options);
  return whole ? *whole : whole.error().message;
}

TEST(CommandLine, DevicesNeedsComeBehindWhatWasGivenAndBeforeInitsArguments) {
  struct Case {
    const char* given;
    const char* want;
  };
  for (const Case& c : {Case{"", "pci=off"}, Case{"quiet", "quiet pci=off"},
                        Case{"quiet -- idle now", "quiet pci=off -- idle now"},
                        Case{"quiet --", "quiet pci=off --"}, Case{"a--b", "a--b pci=off"},
                        Case{"quiet --single", "quiet --single pci=off"}})
    EXPECT_EQ(line(c.given), c.want);
  EXPECT_EQ(line("quiet -- idle", true),
            "quiet pci=off root=/dev/vda rw virtio_mmio.device=4K@0xc0001000:5 -- idle");
}

TEST(CommandLine, IsPrintableAndFits) {
  EXPECT_NE(line("a\nb").find("printable"), std::string::npos);
  EXPECT_NE(line(std::string(2048, 'x')).find("longer than 2047 bytes"), std::string::npos);
}

}  // namespace
}  // namespace hob::microvm
