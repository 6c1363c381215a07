// A real guest that gives memory back.
#include <gtest/gtest.h>

#include <chrono>
#include <fstream>

#include "guest.h"

namespace {

using namespace vmm_guest;

double resident_mib(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/statm");
  long all = 0;
  long resident = 0;
  file >> all >> resident;
  return static_cast<double>(resident) * 4 / 1024;
}

// Asked once in a while, as the guest takes its time.
template <class Done>
bool in_time(Done done) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(kPatienceSeconds);
  while (!done()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    usleep(200'000);
  }
  return true;
}

TEST(VmmBalloon, TakesWhatTheGuestFreesAndWhatItIsAskedFor) {
  const std::string socket = files + "/balloon.socket";
  unlink(socket.c_str());
  Vmm vmm({"--api-sock", socket, "--id", "balloon"});
  const auto ok = [&](const char* method, const char* path, const std::string& body) {
    const std::string answer = ask(socket, method, path, body);
    EXPECT_NE(answer.find(" 204 "), std::string::npos) << path << answer;
    return answer.find(" 204 ") != std::string::npos;
  };
  ASSERT_TRUE(
      ok("PUT", "/machine-config", R"({"vcpu_count":1,"mem_size_mib":256})") &&
      ok("PUT", "/boot-source", boot_source("balloon")) &&
      ok("PUT", "/balloon",
         R"({"amount_mib":0,"deflate_on_oom":true,"stats_polling_interval_s":1,"free_page_reporting":true,"free_page_hinting":true})") &&
      ok("PUT", "/actions", R"({"action_type":"InstanceStart"})"));
  ASSERT_TRUE(vmm.says("filled")) << vmm.said();
  const double filled = resident_mib(vmm.pid());
  EXPECT_GT(filled, 80);
  ASSERT_TRUE(vmm.says("freed")) << vmm.said();
  EXPECT_TRUE(in_time([&] { return resident_mib(vmm.pid()) < filled - 50; }))
      << filled << " MiB, then " << resident_mib(vmm.pid());

  ASSERT_TRUE(ok("PATCH", "/balloon", R"({"amount_mib":128})"));
  std::string statistics;
  EXPECT_TRUE(in_time([&] {
    statistics = ask(socket, "GET", "/balloon/statistics");
    return statistics.find(R"("target_mib":128,"actual_mib":128)") != std::string::npos &&
           statistics.find("\"free_memory\"") != std::string::npos;
  })) << statistics;
  EXPECT_LT(resident_mib(vmm.pid()), 128 + 10);

  ASSERT_TRUE(ok("PATCH", "/balloon/hinting/start", R"({"acknowledge_on_stop":true})"));
  EXPECT_TRUE(in_time([&] {
    return ask(socket, "GET", "/balloon/hinting/status").find(R"({"host_cmd":1,"guest_cmd":0})") !=
           std::string::npos;
  })) << ask(socket, "GET", "/balloon/hinting/status");
  ASSERT_TRUE(ok("PATCH", "/balloon", R"({"amount_mib":0})"));
  EXPECT_TRUE(in_time([&] {
    return ask(socket, "GET", "/balloon/statistics").find(R"("actual_mib":0)") != std::string::npos;
  }));
  EXPECT_TRUE(vmm.says("tick 2"));
}

}  // namespace
