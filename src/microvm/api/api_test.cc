// Firecracker's rules, one row each: what is asked, in which state, what is answered (facts of its
// version 1.17).
#include "microvm/api/api.h"

#include <fmt/core.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>

#include "base/file.h"
#include "microvm/api/json.h"
#include "microvm/snapshot/state_file.h"

namespace hob::microvm {
namespace {

class MicrovmApiTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = Loop::create();
    ASSERT_TRUE(loop);
    loop_ = *std::move(loop);
    api_ = std::make_unique<MicrovmApi>("vm-1", *loop_,
                                        [this](const VcpuEnd& end) { ended_ = end.reason; });
    char name[] = "/tmp/hob-vmm-test-XXXXXX";
    folder_ = mkdtemp(name);
    for (const char* file : {"/kernel", "/disk", "/disk2"})
      std::ofstream(folder_ + file) << std::string(1024, 'x');
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(folder_)); }
  HttpResponse ask(const std::string& method, const std::string& path,
                   std::optional<std::string> body = {}) {
    return api_->handle({.method = method, .path = path, .body = std::move(body)});
  }
  std::string drive(const std::string& id, bool root, const std::string& file = "disk") {
    return R"({"drive_id":")" + id + R"(","is_root_device":)" + (root ? "true" : "false") +
           R"(,"path_on_host":")" + folder_ + "/" + file + "\"}";
  }
  std::string boot_source() { return R"({"kernel_image_path":")" + folder_ + R"(/kernel"})"; }

  std::unique_ptr<Loop> loop_;
  std::unique_ptr<MicrovmApi> api_;
  std::string folder_;
  std::string ended_;
};

