#include "network/subnets.h"

#include <gtest/gtest.h>

namespace hob::network {
namespace {

TEST(Subnets, OneForEachZone) {
  struct Case {
    const char* zone;
    const char* network;
    const char* gateway;
  };
  for (const Case& c :
       {Case{"a", "198.18.0.0", "198.18.0.1"}, Case{"us-east-1b", "198.18.16.0", "198.18.16.1"},
        Case{"eu-west-3c", "198.18.32.0", "198.18.32.1"}}) {
    const auto subnet = subnet_of(c.zone);
    ASSERT_TRUE(subnet.has_value()) << c.zone;
    EXPECT_EQ(subnet->network, c.network);
    EXPECT_EQ(subnet->gateway, c.gateway);
    EXPECT_EQ(subnet->prefix_length, 20);
  }
  for (const char* zone : {"", "d", "us-east-1", "A"})
    EXPECT_EQ(subnet_of(zone).error().code, Code::kNotFound) << zone;
}

TEST(Subnets, AllocatesGoingRound) {
  struct Case {
    const char* name;
    const char* zone;
    std::set<std::string> taken;
    const char* last;
    const char* want;
  };
  for (const Case& c : {
           Case{"the first four are AWS's", "a", {}, "", "198.18.0.4"},
           Case{"the one after the last", "a", {}, "198.18.0.4", "198.18.0.5"},
           Case{
               "past what is taken", "a", {"198.18.0.5", "198.18.0.6"}, "198.18.0.4", "198.18.0.7"},
           Case{"over the third byte", "a", {}, "198.18.0.255", "198.18.1.0"},
           Case{"the broadcast address is nobody's", "a", {}, "198.18.15.254", "198.18.0.4"},
           Case{"another subnet's last is none", "b", {}, "198.18.0.9", "198.18.16.4"},
           Case{"nonsense is none", "c", {}, "x", "198.18.32.4"},
           Case{"a reserved address is none", "a", {}, "198.18.0.2", "198.18.0.4"},
       }) {
    EXPECT_EQ(allocate(c.zone, c.taken, c.last), c.want) << c.name;
  }
  EXPECT_EQ(allocate("d", {}), std::nullopt);
}

TEST(Subnets, GivesOutEveryAddressOnceAndThenNone) {
  std::set<std::string> taken;
  std::string last;
  for (int i = 0; i < 4096 - 5; ++i) {
    const auto address = allocate("b", taken, last);
    ASSERT_TRUE(address.has_value()) << i;
    ASSERT_TRUE(taken.insert(*address).second) << *address;
    last = *address;
  }
  EXPECT_EQ(allocate("b", taken, last), std::nullopt);
  taken.erase("198.18.20.7");
  EXPECT_EQ(allocate("b", taken, last), "198.18.20.7");
}

}  // namespace
}  // namespace hob::network
