#include <cstddef>
#include <cstdint>
#include <string>

#include "base/assert.h"
#include "network/dns_message.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::network;
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const std::string& server : parse_resolvers(text)) HOB_ASSERT(server.size() <= size);
  if (const auto question = dns_question(text)) {
    HOB_ASSERT(question->size() <= size);
    const std::string failure = dns_servfail(text);
    HOB_ASSERT(answers_dns(text, failure));
    HOB_ASSERT(!dns_question(failure));
  }
  answers_dns(text, text);
  return 0;
}