TEST_F(MicrovmApiTest, RefusalsInTheirOrder) {
  struct Case {
    const char* name;
    const char* method;
    const char* path;
    std::optional<std::string> body;
    const char* part;
  };
  const std::string id_differs = drive("other", true);
  for (const Case& c : std::initializer_list<Case>{
           {"no such path", "PUT", "/nothing", "{}",
            "Invalid request method and/or path: PUT nothing."},
           {"no such verb there",
            "GET",
            "/drives",
            {},
            "Invalid request method and/or path: GET drives."},
           {"no body", "PUT", "/actions", {}, "Empty PUT request."},
           {"no body", "PATCH", "/vm", {}, "Empty PATCH request."},
           {"a body where none may be", "GET", "/", "{}", "GET request cannot have a body."},
           {"no id", "PUT", "/drives", "{}", "The ID cannot be empty."},
           {"a bad id", "PUT", "/drives/a-b", "{}",
            "can only contain alphanumeric characters and underscores."},
           {"no JSON", "PUT", "/vm/config", "x", "Invalid request method"},
           {"no JSON", "PUT", "/machine-config", "{,}",
            "deserializing the json body of a request: key must be a string"},
           {"a field left out", "PUT", "/machine-config", R"({"vcpu_count":1})",
            "missing field `mem_size_mib`"},
           {"a field unknown", "PUT", "/boot-source", R"({"kernel_image_path":"/x","y":1})",
            "unknown field `y`"},
           {"a field twice", "PUT", "/actions",
            R"({"action_type":"InstanceStart","action_type":"InstanceStart"})",
            "duplicate field `action_type`"},
           {"another type", "PUT", "/machine-config", R"({"vcpu_count":"1","mem_size_mib":1})",
            "invalid type: string"},
           {"not an integer", "PUT", "/machine-config", R"({"vcpu_count":1.0,"mem_size_mib":1})",
            "floating point"},
           {"null is no default", "PUT", "/machine-config",
            R"({"vcpu_count":1,"mem_size_mib":1,"smt":null})", "invalid type: null"},
           {"an unknown word", "PUT", "/actions", R"({"action_type":"Explode"})",
            "unknown variant `Explode`"},
           {"after boot only", "PATCH", "/vm", R"({"state":"Paused"})",
            "not supported before starting the microVM."},
           {"no vCPU", "PUT", "/machine-config", R"({"vcpu_count":0,"mem_size_mib":128})",
            "Machine config error: The number of vCPUs must be greater than 0"},
           {"too many", "PUT", "/machine-config", R"({"vcpu_count":33,"mem_size_mib":128})",
            "Machine config error"},
           {"beyond a byte", "PUT", "/machine-config", R"({"vcpu_count":256,"mem_size_mib":128})",
            "invalid value"},
           {"odd with SMT", "PUT", "/machine-config",
            R"({"vcpu_count":3,"mem_size_mib":128,"smt":true})", "even number"},
           {"no memory", "PUT", "/machine-config", R"({"vcpu_count":1,"mem_size_mib":0})",
            "is either 0, or not a multiple"},
           {"nothing to change", "PATCH", "/machine-config", "{}", "Empty PATCH request."},
           {"no such kernel", "PUT", "/boot-source", R"({"kernel_image_path":"/no/such"})",
            "Boot source error: The kernel file cannot be opened"},
           {"no such file", "PUT", "/drives/d",
            R"({"drive_id":"d","is_root_device":true,"path_on_host":"/no/such"})",
            "Drive config error: Error manipulating the backing file"},
           {"neither file nor socket", "PUT", "/drives/d",
            R"({"drive_id":"d","is_root_device":true})", "Invalid block config."},
           {"ids that differ", "PUT", "/drives/d", id_differs,
            "The id from the path does not match the id from the body!"},
           {"a MAC address that is none", "PUT", "/network-interfaces/eth0",
            R"({"iface_id":"eth0","host_dev_name":"hob-none0","guest_mac":"02:00:00:00:00"})",
            "The provided MAC address is invalid."},
           {"an MTU below IPv4's", "PUT", "/network-interfaces/eth0",
            R"({"iface_id":"eth0","host_dev_name":"hob-none0","mtu":67})",
            "Network config error: MTU 67 is out of range [68, 65535]"},
           {"an MTU beyond 16 bits", "PUT", "/network-interfaces/eth0",
            R"({"iface_id":"eth0","host_dev_name":"hob-none0","mtu":65536})", "invalid value"},
           {"a tap's name too long", "PUT", "/network-interfaces/eth0",
            R"({"iface_id":"eth0","host_dev_name":"0123456789abcdef"})", "Open tap device failed"},
           {"ids that differ", "PUT", "/network-interfaces/eth0",
            R"({"iface_id":"eth1","host_dev_name":"hob-none0"})",
            "The id from the path [eth0] does not match the id from the body [eth1]!"},
           {"a bucket without a time", "PUT", "/network-interfaces/eth0",
            R"({"iface_id":"eth0","host_dev_name":"t","rx_rate_limiter":{"ops":{"size":1}}})",
            "missing field `refill_time`"},
           {"a limiter's field unknown", "PUT", "/network-interfaces/eth0",
            R"({"iface_id":"eth0","host_dev_name":"t","rx_rate_limiter":{"packets":null}})",
            "unknown field `packets`"},
           {"after boot only", "PATCH", "/network-interfaces/eth0", R"({"iface_id":"eth0"})",
            "not supported before starting the microVM."},
           {"after boot only", "PATCH", "/drives/d", R"({"drive_id":"d"})",
            "not supported before starting the microVM."},
           {"after boot only",
            "DELETE",
            "/network-interfaces/eth0",
            {},
            "not supported before starting the microVM."},
           {"no limiter", "PUT", "/entropy", R"({"rate_limiter":{"ops":7}})",
            "invalid type: integer"},
           {"metadata of no interface", "PUT", "/mmds/config", R"({"network_interfaces":[]})",
            "MMMDS config error: The list of network interface IDs that allow forwarding MMDS "
            "requests is empty."},
           {"metadata of an unknown one", "PUT", "/mmds/config",
            R"({"network_interfaces":["eth7"]})",
            "does not correspond to any existing network interface"},
           {"an address that is none", "PUT", "/mmds/config",
            R"({"network_interfaces":["a"],"ipv4_address":"169.254.1"})", "IPv4 address"},
           {"a merge into nothing", "PATCH", "/mmds", "{}",
            "The MMDS data store is not initialized."},
           {"no kernel yet", "PUT", "/actions", R"({"action_type":"InstanceStart"})",
            "Cannot start microvm without kernel configuration."},
           {"no snapshot of what does not run", "PUT", "/snapshot/create",
            R"({"snapshot_path":"s","mem_file_path":"m"})",
            "not supported before starting the microVM."},
           {"persistent memory of no file", "PUT", "/pmem/a", R"({"id":"a"})",
            "missing field `path_on_host`"},
           {"ids that differ", "PUT", "/pmem/a", R"({"id":"b","path_on_host":"/x"})",
            "The id from the path does not match the id from the body!"},
           {"nothing to plug in", "PUT", "/hotplug/memory", "{}", "missing field `total_size_mib`"},
           {"blocks too small", "PUT", "/hotplug/memory",
            R"({"total_size_mib":128,"block_size_mib":1})",
            "Memory hotplug config error: Block size must not be lower than 2 MiB"},
           {"odd blocks", "PUT", "/hotplug/memory", R"({"total_size_mib":128,"block_size_mib":6})",
            "Block size must be a power of 2"},
           {"slots too small", "PUT", "/hotplug/memory",
            R"({"total_size_mib":128,"slot_size_mib":64})",
            "Slot size must not be lower than 128 MiB"},
           {"parts of blocks", "PUT", "/hotplug/memory",
            R"({"total_size_mib":256,"slot_size_mib":192,"block_size_mib":128})",
            "Slot size must be a multiple of block size"},
           {"less than a slot", "PUT", "/hotplug/memory", R"({"total_size_mib":64})",
            "Total size must not be lower than slot size"},
           {"parts of slots", "PUT", "/hotplug/memory", R"({"total_size_mib":130})",
            "Total size must be a multiple of slot size"},
           {"after boot only", "PATCH", "/hotplug/memory", R"({"requested_size_mib":2})",
            "not supported before starting the microVM."}}) {
    const HttpResponse response = ask(c.method, c.path, c.body);
    EXPECT_EQ(response.status, 400) << c.name;
    EXPECT_NE(response.body.find(c.part), std::string::npos) << c.name << ": " << response.body;
  }
}

