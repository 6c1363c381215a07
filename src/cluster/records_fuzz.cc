// Cluster's records from any bytes: an error or a record that, written and read again, is the same.
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "cluster/records.h"

namespace {

template <class Decode>
void check(std::string_view text, Decode decode) {
  const auto record = decode(text);
  if (!record) return;
  const std::string written = hob::cluster::encode(*record);
  const auto again = decode(written);
  HOB_ASSERT(again.has_value());
  HOB_ASSERT(hob::cluster::encode(*again) == written);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  check(text, hob::cluster::decode_service);
  check(text, hob::cluster::decode_task);
  check(text, hob::cluster::decode_host);
  check(text, hob::cluster::decode_edge);
  check(text, hob::cluster::decode_certificate);
  check(text, hob::cluster::decode_challenge);
  return 0;
}
