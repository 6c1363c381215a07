#include "builder/records.h"

#include "base/record.h"

namespace hob::builder {

BOOST_DESCRIBE_STRUCT(Layer, (), (diff_id, digest, size, bytes, entries))
BOOST_DESCRIBE_STRUCT(BuildResult, (), (digest, size, runtime, port, start, secrets, reasons))

std::string encode(const Layer& layer) { return record::encode(layer); }
Result<Layer> decode_layer(std::string_view text) { return record::decode<Layer>(text); }
std::string encode(const BuildResult& result) { return record::encode(result); }
Result<BuildResult> decode_build_result(std::string_view text) {
  return record::decode<BuildResult>(text);
}

}  // namespace hob::builder