TEST_F(MicrovmApiTest, WhatIsSetIsShown) {
  EXPECT_EQ(
      ask("GET", "/").body,
      R"({"id":"vm-1","state":"Not started","vmm_version":"1.17.0","app_name":"Firecracker"})");
  EXPECT_EQ(
      ask("GET", "/machine-config").body,
      R"({"vcpu_count":1,"mem_size_mib":128,"smt":false,"track_dirty_pages":false,"huge_pages":"None"})");
  EXPECT_EQ(
      ask("PUT", "/machine-config", R"({"vcpu_count":2,"mem_size_mib":256,"smt":true})").status,
      204);
  EXPECT_EQ(ask("PATCH", "/machine-config", R"({"mem_size_mib":512,"smt":null})").status, 204);
  EXPECT_EQ(ask("PATCH", "/machine-config", R"({"vcpu_count":3})").status, 400);
  EXPECT_EQ(
      ask("GET", "/machine-config").body,
      R"({"vcpu_count":2,"mem_size_mib":512,"smt":true,"track_dirty_pages":false,"huge_pages":"None"})");
}

TEST_F(MicrovmApiTest, OneRootIsThere) {
  const auto pmem = [](const char* id, bool root) {
    return fmt::format(R"({{"id":"{}","path_on_host":"/no/such","root_device":{}}})", id, root);
  };
  EXPECT_EQ(ask("PUT", "/pmem/a", pmem("a", true)).status, 204);
  EXPECT_EQ(ask("PUT", "/pmem/a", pmem("a", true)).status, 204);  // the same one
  EXPECT_NE(ask("PUT", "/pmem/b", pmem("b", true)).body.find("A root pmem device already exist"),
            std::string::npos);
  EXPECT_NE(ask("PUT", "/drives/d", drive("d", true)).body.find("defined as a pmem device"),
            std::string::npos);
  EXPECT_EQ(ask("PUT", "/pmem/a", pmem("a", false)).status, 204);
  EXPECT_EQ(ask("PUT", "/drives/d", drive("d", true)).status, 204);
  EXPECT_NE(ask("PUT", "/pmem/b", pmem("b", true)).body.find("defined as a block device"),
            std::string::npos);
  EXPECT_NE(
      ask("GET", "/vm/config")
          .body.find(
              R"("pmem":[{"id":"a","path_on_host":"/no/such","root_device":false,"read_only":false,"rate_limiter":null}])"),
      std::string::npos);
}

