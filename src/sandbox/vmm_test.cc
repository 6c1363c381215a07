#include "sandbox/vmm.h"

#include <gtest/gtest.h>

namespace hob::sandbox {
namespace {

TEST(Vmm, AMachinesConfigurationIsFirecrackers) {
  const std::string text =
      vmm_configuration({.vcpus = 2, .memory_mib = 500, .tap = "tap0", .mac = "06:00:c6:12:00:11"});
  for (
      const char* part :
      {R"("kernel_image_path":"kernel","initrd_path":"initrd")",
       R"("vcpu_count":2,"mem_size_mib":500)",
       R"({"drive_id":"scratch","is_root_device":false,"path_on_host":"scratch","is_read_only":false})",
       R"("path_on_host":"image","is_read_only":true)",
       R"("vsock":{"guest_cid":3,"uds_path":"run/v"})",
       R"({"iface_id":"eth0","host_dev_name":"tap0","guest_mac":"06:00:c6:12:00:11"})"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  EXPECT_EQ(vmm_configuration({}).find("network-interfaces"), std::string::npos);
}

TEST(Vmm, WhatATaskCostsItsHost) {
  EXPECT_EQ(machine_memory_mib(64), 64 + 48 + 2);
  EXPECT_EQ(machine_memory_mib(2'048), 2'048 + 48 + 64);
  EXPECT_EQ(host_memory_mib(64) - machine_memory_mib(64), 16);
}

TEST(Vmm, ARuntimeIsToldWhatTheJailHas) {
  const VmmPrograms programs{.run = "/bin/run", .jailer = "/bin/jailer", .vmm = "/bin/vmm"};
  VmmJail jail{.user = 70'000,
               .file_mib_max = 3'072,
               .kernel = "/k",
               .initrd = "/i",
               .image = "/e",
               .cgroups = {"/c/procs"}};
  EXPECT_EQ(vmm_runtime(programs, "/b", "/b/pid", jail),
            (std::vector<std::string>{"/bin/run", "/b", "/b/pid", "/bin/jailer", "/bin/vmm",
                                      "70000", "3221225472", "-", "/k", "/i", "/e", "/c/procs"}));
  jail.network_namespace = "/net";
  EXPECT_EQ(vmm_runtime(programs, "/b", "/b/pid", jail)[7], "/net");
}

}  // namespace
}  // namespace hob::sandbox
