// Boots real guests under hob-vmm and looks at what they say and leave. Needs a KVM that works.
//
//   vmm_guest_suite FILES [gtest's options]: FILES has hob-vmm, vmlinux, bzimage, initrd
//   (guest_init.sh is its init).
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>

#include "guest.h"

namespace {

using namespace vmm_guest;

TEST(VmmGuest, BootsDebiansKernelAndReadsWritesAndDiscardsItsDisk) {
  std::string disk(4 << 20, '\0');
  disk.replace(0, 15, "hello-from-disk");
  disk.replace(2 << 20, 1 << 20, std::string(1 << 20, 'x'));
  const std::string path = write_file("disk", disk);
  Vmm vmm = start({.test = "disk", .drives = drive("data", path, false)});
  EXPECT_EQ(vmm.end(), 0) << vmm.said();
  EXPECT_NE(vmm.said().find("read: hello-from-disk"), std::string::npos) << vmm.said();
  const std::string after = read_file(path);
  EXPECT_EQ(after.substr(512, 16), "written-by-guest");
  // The guest's sum of what it wrote over the second MiB, and what is there.
  EXPECT_EQ(after.substr(1 << 20, 1 << 20), std::string(1 << 20, 'y'));
  EXPECT_EQ(after.substr(2 << 20, 1 << 20), std::string(1 << 20, '\0'));
  struct stat status {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_LT(status.st_blocks * 512, (4 << 20) - (512 << 10)) << "a discard frees the file's blocks";
}

TEST(VmmGuest, TakesAnotherDiskAndRandomBytesWithTheAsynchronousEngine) {
  const std::string first = write_file("disk", std::string(1 << 20, 'a'));
  const std::string second = write_file("disk2", std::string(2 << 20, 'b'));
  const std::string socket_path = files + "/drive.socket";
  unlink(socket_path.c_str());
  Vmm vmm({"--api-sock", socket_path});
  ask(socket_path, "PUT", "/boot-source", boot_source("swap"));
  ask(socket_path, "PUT", "/drives/data",
      R"({"drive_id":"data","is_root_device":false,"io_engine":"Async","path_on_host":")" + first +
          "\"}");
  ask(socket_path, "PUT", "/entropy", R"({"rate_limiter":{"ops":{"size":100,"refill_time":10}}})");
  ask(socket_path, "PUT", "/actions", R"({"action_type":"InstanceStart"})");
  ASSERT_TRUE(vmm.says("disk: 2048 sectors of a")) << vmm.said();
  const std::string patched = ask(socket_path, "PATCH", "/drives/data",
                                  R"({"drive_id":"data","path_on_host":")" + second + "\"}");
  EXPECT_NE(patched.find(" 204 "), std::string::npos) << patched;
  EXPECT_TRUE(vmm.says("disk: 4096 sectors of b")) << vmm.said();
  vmm.type("hello from its console\n");
  EXPECT_EQ(vmm.end(), 0) << vmm.said();
  EXPECT_NE(vmm.said().find("random: virtio_rng.0 4096"), std::string::npos) << vmm.said();
  EXPECT_EQ(read_file(second).substr(0, 16), "written-by-guest");
  EXPECT_NE(vmm.said().find("typed: hello from its console"), std::string::npos) << vmm.said();
}

TEST(VmmGuest, AReadOnlyDiskStaysAsItWas) {
  const std::string path = write_file("disk", std::string(1 << 20, 'x'));
  Vmm vmm = start({.test = "write", .drives = drive("data", path, true)});
  EXPECT_EQ(vmm.end(), 0) << vmm.said();
  EXPECT_NE(vmm.said().find("write failed"), std::string::npos) << vmm.said();
  EXPECT_EQ(read_file(path), std::string(1 << 20, 'x'));
}

TEST(VmmGuest, BootsABzImage) {
  Vmm vmm = start({.kernel = "bzimage", .test = "cpus"});
  EXPECT_EQ(vmm.end(), 0) << vmm.said();
  EXPECT_NE(vmm.said().find("cpus: 1"), std::string::npos) << vmm.said();
}