TEST_F(MicrovmApiTest, ATemplateStaysUntilAnotherIsGiven) {
  const auto shown = [&] {
    const std::string body = ask("GET", "/machine-config").body;
    const size_t at = body.find("cpu_template");
    return at == std::string::npos ? "none"
                                   : body.substr(at + 15, body.find('"', at + 15) - at - 15);
  };
  struct Case {
    const char* method;
    const char* path;
    const char* body;
    const char* shown;
    bool deprecated;
  };
  for (const Case& c :
       {Case{"PUT", "/machine-config", R"({"vcpu_count":1,"mem_size_mib":128})", "none", false},
        Case{"PATCH", "/machine-config", R"({"cpu_template":"T2CL"})", "T2CL", true},
        Case{"PUT", "/machine-config", R"({"vcpu_count":1,"mem_size_mib":64})", "T2CL", false},
        Case{"PATCH", "/machine-config", R"({"smt":true,"cpu_template":null})", "T2CL", false},
        Case{"PATCH", "/machine-config", R"({"cpu_template":"None"})", "none", true},
        Case{"PUT", "/machine-config", R"({"vcpu_count":1,"mem_size_mib":64,"cpu_template":"C3"})",
             "C3", true},
        Case{"PUT", "/cpu-config", "{}", "none", false}}) {
    const HttpResponse response = ask(c.method, c.path, c.body);
    EXPECT_EQ(response.status, 204) << c.body << response.body;
    EXPECT_EQ(response.deprecated, c.deprecated) << c.body;
    EXPECT_EQ(shown(), c.shown) << c.body;
  }
  EXPECT_NE(ask("PATCH", "/machine-config", R"({"cpu_template":"V1N1"})")
                .body.find("unknown variant `V1N1`, expected one of"),
            std::string::npos);
}

TEST_F(MicrovmApiTest, TheConsolesFileIsMadeOrRefused) {
  const std::string path = folder_ + "/console";
  EXPECT_EQ(ask("PUT", "/serial", R"({"serial_out_path":")" + path + R"("})").status, 204);
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
  EXPECT_EQ(ask("PUT", "/serial", R"({"rate_limiter":{"size":9,"refill_time":1}})").status, 204);
  EXPECT_NE(ask("PUT", "/serial", R"({"serial_out_path":"/no/such"})")
                .body.find("Serial config error: /no/such"),
            std::string::npos);
  EXPECT_NE(ask("PUT", "/serial", R"({"out":1})").body.find("unknown field `out`"),
            std::string::npos);
}

TEST_F(MicrovmApiTest, ACpuConfigurationIsReadOrRefused) {
  EXPECT_EQ(
      ask("PUT", "/cpu-config",
          R"({"kvm_capabilities":["!56","18"],"cpuid_modifiers":[{"leaf":"0x1","subleaf":"0b0","flags":0,"modifiers":[{"register":"ecx","bitmap":"0b0xx1"}]}],"msr_modifiers":[{"addr":"0x10a","bitmap":"1_x"}]})")
          .status,
      204);
  EXPECT_EQ(ask("PUT", "/cpu-config", "{}").status, 204);
  struct Case {
    const char* body;
    const char* part;
  };
  for (
      const Case& c : std::initializer_list<Case>{
          {R"({"reg_modifiers":[]})", "unknown field `reg_modifiers`"},
          {R"({"kvm_capabilities":["x"]})", "Failed to parse KVM capability"},
          {R"({"msr_modifiers":[{"addr":"10","bitmap":"1"}]})", "as a number"},
          {R"({"msr_modifiers":[{"addr":"0x100000000","bitmap":"1"}]})", "as a number"},
          {R"({"msr_modifiers":[{"addr":"0x1","bitmap":"2"}]})", "unknown character"},
          {R"({"cpuid_modifiers":[{"leaf":"0x1","subleaf":"0x0","flags":0}]})",
           "missing field `modifiers`"},
          {R"({"cpuid_modifiers":[{"leaf":"0x1","subleaf":"0x0","flags":0,"modifiers":[{"register":"rax","bitmap":"1"}]}]})",
           "unknown variant `rax`"}}) {
    const HttpResponse response = ask("PUT", "/cpu-config", c.body);
    EXPECT_EQ(response.status, 400) << c.body;
    EXPECT_NE(response.body.find(c.part), std::string::npos) << response.body;
  }
}

TEST_F(MicrovmApiTest, ABalloonFitsIntoTheMemory) {
  EXPECT_NE(ask("GET", "/balloon").body.find("No balloon device found."), std::string::npos);
  EXPECT_NE(ask("PUT", "/balloon", R"({"amount_mib":129,"deflate_on_oom":false})")
                .body.find("Balloon config error: Amount of pages requested is too large."),
            std::string::npos);
  EXPECT_NE(ask("PUT", "/balloon", R"({"amount_mib":1})").body.find("missing field"),
            std::string::npos);
  EXPECT_EQ(ask("PUT", "/balloon",
                R"({"amount_mib":64,"deflate_on_oom":true,"stats_polling_interval_s":3})")
                .status,
            204);
  const std::string shown =
      R"({"amount_mib":64,"deflate_on_oom":true,"stats_polling_interval_s":3,"free_page_hinting":false,"free_page_reporting":false})";
  EXPECT_EQ(ask("GET", "/balloon").body, shown);
  EXPECT_NE(ask("GET", "/vm/config").body.find("\"balloon\":" + shown), std::string::npos);
  EXPECT_NE(ask("PATCH", "/machine-config", R"({"mem_size_mib":63})")
                .body.find("smaller than the previously set balloon device target size"),
            std::string::npos);
  EXPECT_NE(ask("GET", "/balloon/statistics").body.find("before starting the microVM"),
            std::string::npos);
}

