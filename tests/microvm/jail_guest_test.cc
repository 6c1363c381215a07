// A real guest whose monitor is jailed.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "guest.h"

namespace {

using namespace vmm_guest;

constexpr uid_t kUid = 64123;

TEST(VmmJail, AGuestRunsAndIsRestoredInTheJail) {
  const std::string base = files + "/jails";
  const std::string root = base + "/hob-vmm/jailed/root";
  std::filesystem::create_directories(root);
  for (const char* name : {"vmlinux", "initrd"}) {
    const std::string inside = root + "/" + name;
    ASSERT_EQ(link((files + "/" + name).c_str(), inside.c_str()), 0);
    ASSERT_EQ(chown(inside.c_str(), kUid, kUid), 0);
  }
  const auto jailed = [&] {
    unlink((root + "/run/firecracker.socket").c_str());
    return Vmm("hob-jailer",
               {"--id", "jailed", "--exec-file", files + "/hob-vmm", "--uid", std::to_string(kUid),
                "--gid", std::to_string(kUid), "--chroot-base-dir", base, "--cgroup-version", "2",
                "--cgroup", "pids.max=20", "--parent-cgroup", "hob/jails"});
  };
  const std::string socket = root + "/run/firecracker.socket";
  const auto ok = [&](const char* method, const char* path, const std::string& body) {
    return ask(socket, method, path, body).find(" 204 ") != std::string::npos;
  };
  {
    Vmm vmm = jailed();
    ASSERT_TRUE(ok(
        "PUT", "/boot-source",
        R"({"kernel_image_path":"/vmlinux","initrd_path":"/initrd","boot_args":"console=ttyS0 reboot=k panic=-1 quiet loglevel=1 8250.nr_uarts=1 hob.test=tick"})"))
        << vmm.said();
    ASSERT_TRUE(ok("PUT", "/actions", R"({"action_type":"InstanceStart"})")) << vmm.said();
    ASSERT_TRUE(vmm.says("tick 2")) << vmm.said();
    EXPECT_EQ(read_file("/sys/fs/cgroup/hob/jails/jailed/pids.max"), "20\n");
    EXPECT_FALSE(read_file("/sys/fs/cgroup/hob/jails/jailed/cgroup.procs").empty());
    ASSERT_TRUE(ok("PATCH", "/vm", R"({"state":"Paused"})"));
    ASSERT_TRUE(ok("PUT", "/snapshot/create",
                   R"({"snapshot_path":"/run/state","mem_file_path":"/run/memory"})"))
        << vmm.said();
  }
  Vmm restored = jailed();
  ASSERT_TRUE(ok(
      "PUT", "/snapshot/load",
      R"({"snapshot_path":"/run/state","mem_backend":{"backend_type":"File","backend_path":"/run/memory"},"resume_vm":true})"))
      << restored.said();
  EXPECT_TRUE(restored.says("tick ")) << restored.said();
  ASSERT_TRUE(ok("PATCH", "/vm", R"({"state":"Paused"})"));
  // A diff without tracking, where there is no /proc to tell what was written: all of it.
  EXPECT_TRUE(ok(
      "PUT", "/snapshot/create",
      R"({"snapshot_type":"Diff","snapshot_path":"/run/state2","mem_file_path":"/run/memory2"})"))
      << restored.said();
  std::filesystem::remove_all(base);
}

}  // namespace
