// Any bytes as a record: an error or a record that, written and read again, is the same.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/assert.h"
#include "base/record.h"

namespace {

enum class Colour { kRed, kDarkBlue };
BOOST_DESCRIBE_ENUM(Colour, kRed, kDarkBlue)

struct Inner {
  int number = 0;
  std::optional<std::string> text{};
};
BOOST_DESCRIBE_STRUCT(Inner, (), (number, text))

struct Sample {
  std::string name{};
  bool flag = false;
  uint16_t port = 0;
  Colour colour = Colour::kRed;
  hob::Instant at{};
  hob::Duration delay{};
  Inner inner{};
  std::vector<Inner> list{};
  std::map<std::string, int64_t> counts{};
};
BOOST_DESCRIBE_STRUCT(Sample, (), (name, flag, port, colour, at, delay, inner, list, counts))

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const hob::Result<Sample> read = hob::record::decode<Sample>(text);
  if (!read) return 0;
  const std::string written = hob::record::encode(*read);
  const hob::Result<Sample> again = hob::record::decode<Sample>(written);
  HOB_ASSERT(again.has_value());
  HOB_ASSERT(hob::record::encode(*again) == written);
  HOB_ASSERT(hob::record::decode<Sample>(hob::record::encode_over(*read, text)).has_value());
  return 0;
}
