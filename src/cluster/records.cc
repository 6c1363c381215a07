#include "cluster/records.h"

#include "base/record.h"

namespace hob::cluster {

std::string encode(const Service& service) { return record::encode(service); }
std::string encode(const Task& task) { return record::encode(task); }
std::string encode(const Host& host) { return record::encode(host); }
std::string encode(const Edge& edge) { return record::encode(edge); }
std::string encode(const Certificate& certificate) { return record::encode(certificate); }
std::string encode(const Challenge& challenge) { return record::encode(challenge); }
std::string encode_over(const Service& service, std::string_view previous) {
  return record::encode_over(service, previous);
}
std::string encode_over(const Task& task, std::string_view previous) {
  return record::encode_over(task, previous);
}
std::string encode_over(const Certificate& certificate, std::string_view previous) {
  return record::encode_over(certificate, previous);
}
Result<Service> decode_service(std::string_view json) { return record::decode<Service>(json); }
Result<Task> decode_task(std::string_view json) { return record::decode<Task>(json); }
Result<Host> decode_host(std::string_view json) { return record::decode<Host>(json); }
Result<Edge> decode_edge(std::string_view json) { return record::decode<Edge>(json); }
Result<Certificate> decode_certificate(std::string_view json) {
  return record::decode<Certificate>(json);
}
Result<Challenge> decode_challenge(std::string_view json) {
  return record::decode<Challenge>(json);
}

}  // namespace hob::cluster
