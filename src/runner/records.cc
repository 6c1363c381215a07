#include "runner/records.h"

#include "base/record.h"

namespace hob::runner {

std::string word(ServiceStatus status) { return record::word(status); }
std::string word(OperationType type) { return record::word(type); }
std::string word(OperationStatus status) { return record::word(status); }
std::string word(RevisionState state) { return record::word(state); }
std::string word(DomainStatus status) { return record::word(status); }

std::string encode(const Service& service) { return record::encode(service); }
std::string encode(const Operation& operation) { return record::encode(operation); }
std::string encode(const Revision& revision) { return record::encode(revision); }
std::string encode(const AutoScalingConfiguration& configuration) {
  return record::encode(configuration);
}
std::string encode(const ScalingPointer& pointer) { return record::encode(pointer); }
std::string encode(const Domain& domain) { return record::encode(domain); }
std::string encode(const GivenCertificate& certificate) { return record::encode(certificate); }

std::string encode_over(const Service& service, std::string_view previous) {
  return record::encode_over(service, previous);
}
std::string encode_over(const Operation& operation, std::string_view previous) {
  return record::encode_over(operation, previous);
}
std::string encode_over(const Revision& revision, std::string_view previous) {
  return record::encode_over(revision, previous);
}
std::string encode_over(const AutoScalingConfiguration& configuration, std::string_view previous) {
  return record::encode_over(configuration, previous);
}
std::string encode_over(const Domain& domain, std::string_view previous) {
  return record::encode_over(domain, previous);
}
std::string encode_over(const GivenCertificate& certificate, std::string_view previous) {
  return record::encode_over(certificate, previous);
}

Result<Service> decode_service(std::string_view json) { return record::decode<Service>(json); }
Result<Operation> decode_operation(std::string_view json) {
  return record::decode<Operation>(json);
}
Result<Revision> decode_revision(std::string_view json) { return record::decode<Revision>(json); }
Result<AutoScalingConfiguration> decode_scaling(std::string_view json) {
  return record::decode<AutoScalingConfiguration>(json);
}
Result<ScalingPointer> decode_pointer(std::string_view json) {
  return record::decode<ScalingPointer>(json);
}
Result<Domain> decode_domain(std::string_view json) { return record::decode<Domain>(json); }
Result<GivenCertificate> decode_given_certificate(std::string_view json) {
  return record::decode<GivenCertificate>(json);
}

}  // namespace hob::runner
