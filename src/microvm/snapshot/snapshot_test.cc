#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>

#include "microvm/snapshot/encoding.h"
#include "microvm/snapshot/memory_file.h"
#include "microvm/snapshot/state_file.h"
#include "microvm/testing.h"

namespace hob::microvm {
namespace {

using testing::get;
using testing::memory_of;
using testing::put;

struct Inner {
  uint16_t number = 7;
  std::vector<std::string> texts{};
};
BOOST_DESCRIBE_STRUCT(Inner, (), (number, texts))
struct Outer {
  bool flag = false;
  std::optional<Inner> inner{};
  kvm_mp_state raw{};
};
BOOST_DESCRIBE_STRUCT(Outer, (), (flag, inner, raw))
// As a later version has it.
struct Grown {
  uint16_t number = 7;
  std::vector<std::string> texts{};
  uint32_t added = 42;
};
BOOST_DESCRIBE_STRUCT(Grown, (), (number, texts, added))

TEST(SnapshotEncoding, WhatIsWrittenIsRead) {
  const Outer outer{
      .flag = true, .inner = Inner{.number = 9, .texts = {"a", ""}}, .raw = {.mp_state = 3}};
  const auto read = decode<Outer>(encode(outer));
  ASSERT_TRUE(read);
  EXPECT_TRUE(read->flag);
  EXPECT_EQ(read->inner->number, 9);
  EXPECT_EQ(read->inner->texts, (std::vector<std::string>{"a", ""}));
  EXPECT_EQ(read->raw.mp_state, 3u);
}

TEST(SnapshotEncoding, AMemberThatAnOlderFileHasNotGotKeepsItsDefault) {
  const auto read = decode<Grown>(encode(Inner{.number = 1}));
  ASSERT_TRUE(read);
  EXPECT_EQ(read->number, 1);
  EXPECT_EQ(read->added, 42u);
  EXPECT_FALSE(decode<Inner>(encode(Grown{}))) << "but none is left out unknown";
}

TEST(SnapshotEncoding, NothingButTheRecordIsTaken) {
  const std::string whole = encode(Outer{.inner = Inner{.texts = {"abc"}}});
  for (size_t bytes = 0; bytes < whole.size(); ++bytes)
    EXPECT_FALSE(decode<Outer>(whole.substr(0, bytes))) << bytes;
  EXPECT_FALSE(decode<Outer>(whole + "x"));
  std::string many = encode(std::vector<uint8_t>(kElementsMax));
  EXPECT_TRUE(decode<std::vector<uint8_t>>(many));
  EXPECT_FALSE(decode<std::vector<uint8_t>>(encode(std::vector<uint8_t>(kElementsMax + 1))));
  EXPECT_FALSE(decode<bool>("\x02"));
}

SnapshotState some_state() {
  SnapshotState state{.configuration = {.vcpu_count = 2, .memory_mib = 256},
                      .boot_source = BootSource{.kernel_path = "/k"},
                      .drives = {{.id = "root", .path = "/disk", .root = true}}};
  state.interfaces = {{.id = "a", .tap = "t", .mac = MacAddress{2, 3}, .mtu = 1400}};
  state.interfaces[0].send.operations = {.size = 5, .refill_ms = 7};
  state.drives[0].asynchronous = true;
  state.drives[0].limit.bandwidth = {.size = 9, .refill_ms = 8};
  state.vsock = {.guest_cid = 3, .path = "/v"};
  state.entropy.emplace().bandwidth = {.size = 3, .refill_ms = 4};
  state.mmds = {.version = MmdsVersion::kV2, .interfaces = {"a"}};
  state.machine.vcpus.resize(2);
  state.machine.vcpus[1].msrs = {{.index = 0x10, .reserved = 0, .data = 5}};
  state.machine.devices = {{.type = 2, .transport = {.queues = {{.size = 8}}}, .device = "x"}};
  return state;
}

TEST(SnapshotFile, HoldsTheWholeState) {
  const auto read = read_state(write_state(some_state()));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->configuration.memory_mib, 256u);
  EXPECT_EQ(read->boot_source->kernel_path, "/k");
  EXPECT_TRUE(read->drives.at(0).root);
  EXPECT_EQ(read->machine.vcpus.at(1).msrs.at(0).data, 5u);
  EXPECT_EQ(read->machine.devices.at(0).transport.queues.at(0).size, 8);
  EXPECT_EQ(read->interfaces.at(0).mac, (MacAddress{2, 3}));
  EXPECT_EQ(read->interfaces.at(0).send.operations->refill_ms, 7u);
  EXPECT_EQ(read->vsock->path, "/v");
  EXPECT_TRUE(read->drives.at(0).asynchronous);
  EXPECT_EQ(read->drives.at(0).limit.bandwidth->size, 9u);
  EXPECT_EQ(read->entropy->bandwidth->size, 3u);
  EXPECT_EQ(read->mmds->version, MmdsVersion::kV2);
  EXPECT_EQ(read->mmds->interfaces.at(0), "a");
  EXPECT_EQ(encode(*read), encode(some_state()));
}

TEST(SnapshotFile, ADamagedOrForeignOneIsRefused) {
  const std::string file = write_state(some_state());
  for (size_t at = 0; at < file.size(); at += 13) {
    std::string damaged = file;
    damaged[at] ^= 0x20;
    EXPECT_FALSE(read_state(damaged)) << at;
    EXPECT_FALSE(read_state(file.substr(0, at))) << at;
  }
  const auto refusal = [](std::string bytes) { return read_state(bytes).error().message; };
  EXPECT_NE(refusal(std::string("\0\0\x64\x48\x98\x01\x71\x07", 8) + std::string(100, 'x'))
                .find("no snapshot of hob-vmm"),
            std::string::npos)
      << "Firecracker's";
}

TEST(SnapshotFile, AnotherMajorOrANewerMinorVersionIsRefusedAndNamed) {
  struct Case {
    uint16_t major, minor, patch;
    bool read;
  };
  const SnapshotVersion ours;
  for (const Case& c : {Case{ours.major, ours.minor, 9, true},
                        Case{ours.major, static_cast<uint16_t>(ours.minor + 1), 0, false},
                        Case{static_cast<uint16_t>(ours.major + 1), 0, 0, false},
                        Case{static_cast<uint16_t>(ours.major - 1), 9, 0, false}}) {
    std::string file = write_state(some_state());
    std::memcpy(file.data() + 8, &c.major, 2);
    std::memcpy(file.data() + 10, &c.minor, 2);
    std::memcpy(file.data() + 12, &c.patch, 2);
    const uint64_t sum = crc64(std::string_view(file).substr(0, file.size() - 8));
    std::memcpy(file.data() + file.size() - 8, &sum, 8);
    const auto state = read_state(file);
    EXPECT_EQ(state.has_value(), c.read) << c.major << '.' << c.minor;
    EXPECT_EQ(read_version(file)->major, c.major);
    if (!c.read) {
      EXPECT_NE(state.error().message.find(read_version(file)->text()), std::string::npos);
    }
  }
  EXPECT_EQ(crc64("123456789"), 0x995dc9bbdf1939fau) << "its published check value";
}

class SnapshotMemory : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/hob-vmm-test-XXXXXX";
    folder_ = mkdtemp(name);
  }
  void TearDown() override { EXPECT_TRUE(remove_tree(folder_)); }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  std::string content(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string folder_;
};

