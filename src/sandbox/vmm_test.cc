#include "sandbox/vmm.h"

#include <gtest/gtest.h>

namespace hob::sandbox {
namespace {

TEST(Vmm, AMachinesConfigurationIsFirecrackers) {
  const std::string text = vmm_configuration({.kernel = "/k",
                                              .initrd = "/i",
                                              .image = "/image.erofs",
                                              .vcpus = 2,
                                              .memory_mib = 500,
                                              .tap = "tap0",
                                              .mac = "06:00:c6:12:00:11"});
  for (
      const char* part :
      {R"("kernel_image_path":"/k","initrd_path":"/i")", R"("vcpu_count":2,"mem_size_mib":500)",
       R"({"drive_id":"scratch","is_root_device":false,"path_on_host":"scratch","is_read_only":false})",
       R"("path_on_host":"/image.erofs","is_read_only":true)",
       R"("vsock":{"guest_cid":3,"uds_path":"v"})",
       R"({"iface_id":"eth0","host_dev_name":"tap0","guest_mac":"06:00:c6:12:00:11"})"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  EXPECT_EQ(vmm_configuration({}).find("network-interfaces"), std::string::npos);
}

TEST(Vmm, WhatATaskCostsItsHost) {
  EXPECT_EQ(machine_memory_mib(64), 64 + 48 + 2);
  EXPECT_EQ(machine_memory_mib(2'048), 2'048 + 48 + 64);
  EXPECT_EQ(host_memory_mib(64) - machine_memory_mib(64), 16);
}

TEST(Vmm, ARuntimeIsToldItsFilesAndItsNetwork) {
  EXPECT_EQ(vmm_runtime({.run = "/bin/run", .vmm = "/bin/vmm"}, "/b", "/b/pid", "", {"/c/procs"}),
            (std::vector<std::string>{"/bin/run", "/b", "/b/pid", "/bin/vmm", "-", "/c/procs"}));
  EXPECT_EQ(vmm_runtime({}, "/b", "/b/pid", "/net", {})[4], "/net");
}

}  // namespace
}  // namespace hob::sandbox
