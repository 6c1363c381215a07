#include "network/dns_message.h"

#include <gtest/gtest.h>

namespace hob::network {
namespace {

using namespace std::string_literals;

const std::string kQuery =
    "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07"
    "example\x03"
    "com\x00\x00\x01\x00\x01"s;

std::string with(std::string message, size_t at, char value) {
  message[at] = value;
  return message;
}

TEST(DnsMessage, TakesOnlyQueriesOfOneQuestion) {
  EXPECT_EQ(dns_question(kQuery), kQuery);
  EXPECT_EQ(dns_question(kQuery + "more"), kQuery);
  for (size_t size = 0; size < kQuery.size(); ++size)
    EXPECT_FALSE(dns_question(kQuery.substr(0, size))) << size;
  EXPECT_FALSE(dns_question(with(kQuery, 2, '\x81'))) << "an answer";
  EXPECT_FALSE(dns_question(with(kQuery, 2, '\x28'))) << "an update";
  EXPECT_FALSE(dns_question(with(kQuery, 5, 2))) << "two questions";
  EXPECT_FALSE(dns_question(with(kQuery, 5, 0))) << "none";
  EXPECT_FALSE(dns_question(with(kQuery, 12, '\xc0'))) << "a compressed name";
  std::string long_name = kQuery.substr(0, 12);
  for (int i = 0; i < 9; ++i) long_name += "\x1e" + std::string(30, 'a');
  EXPECT_FALSE(dns_question(long_name + "\0\0\1\0\1"s)) << "a name of 280 bytes";
}

TEST(DnsMessage, TellsItsAnswer) {
  const std::string answer = with(kQuery, 2, '\x81') + "records";
  EXPECT_TRUE(answers_dns(kQuery, answer));
  EXPECT_FALSE(answers_dns(kQuery, kQuery)) << "a question";
  EXPECT_FALSE(answers_dns(kQuery, with(answer, 0, 'x'))) << "another id";
  EXPECT_FALSE(answers_dns(kQuery, with(answer, 13, 'E'))) << "another letter case";
  EXPECT_FALSE(answers_dns(kQuery, "")) << "nothing";
}

TEST(DnsMessage, Fails) {
  const std::string failure = dns_servfail(kQuery + "additional");
  EXPECT_TRUE(answers_dns(kQuery, failure));
  EXPECT_EQ(failure.size(), kQuery.size());
  EXPECT_EQ(failure[3] & 0x0f, 2);
}

TEST(DnsMessage, ReadsResolvConf) {
  EXPECT_EQ(parse_resolvers("# x\nsearch a\nnameserver 10.0.0.1\n nameserver "
                            "10.0.0.9\nnameserver\t::1 ;y\nnameserverx\n"
                            "nameserver\nnameserver 3\nnameserver 4\n"),
            (std::vector<std::string>{"10.0.0.1", "::1", "3"}));
  EXPECT_TRUE(parse_resolvers("").empty());
}

}  // namespace
}  // namespace hob::network
