// Any bytes on the API's socket: requests, bodies, and what they ask for.
#include <cstdint>

#include "base/assert.h"
#include "microvm/api/api.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace hob::microvm;
  static const std::unique_ptr<Loop> loop = *Loop::create();
  MicrovmApi api("fuzz", *loop, [](const VcpuEnd&) {});
  HttpParser parser(kHttpBodyBytesDefault);
  parser.feed({reinterpret_cast<const char*>(data), size});
  while (true) {
    const HttpParser::Step step = parser.next();
    if (step == HttpParser::Step::kMore || step == HttpParser::Step::kRefused) return 0;
    if (step != HttpParser::Step::kRequest) continue;
    const HttpRequest& request = parser.request;
    // What these name is written to, or made: their bodies alone are read.
    if (request.path == "/logger" || request.path == "/metrics" ||
        request.path.starts_with("/network-interfaces")) {
      const auto json = Json::parse(request.body.value_or(""));
      if (!json) continue;
      (void)read_logger(*json);
      (void)read_metrics(*json);
      (void)read_interface(*json);
      (void)read_interface_update(*json);
      continue;
    }
    HOB_ASSERT(!encode(api.handle(parser.request)).empty());
  }
}