TEST(VmmGuest, HasAsManyCpusAsAskedFor) {
  Vmm vmm = start({.test = "cpus", .vcpus = 2});
  EXPECT_EQ(vmm.end(), 0) << vmm.said();
  EXPECT_NE(vmm.said().find("cpus: 2"), std::string::npos) << vmm.said();
}

TEST(VmmGuest, PausesResumesAndEndsByCtrlAltDel) {
  const std::string socket_path = files + "/api.socket";
  unlink(socket_path.c_str());
  Vmm vmm({"--api-sock", socket_path, "--id", "paused"});
  ask(socket_path, "PUT", "/boot-source", boot_source("tick"));
  EXPECT_NE(ask(socket_path, "PUT", "/actions", R"({"action_type":"InstanceStart"})").find(" 204 "),
            std::string::npos);
  ASSERT_TRUE(vmm.says("tick 2")) << vmm.said();
  EXPECT_NE(ask(socket_path, "PATCH", "/vm", R"({"state":"Paused"})").find(" 204 "),
            std::string::npos);
  EXPECT_NE(ask(socket_path, "GET", "/").find(R"("state":"Paused")"), std::string::npos);
  EXPECT_TRUE(vmm.falls_silent());
  EXPECT_NE(ask(socket_path, "PATCH", "/vm", R"({"state":"Resumed"})").find(" 204 "),
            std::string::npos);
  ASSERT_TRUE(vmm.says("tick 5")) << vmm.said();
  EXPECT_NE(
      ask(socket_path, "PUT", "/actions", R"({"action_type":"SendCtrlAltDel"})").find(" 204 "),
      std::string::npos);
  EXPECT_EQ(vmm.end(), 0) << vmm.said();
}

TEST(VmmGuest, SpeaksHttpOverItsTapAndReadsItsMetadata) {
  // Larger than what one frame with segmentation left to the receiver holds.
  std::string content;
  for (size_t i = 0; content.size() < (3 << 20); ++i) content += std::to_string(i) + "\n";
  const std::string www = files + "/www";
  mkdir(www.c_str(), 0755);
  write_file("www/file", content);
  const std::string sum = run({"/bin/busybox", "md5sum", www + "/file"}).substr(0, 32);
  const std::string socket_path = files + "/net.socket";
  unlink(socket_path.c_str());
  Vmm vmm({"--api-sock", socket_path});
  ask(socket_path, "PUT", "/boot-source", boot_source("net"));
  const std::string put = ask(
      socket_path, "PUT", "/network-interfaces/eth0",
      R"({"iface_id":"eth0","host_dev_name":"tap7","guest_mac":"02:fc:00:00:00:07","mtu":1400,"tx_rate_limiter":{"bandwidth":{"size":400000,"refill_time":86400000}}})");
  ASSERT_NE(put.find(" 204 "), std::string::npos) << put;
  const std::string metrics = files + "/metrics";
  const std::string log = files + "/log";
  ask(socket_path, "PUT", "/metrics", R"({"metrics_path":")" + metrics + "\"}");
  ask(socket_path, "PUT", "/logger", R"({"log_path":")" + log + "\"}");
  ask(socket_path, "PUT", "/mmds/config", R"({"version":"V2","network_interfaces":["eth0"]})");
  ask(socket_path, "PUT", "/mmds", R"({"latest":{"name":"hob-guest","more":{"a":1}}})");
  run({"/bin/busybox", "ip", "link", "set", "lo", "up"});
  run({"/bin/busybox", "ip", "address", "add", "198.18.7.1/24", "dev", "tap7"});
  run({"/bin/busybox", "ip", "link", "set", "tap7", "mtu", "1400", "up"});
  const Beside server({"/bin/busybox", "httpd", "-f", "-p", "198.18.7.1:8000", "-h", www});
  ask(socket_path, "PUT", "/actions", R"({"action_type":"InstanceStart"})");
  ASSERT_TRUE(vmm.says("address: 02:fc:00:00:00:07 mtu: 1400")) << vmm.said();
  ASSERT_TRUE(vmm.says("metadata: more/ name hob-guest 401")) << vmm.said();
  ASSERT_TRUE(vmm.says("serving")) << vmm.said();
  EXPECT_NE(vmm.said().find("got: " + sum), std::string::npos) << vmm.said();
  const std::string fetched = files + "/fetched";
  Beside fetching({"/bin/busybox", "wget", "-q", "-O", fetched, "http://198.18.7.2/got"});
  EXPECT_FALSE(fetching.ends_within(5)) << "400,000 bytes a day hold it back";
  const std::string patched =
      ask(socket_path, "PATCH", "/network-interfaces/eth0",
          R"({"iface_id":"eth0","tx_rate_limiter":{"bandwidth":{"size":0,"refill_time":0}}})");
  EXPECT_NE(patched.find(" 204 "), std::string::npos) << patched;
  EXPECT_TRUE(fetching.ends_within(kPatienceSeconds));
  EXPECT_TRUE(read_file(fetched) == content);
  EXPECT_NE(ask(socket_path, "PUT", "/actions", R"({"action_type":"FlushMetrics"})").find(" 204 "),
            std::string::npos);
  const std::string lines = read_file(metrics);
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 2) << lines;
  for (const char* part : {R"("net_eth0":{)", R"("connections_created":4)", R"("rx_no_token":1)",
                           R"("tx_spoofed_mac_count":0)"})
    EXPECT_NE(lines.find(part), std::string::npos) << part << " in " << lines;
  EXPECT_NE(read_file(log).find(R"(a Patch request on "/network-interfaces/eth0" with body)"),
            std::string::npos);
  run({"/bin/busybox", "nc", "-w", "1", "198.18.7.2", "81"});
  EXPECT_EQ(vmm.end(), 0) << vmm.said();
}