constexpr uint64_t kBytes = 1 << 20;

TEST_F(SnapshotMemory, AFullOneIsTheMemoryWithHolesForZero) {
  GuestMemory memory = memory_of(kBytes);
  put(memory, 0x5000, "five");
  std::ofstream(path("full")) << std::string(2 * kBytes, 'x');  // what was there before goes
  ASSERT_TRUE(write_memory(memory, path("full"), SnapshotKind::kFull));
  std::string want(kBytes, '\0');
  want.replace(0x5000, 4, "five");
  EXPECT_EQ(content("full"), want);
  struct stat status {};
  ASSERT_EQ(stat(path("full").c_str(), &status), 0);
  EXPECT_LE(status.st_blocks * 512, 8192);

  const auto restored = map_memory(path("full"), kBytes, false);
  ASSERT_TRUE(restored) << restored.error().message;
  EXPECT_EQ(get(*restored, 0x5000, 4), "five");
  EXPECT_FALSE(map_memory(path("full"), 2 * kBytes, false)) << "of another size";
  EXPECT_FALSE(map_memory(folder_, kBytes, false)) << "no regular file";
}

TEST_F(SnapshotMemory, ADiffOverTheFullOneMakesTheLaterFullOne) {
  for (const bool tracked : {true, false}) {
    GuestMemory origin = memory_of(kBytes);
    put(origin, 0x5000, "five");
    put(origin, 0x9000, "nine");
    ASSERT_TRUE(write_memory(origin, path("full"), SnapshotKind::kFull));
    auto restored = map_memory(path("full"), kBytes, tracked);
    ASSERT_TRUE(restored);
    EXPECT_EQ(get(*restored, 0x9000, 4), "nine");
    put(*restored, 0x5000, std::string_view("\0\0\0\0", 4));
    put(*restored, 0x43000, "new");
    unlink(path("diff").c_str());
    ASSERT_TRUE(write_memory(*restored, path("diff"), SnapshotKind::kDiff));
    const std::string diff = content("diff");
    EXPECT_EQ(diff.size(), kBytes);
    EXPECT_EQ(diff.substr(0x43000, 3), "new");
    EXPECT_EQ(diff.substr(0x9000, 4), std::string(4, '\0')) << "not written: not in it";

    // In place, into what it was restored from, which stays mapped.
    put(*restored, 0x43000, "newer");
    ASSERT_TRUE(write_memory(*restored, path("full"), SnapshotKind::kFull));
    EXPECT_EQ(content("full").substr(0x43000, 5), "newer");
    EXPECT_EQ(content("full").substr(0x5000, 4), std::string(4, '\0'));
    EXPECT_EQ(content("full").substr(0x9000, 4), "nine");
  }
}

TEST_F(SnapshotMemory, ADiffGoesIntoAFileOfItsSizeAlone) {
  GuestMemory memory = memory_of(kBytes, true);
  std::ofstream(path("other")) << "something else";
  EXPECT_FALSE(write_memory(memory, path("other"), SnapshotKind::kDiff));
  EXPECT_EQ(content("other"), "something else");
  put(memory, 0x1000, "one");
  EXPECT_FALSE(write_memory(memory, "/no/such/folder", SnapshotKind::kDiff));
  ASSERT_TRUE(write_memory(memory, path("diff"), SnapshotKind::kDiff));
  EXPECT_EQ(content("diff").substr(0x1000, 3), "one") << "a failure forgets no page";
}

}  // namespace
}  // namespace hob::microvm