TEST_F(MicrovmApiTest, TheRootStandsFirstAndAlone) {
  EXPECT_EQ(ask("PUT", "/drives/data", drive("data", false, "disk2")).status, 204);
  EXPECT_EQ(ask("PUT", "/drives/root", drive("root", true)).status, 204);
  EXPECT_NE(ask("PUT", "/drives/root2", drive("root2", true))
                .body.find("A root block device already exists!"),
            std::string::npos);
  EXPECT_EQ(ask("PUT", "/drives/root", drive("root", true, "disk2")).status, 204);
  const auto shown = Json::parse(ask("GET", "/vm/config").body);
  ASSERT_TRUE(shown);
  Fields fields(*shown, "object", {"drives"}, Fields::Unknown::kIgnored);
  const auto& drives = *fields.find("drives")->as<Json::Array>();
  ASSERT_EQ(drives.size(), 2u);
  EXPECT_NE(drives[0].text().find(R"("drive_id":"root")"), std::string::npos);
  EXPECT_NE(drives[0].text().find("disk2"), std::string::npos);
}

TEST_F(MicrovmApiTest, InterfacesHaveTapsAndAddressesOfTheirOwn) {
  const auto interface = [](const std::string& id, const std::string& tap,
                            const std::string& more) {
    return R"({"iface_id":")" + id + R"(","host_dev_name":")" + tap + "\"" + more + "}";
  };
  const std::string put = "/network-interfaces/";
  const HttpResponse first =
      ask("PUT", put + "a",
          interface("a", "hobapitest0", R"(,"guest_mac":"02:FC:00:00:00:01","mtu":1400)"));
  if (first.body.find("Operation not permitted") != std::string::npos) GTEST_SKIP() << first.body;
  ASSERT_EQ(first.status, 204) << first.body;
  EXPECT_NE(
      ask("PUT", put + "b", interface("b", "hobapitest0", "")).body.find("Open tap device failed"),
      std::string::npos);
  EXPECT_NE(
      ask("PUT", put + "b", interface("b", "hobapitest1", R"(,"guest_mac":"02:fc:00:00:00:01")"))
          .body.find("The MAC address is already in use"),
      std::string::npos);
  // The same one again may keep its tap.
  ASSERT_EQ(
      ask("PUT", put + "a",
          interface(
              "a", "hobapitest0",
              R"(,"guest_mac":"02:FC:00:00:00:01","rx_rate_limiter":{"ops":{"size":5,"refill_time":7,"one_time_burst":0},"bandwidth":{"size":0,"refill_time":1}})"))
          .status,
      204);
  EXPECT_NE(
      ask("GET", "/vm/config")
          .body.find(
              R"("network-interfaces":[{"iface_id":"a","host_dev_name":"hobapitest0","guest_mac":"02:fc:00:00:00:01","mtu":null,"rx_rate_limiter":{"bandwidth":null,"ops":{"size":5,"one_time_burst":null,"refill_time":7}},"tx_rate_limiter":null}])"),
      std::string::npos)
      << ask("GET", "/vm/config").body;
}

TEST_F(MicrovmApiTest, TheVsocksPathIsBoundAtOnceAndGivenBackByTheNext) {
  const auto vsock = [&](const std::string& path) {
    return R"({"guest_cid":3,"uds_path":")" + path + R"(","vsock_id":"old"})";
  };
  const std::string first = folder_ + "/first";
  const std::string second = folder_ + "/second";
  EXPECT_EQ(ask("PUT", "/vsock", vsock(first)).status, 204);
  EXPECT_EQ(access(first.c_str(), F_OK), 0);
  EXPECT_EQ(ask("PUT", "/vsock", vsock(first)).status, 204) << "its own path is free again";
  EXPECT_EQ(ask("PUT", "/vsock", vsock(second)).status, 204);
  EXPECT_NE(access(first.c_str(), F_OK), 0);
  EXPECT_NE(ask("GET", "/vm/config").body.find(R"("vsock":{"guest_cid":3,"uds_path":")" + second),
            std::string::npos);
  const HttpResponse taken = ask("PUT", "/vsock", vsock(folder_));
  EXPECT_EQ(taken.status, 400);
  EXPECT_NE(taken.body.find("Vsock config error: "), std::string::npos) << taken.body;
  EXPECT_EQ(ask("PUT", "/vsock", R"({"uds_path":"x"})").status, 400);
}