TEST(VmmGuest, AGuestThatTripleFaultsEndsItsMonitorAlone) {
  // An ELF file whose only instruction is invalid, without a table of handlers.
  std::string elf(0x1010, '\0');
  const unsigned char head[] = {0x7f, 'E', 'L', 'F', 2, 1, 1,  0, 0, 0, 0, 0,
                                0,    0,   0,   0,   2, 0, 62, 0, 1, 0, 0, 0};
  std::memcpy(elf.data(), head, sizeof head);
  const auto put = [&](size_t at, uint64_t value, size_t bytes) {
    std::memcpy(elf.data() + at, &value, bytes);
  };
  put(24, 0x100000, 8), put(32, 64, 8), put(52, 64, 2), put(54, 56, 2), put(56, 1, 2);
  put(64, 1, 4), put(68, 7, 4), put(72, 0x1000, 8), put(88, 0x100000, 8), put(96, 16, 8),
      put(104, 16, 8);
  elf[0x1000] = '\x0f', elf[0x1001] = '\x0b';
  write_file("faulty", elf);
  Vmm vmm = start({.kernel = "faulty", .test = "none"});
  EXPECT_EQ(vmm.end(), 0) << vmm.said();
  EXPECT_NE(vmm.said().find("triple fault"), std::string::npos) << vmm.said();
}

TEST(VmmGuest, WhatIsNoKernelIsRefused) {
  Vmm vmm = start({.kernel = "initrd", .test = "none"});
  EXPECT_EQ(vmm.end(), 1);
  EXPECT_NE(vmm.said().find("neither an ELF file nor a bzImage"), std::string::npos) << vmm.said();
}

}  // namespace

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (argc != 2 && !::testing::GTEST_FLAG(list_tests)) {
    std::fprintf(stderr, "usage: vmm_guest_suite FILES\n");
    return 2;
  }
  if (argc == 2) vmm_guest::files = argv[1];
  signal(SIGPIPE, SIG_IGN);
  return RUN_ALL_TESTS();
}
