// Devices under the drivers of Debian's kernel: a balloon, persistent memory.
#include <gtest/gtest.h>
#include <unistd.h>

#include "guest.h"

namespace {

using namespace vmm_guest;

// Asks until the answer has `part`.
bool comes_to(const std::string& socket, const std::string& path, const std::string& part) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(kPatienceSeconds);
  std::string answer;
  do {
    answer = ask(socket, "GET", path);
    if (answer.find(part) != std::string::npos) return true;
    usleep(200'000);
  } while (std::chrono::steady_clock::now() < deadline);
  ADD_FAILURE() << part << " in " << answer;
  return false;
}

TEST(VmmDevice, ABalloonTakesWhatItIsAskedToAndTellsOfTheGuest) {
  const std::string socket = files + "/balloon.socket";
  unlink(socket.c_str());
  Vmm vmm({"--api-sock", socket});
  const auto ok = [&](const char* method, const char* path, const std::string& body) {
    const std::string answer = ask(socket, method, path, body);
    EXPECT_NE(answer.find(" 204 "), std::string::npos) << path << answer;
  };
  ok("PUT", "/boot-source", boot_source("balloon"));
  ok("PUT", "/balloon",
     R"({"amount_mib":8,"deflate_on_oom":true,"stats_polling_interval_s":1,"free_page_hinting":true,"free_page_reporting":true})");
  ok("PUT", "/actions", R"({"action_type":"InstanceStart"})");
  ASSERT_TRUE(vmm.says("ready")) << vmm.said();
  ASSERT_TRUE(comes_to(socket, "/balloon/statistics", R"("actual_mib":8,)"));
  ASSERT_TRUE(comes_to(socket, "/balloon/statistics", R"("available_memory":)"));
  ok("PATCH", "/balloon", R"({"amount_mib":40})");
  ASSERT_TRUE(comes_to(socket, "/balloon/statistics", R"("actual_mib":40,)"));
  // A run of hints, told to its end, is acknowledged.
  ok("PATCH", "/balloon/hinting/start", "{}");
  EXPECT_TRUE(comes_to(socket, "/balloon/hinting/status", R"({"host_cmd":1,"guest_cmd":0})"));
  vmm.type("end\n");
  EXPECT_EQ(vmm.end(), 0) << vmm.said();
}

TEST(VmmDevice, PersistentMemoryIsAFileAndTheConsoleAnother) {
  std::string content(3 << 20, '\0');
  content.replace(0, 10, "persistent");
  const std::string path = write_file("pmem", content);
  const std::string fixed = write_file("pmem-fixed", "fixed.");
  const std::string console = files + "/console";
  const std::string socket = files + "/pmem.socket";
  unlink(socket.c_str());
  Vmm vmm({"--api-sock", socket});
  const auto ok = [&](const char* url, const std::string& body) {
    const std::string answer = ask(socket, "PUT", url, body);
    EXPECT_NE(answer.find(" 204 "), std::string::npos) << url << answer;
  };
  ok("/boot-source", boot_source("pmem"));
  ok("/pmem/data", R"({"id":"data","path_on_host":")" + path + "\"}");
  ok("/pmem/fixed", R"({"id":"fixed","read_only":true,"path_on_host":")" + fixed + "\"}");
  ok("/serial", R"({"serial_out_path":")" + console + "\"}");
  // The emulated host's CPU is AMD's first EPYC; a real one may be any.
  EXPECT_NE(ask(socket, "PUT", "/machine-config",
                R"({"vcpu_count":1,"mem_size_mib":128,"cpu_template":"T2A"})")
                .find("Deprecation: true"),
            std::string::npos);
  ok("/machine-config", R"({"vcpu_count":1,"mem_size_mib":128,"cpu_template":"None"})");
  ok("/actions", R"({"action_type":"InstanceStart"})");
  EXPECT_EQ(vmm.end(), 0) << vmm.said();
  EXPECT_EQ(vmm.said().find("pmem:"), std::string::npos) << vmm.said();
  EXPECT_NE(read_file(console).find("pmem: 8192 persistent fixed."), std::string::npos)
      << read_file(console);
  const std::string after = read_file(path);
  EXPECT_EQ(after.size(), content.size());
  EXPECT_EQ(after.substr(512, 16), "written-by-guest");
  EXPECT_EQ(read_file(fixed), "fixed.");
}

}  // namespace
