#include "microvm/machine/cpu_template.h"

#include <gtest/gtest.h>

namespace hob::microvm {
namespace {

TEST(CpuTemplate, BitsAreSetClearedOrLeft) {
  struct Case {
    const char* text;
    uint64_t before, after;
  };
  for (const Case& c :
       {Case{"0b1", 0, 1}, Case{"0", 0xff, 0xfe}, Case{"x", 5, 5}, Case{"1xx0_xxxx", 0x1f, 0x8f},
        Case{"", 7, 7}, Case{"0b11111111111111111111111111111111", 0, 0xffffffff}}) {
    const auto filter = parse_bits(c.text, 32);
    ASSERT_TRUE(filter) << c.text;
    EXPECT_EQ(filter->apply(c.before), c.after) << c.text;
  }
  EXPECT_NE(parse_bits("012", 32).error().message.find("unknown character"), std::string::npos);
  EXPECT_NE(parse_bits(std::string(33, 'x'), 32).error().message.find("string is too long"),
            std::string::npos);
  EXPECT_TRUE(parse_bits(std::string(64, '1'), 64));
}

TEST(CpuTemplate, ChangesTheLeafThatIsMeantAlone) {
  std::vector<kvm_cpuid_entry2> cpuid = {{.function = 7,
                                          .index = 0,
                                          .flags = 1,
                                          .eax = 0,
                                          .ebx = 0xf,
                                          .ecx = 0,
                                          .edx = 0,
                                          .padding = {}},
                                         {.function = 7,
                                          .index = 1,
                                          .flags = 1,
                                          .eax = 0,
                                          .ebx = 0xf,
                                          .ecx = 0,
                                          .edx = 0,
                                          .padding = {}}};
  CpuTemplate cpu;
  cpu.leaves = {{.leaf = 7,
                 .subleaf = 1,
                 .flags = 1,
                 .registers = {{.name = CpuidRegister::Name::kEbx, .bits = *parse_bits("00", 32)},
                               {.name = CpuidRegister::Name::kEdx, .bits = *parse_bits("1", 32)}}}};
  ASSERT_TRUE(apply_template(cpu, cpuid));
  EXPECT_EQ(cpuid[0].ebx, 0xfu);
  EXPECT_EQ(cpuid[1].ebx, 0xcu);
  EXPECT_EQ(cpuid[1].edx, 1u);
  cpu.leaves[0].subleaf = 2;
  EXPECT_NE(apply_template(cpu, cpuid).error().message.find("leaf 0x7, subleaf 0x2"),
            std::string::npos);
}

}  // namespace
}  // namespace hob::microvm