TEST_F(MicrovmApiTest, LimitsAndEnginesAreShown) {
  EXPECT_EQ(
      ask("PUT", "/drives/d",
          R"({"drive_id":"d","is_root_device":false,"io_engine":"Async","path_on_host":")" +
              folder_ +
              R"(/disk","rate_limiter":{"bandwidth":{"size":9,"one_time_burst":3,"refill_time":8}}})")
          .status,
      204);
  EXPECT_EQ(ask("PUT", "/entropy", "{}").status, 204);
  const std::string shown = ask("GET", "/vm/config").body;
  EXPECT_NE(
      shown.find(
          R"("rate_limiter":{"bandwidth":{"size":9,"one_time_burst":3,"refill_time":8},"ops":null},"io_engine":"Async")"),
      std::string::npos)
      << shown;
  EXPECT_NE(shown.find(R"("entropy":{"rate_limiter":null})"), std::string::npos) << shown;
}

TEST_F(MicrovmApiTest, MetadataIsKeptAndBounded) {
  EXPECT_EQ(ask("GET", "/mmds").body, "{}");
  EXPECT_EQ(ask("PUT", "/mmds", R"({"b":1,"a":{"x":1}})").status, 204);
  EXPECT_EQ(ask("PATCH", "/mmds", R"({"a":{"x":null,"y":2}})").status, 204);
  EXPECT_EQ(ask("GET", "/mmds").body, R"({"a":{"y":2},"b":1})");
  const HttpResponse refused = ask("PATCH", "/mmds", "{\"c\":\"" + std::string(51200, 'c') + "\"}");
  EXPECT_EQ(refused.status, 413);
  EXPECT_NE(refused.body.find("The MMDS patch request doesn't fit."), std::string::npos);
  EXPECT_EQ(ask("GET", "/mmds").body, R"({"a":{"y":2},"b":1})");
  EXPECT_TRUE(ask("PUT", "/mmds/config", R"({"network_interfaces":[]})").deprecated);
  EXPECT_FALSE(
      ask("PUT", "/mmds/config", R"({"version":"V2","network_interfaces":[]})").deprecated);
}

TEST_F(MicrovmApiTest, TheLogHasEachRequestAndItsOutcome) {
  const std::string path = folder_ + "/log";
  EXPECT_EQ(
      ask("PUT", "/logger", R"({"log_path":")" + path + R"(","level":"WARNING","show_level":true})")
          .status,
      204);
  EXPECT_EQ(ask("PUT", "/logger", R"({"level":"info"})").status, 204);
  ask("PUT", "/mmds", R"({"secret":1})");
  ask("PUT", "/machine-config", "{\n}");
  const std::string log = *read_file(path, 1 << 20);
  EXPECT_NE(log.find("[vm-1:fc_api:INFO] The request was executed successfully. Status code: 204"),
            std::string::npos)
      << log;
  EXPECT_NE(log.find(R"(a Put request on "/machine-config" with body "{\x0a}".)"),
            std::string::npos)
      << log;
  EXPECT_NE(log.find("fc_api:ERROR] Received Error. Status code: 400 Bad Request. Message: "),
            std::string::npos);
  EXPECT_EQ(log.find("secret"), std::string::npos);
  EXPECT_NE(ask("PUT", "/logger", R"({"level":"loud"})").body.find("unknown variant `loud`"),
            std::string::npos);
  EXPECT_NE(ask("PUT", "/logger", R"({"log_path":"/no/such/log"})").body.find("Logger error: "),
            std::string::npos);
}

TEST_F(MicrovmApiTest, MetricsAreStartedOnce) {
  const std::string body = R"({"metrics_path":")" + folder_ + R"(/metrics","unknown":1})";
  EXPECT_EQ(ask("PUT", "/metrics", body).status, 204);
  EXPECT_NE(ask("PUT", "/metrics", body)
                .body.find("Metrics error: Reinitialization of metrics not allowed."),
            std::string::npos);
  EXPECT_NE(ask("PUT", "/actions", R"({"action_type":"FlushMetrics"})")
                .body.find("not supported before starting the microVM."),
            std::string::npos);
}

