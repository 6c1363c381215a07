#include "host/listening.h"

#include <gtest/gtest.h>

#include "host/capacity.h"
#include "host/records.h"

namespace hob::host {
namespace {

constexpr const char* kHeading =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";

TEST(Listening, ReadsTheKernelsTable) {
  const std::string tcp =
      std::string(kHeading) +
      "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n"
      "   1: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n"
      "   2: 110012C6:1F90 010012C6:C350 01 00000000:00000000 00:00000000 00000000     0\n";
  const std::string tcp6 =
      std::string(kHeading) +
      "   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A\n"
      "   1: 00000000000000000000000001000000:0051 00000000000000000000000000000000:0000 0A\n"
      "   2: 0000000000000000FFFF00000100007F:0052 00000000000000000000000000000000:0000 0A\n";
  const ListeningPorts ports = parse_listening(tcp, tcp6);
  EXPECT_EQ(ports.reachable, (std::vector<int>{80, 8080}));
  EXPECT_EQ(ports.loopback_only, (std::vector<int>{81, 82, 3000}));
}

TEST(Listening, SkipsWhatItDoesNotUnderstand) {
  for (const char* text : {"", "\n\n", "   0: 00000000 x 0A\n", "a b c 0A", "0: 0:FFFFF 0:0 0A\n",
                           "0: 0:0 0:0 0A\n", "0: 0:xyz 0:0 0A\n"}) {
    EXPECT_TRUE(parse_listening(text, text).reachable.empty()) << text;
  }
}

TEST(Capacity, AppliesOvercommit) {
  const Machine small{.cores = 2, .memory_mib = 2048};
  EXPECT_EQ(capacity_of(small, 10, 10).cpu, 20480);
  EXPECT_EQ(capacity_of(small, 10, 10).memory_mib, 20480);
  EXPECT_EQ(capacity_of(small, 1, 1.5).memory_mib, 3072);
  EXPECT_EQ(capacity_of(small, 0, -1).cpu, 204);  // brought into the range
  EXPECT_GE(measure().cores, 1);
  EXPECT_GT(measure().memory_mib, 0);
}

TEST(Records, ComeBackAsTheyWere) {
  SavedTask saved;
  saved.assignment.task = TaskId{"aa"};
  saved.assignment.probe = link::Probe{};
  saved.state.runs = {{Instant(Duration(1)), Instant(Duration(2))},
                      {Instant(Duration(3)), std::nullopt}};
  saved.state.exit_code = 137;
  saved.state.stop_code = link::StopCode::kEssentialContainerExited;
  saved.state.last_lines = {"a"};
  saved.health = link::Health::kHealthy;
  saved.log_acked = {1, 2, 3};
  const Result<SavedTask> read = decode_saved_task(encode(saved));
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->assignment, saved.assignment);
  EXPECT_EQ(read->state, saved.state);
  EXPECT_EQ(read->health, saved.health);
  EXPECT_EQ(read->log_acked, saved.log_acked);
  EXPECT_FALSE(decode_saved_task("{").has_value());
  EXPECT_FALSE(decode_saved_task(R"({"health": "SPLENDID"})").has_value());
}

}  // namespace
}  // namespace hob::host
