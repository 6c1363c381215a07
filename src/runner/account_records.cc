#include "runner/account_records.h"

#include "base/record.h"

namespace hob::runner {

std::string word(ConnectionStatus status) { return record::word(status); }
std::string encode(const Connection& connection) { return record::encode(connection); }
std::string encode(const ObservabilityConfiguration& configuration) {
  return record::encode(configuration);
}
std::string encode_over(const Connection& connection, std::string_view previous) {
  return record::encode_over(connection, previous);
}
std::string encode_over(const ObservabilityConfiguration& configuration,
                        std::string_view previous) {
  return record::encode_over(configuration, previous);
}
Result<Connection> decode_connection(std::string_view json) {
  return record::decode<Connection>(json);
}
Result<ObservabilityConfiguration> decode_observability(std::string_view json) {
  return record::decode<ObservabilityConfiguration>(json);
}

}  // namespace hob::runner