TEST(VmmMetrics, LinesTellTheDifferenceToTheOneBefore) {
  char path[] = "/tmp/hob-vmm-metrics-XXXXXX";
  const Fd made(mkstemp(path));
  Metrics metrics("vm-2");
  ASSERT_TRUE(
      metrics.start({.path = path, .emit_id = true, .properties = *Json::parse(R"({"a":"b"})")}));
  metrics.write({{"block", {{"reads", 5}, {"took", 9, true}}}}, 17);
  metrics.write({{"block", {{"reads", 7}, {"took", 9, true}}}}, 18);
  EXPECT_EQ(
      *read_file(path, 1 << 20),
      R"({"utc_timestamp_ms":17,"id":"vm-2","properties":{"a":"b"},"block":{"reads":5,"took":9}}
{"utc_timestamp_ms":18,"id":"vm-2","properties":{"a":"b"},"block":{"reads":2,"took":9}}
)");
  EXPECT_EQ(unlink(path), 0);
}

TEST_F(MicrovmApiTest, AKernelThatIsNoneLeavesItConfigurable) {
  ASSERT_EQ(ask("PUT", "/boot-source", boot_source()).status, 204);
  const HttpResponse refused = ask("PUT", "/actions", R"({"action_type":"InstanceStart"})");
  EXPECT_EQ(refused.status, 400);
  EXPECT_NE(refused.body.find("Start microvm error: "), std::string::npos) << refused.body;
  EXPECT_EQ(ask("PUT", "/boot-source", boot_source()).status, 204);
}

TEST_F(MicrovmApiTest, ASnapshotIsLoadedIntoAFreshProcessAlone) {
  struct Case {
    const char* name;
    const char* body;
    const char* part;
    bool deprecated;
  };
  for (
      const Case& c : std::initializer_list<Case>{
          {"no memory", R"({"snapshot_path":"s"})",
           "missing field: either `mem_backend` or `mem_file_path` is required", false},
          {"memory twice",
           R"({"snapshot_path":"s","mem_file_path":"m","mem_backend":{"backend_type":"File","backend_path":"m"}})",
           "too many fields: either `mem_backend` or `mem_file_path` exclusively", false},
          {"no state", R"({"mem_file_path":"m"})", "missing field `snapshot_path`", false},
          {"another kind of memory",
           R"({"snapshot_path":"s","mem_backend":{"backend_type":"Tape","backend_path":"m"}})",
           "unknown variant `Tape`", false},
          {"an override that is none",
           R"({"snapshot_path":"s","mem_file_path":"m","network_overrides":[{"iface_id":"a"}]})",
           "missing field `host_dev_name`", false}}) {
    const HttpResponse response = ask("PUT", "/snapshot/load", c.body);
    EXPECT_EQ(response.status, 400) << c.name;
    EXPECT_NE(response.body.find(c.part), std::string::npos) << c.name << ": " << response.body;
    EXPECT_EQ(response.deprecated, c.deprecated) << c.name;
  }
  EXPECT_EQ(ended_, "") << "what cannot be read ends nothing";
  const std::string no_such = R"({"snapshot_path":"/no/such","mem_file_path":"m"})";
  ASSERT_EQ(ask("PUT", "/drives/root", drive("root", true, "nothing")).status, 400);
  const HttpResponse after = ask("PUT", "/snapshot/load", no_such);
  EXPECT_NE(after.body.find("not allowed after configuring boot-specific resources."),
            std::string::npos)
      << after.body;
  EXPECT_TRUE(after.deprecated) << "mem_file_path";
  EXPECT_EQ(ended_, "");
}

TEST_F(MicrovmApiTest, AnOverrideOfADeviceThatIsNotInTheSnapshotIsRefused) {
  SnapshotState state;
  state.machine.vcpus.resize(1);
  std::ofstream(folder_ + "/state", std::ios::binary) << write_state(state);
  struct Case {
    const char* override;
    const char* part;
  };
  for (const Case& c : std::initializer_list<Case>{
           {R"("network_overrides":[{"iface_id":"a","host_dev_name":"t","other":1}])",
            "Load snapshot error: the snapshot has no network interface a"},
           {R"("vsock_override":{"uds_path":"v"})",
            "Load snapshot error: the snapshot has no vsock device"}}) {
    const HttpResponse response =
        ask("PUT", "/snapshot/load",
            R"({"snapshot_path":")" + folder_ +
                R"(/state","mem_backend":{"backend_type":"File","backend_path":"m"},)" +
                c.override + "}");
    EXPECT_NE(response.body.find(c.part), std::string::npos) << response.body;
  }
}

