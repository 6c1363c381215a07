// Which target gets a request, through a whole edge.
#include "edge/test_rig.h"

namespace hob::edge {
namespace {

class BalancingTest : public ::testing::TestWithParam<Io> {};
INSTANTIATE_TEST_SUITE_P(Io, BalancingTest, ::testing::ValuesIn(available_io()), io_test_name);

TEST_P(BalancingTest, PrefersItsOwnZoneUntilThatIsBusier) {
  Backend far, near, farther;
  Rig rig(GetParam(), 1, {}, "", "", "", "", {}, "us-east-1b");
  link::Route route = rig.route({&far, &near, &farther});
  route.targets[0].zone = "us-east-1a";
  route.targets[1].zone = "us-east-1b";
  rig.apply({route});
  const std::string own = std::to_string(near.port());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(rig.get("/who").body, own);
  Connection busy = rig.connect();
  busy.write("GET /wait HTTP/1.1\r\nHost: test.local\r\n\r\n");
  EXPECT_TRUE(near.wait_for_requests(21));
  for (int i = 0; i < 20; ++i) EXPECT_NE(rig.get("/who").body, own);
  near.gate.open();
  EXPECT_EQ(read_answer(busy).body, "waited");
}

}  // namespace
}  // namespace hob::edge