TEST_F(MicrovmApiTest, ALoadThatFailsEndsTheProcess) {
  const HttpResponse response =
      ask("PUT", "/snapshot/load",
          R"({"snapshot_path":")" + folder_ +
              R"(/disk","mem_backend":{"backend_type":"File","backend_path":"m"}})");
  EXPECT_EQ(response.status, 400);
  EXPECT_NE(response.body.find("Load snapshot error: this is no snapshot of hob-vmm"),
            std::string::npos)
      << response.body;
  EXPECT_FALSE(response.deprecated);
  EXPECT_EQ(ended_, "Load snapshot error: this is no snapshot of hob-vmm");
}

TEST(VmmJson, OnlyWhatTheStandardHas) {
  for (const char* text : {"",       "{",         "[1,]",        "{\"a\":1,}", "01",
                           "1.",     "-",         "+1",          "NaN",        "'a'",
                           "\"\t\"", "\"\\x\"",   "\"\\ud800\"", "1 2",        "\xef\xbb\xbf{}",
                           "tru",    "{\"a\" 1}", "\"\xff\"",    "1e999",      "/**/1"})
    EXPECT_FALSE(Json::parse(text)) << text;
  const std::string deep(kJsonDepthMax, '[');
  EXPECT_FALSE(Json::parse("[" + deep + std::string(kJsonDepthMax + 1, ']')));
  for (const char* text :
       {"null", "true", "-7", "18446744073709551615", "[1,\"a\",{}]", R"({"a":"\u0001\"\\"})"}) {
    const auto json = Json::parse(text);
    ASSERT_TRUE(json) << text;
    EXPECT_EQ(json->text(), text);
  }
  EXPECT_EQ(Json::parse(R"("\u00e9\ud83d\ude00")")->text(), "\"é😀\"");
}

TEST(VmmHttp, RequestsAsTheyCome) {
  HttpParser parser(100);
  const std::string_view bytes =
      "PUT //a/ HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET http://h/b HTTP/1.0\r\n\r\n";
  std::vector<std::string> seen;
  for (const char byte : bytes) {
    parser.feed({&byte, 1});
    while (parser.next() == HttpParser::Step::kRequest)
      seen.push_back(parser.request.method + parser.request.path +
                     parser.request.body.value_or("-"));
  }
  EXPECT_EQ(seen, (std::vector<std::string>{"PUT/aabc", "GET/b-"}));
}

TEST(VmmHttp, WhatItRefuses) {
  struct Case {
    std::string bytes;
    const char* part;
  };
  for (const Case& c : std::initializer_list<Case>{
           {"POST / HTTP/1.1\r\n", "method"},
           {"get / HTTP/1.1\r\n", "method"},
           {"GET / HTTP/2.0\r\n", "version"},
           {"GET /\r\n", "malformed"},
           {"GET  / HTTP/1.1\r\n", "malformed"},
           {"GET x HTTP/1.1\r\n", "URI"},
           {"GET / HTTP/1.1\r\nno colon\r\n", "colon"},
           {"GET / HTTP/1.1\r\nContent-Length: 4294967296\r\n", "Content-Length"},
           {"GET / HTTP/1.1\r\nContent-Length: -1\r\n", "Content-Length"},
           {"GET / HTTP/1.1\r\nAccept-Encoding: identity;q=0\r\n", "Accept-Encoding"},
           {"PUT / HTTP/1.1\r\nContent-Length: 101\r\n\r\n",
            "size 101 is larger than the limit of 100"},
           {"GET /" + std::string(kHttpLineBytesMax, 'a'), "too long"},
           {"GET / HTTP/1.1\r\na: " + std::string(kHttpLineBytesMax, 'a'), "too long"}}) {
    HttpParser parser(100);
    parser.feed(c.bytes);
    EXPECT_EQ(parser.next(), HttpParser::Step::kRefused) << c.bytes.substr(0, 60);
    EXPECT_NE(parser.reason.find(c.part), std::string::npos) << parser.reason;
    parser.feed("GET /next HTTP/1.1\r\n\r\n");
    EXPECT_EQ(parser.next(), HttpParser::Step::kRequest);
  }
  HttpParser parser(100);
  parser.feed("PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
  EXPECT_EQ(parser.next(), HttpParser::Step::kContinue);
  parser.feed("x");
  EXPECT_EQ(parser.next(), HttpParser::Step::kRequest);
}

}  // namespace
}  // namespace hob::microvm
