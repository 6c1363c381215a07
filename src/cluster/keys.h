// Keys of cluster's records. The account comes first, so that one account's records are one prefix.
#pragma once

#include <string>
#include <string_view>

namespace hob::cluster {

inline constexpr std::string_view kServicesPrefix = "/cluster/services/";
inline constexpr std::string_view kTasksPrefix = "/cluster/tasks/";
inline constexpr std::string_view kHostsPrefix = "/cluster/hosts/";
inline constexpr std::string_view kEdgesPrefix = "/cluster/edges/";
inline constexpr std::string_view kCertificatesPrefix = "/cluster/certificates/";
inline constexpr std::string_view kChallengesPrefix = "/cluster/challenges/";

inline std::string service_key(std::string_view account, std::string_view cluster,
                               std::string_view name) {
  return std::string(kServicesPrefix)
      .append(account)
      .append("/")
      .append(cluster)
      .append("/")
      .append(name);
}
inline std::string task_key(std::string_view account, std::string_view cluster,
                            std::string_view id) {
  return std::string(kTasksPrefix)
      .append(account)
      .append("/")
      .append(cluster)
      .append("/")
      .append(id);
}
inline std::string host_key(std::string_view id) { return std::string(kHostsPrefix).append(id); }
inline std::string edge_key(std::string_view id) { return std::string(kEdgesPrefix).append(id); }
inline std::string certificates_of(std::string_view account) {
  return std::string(kCertificatesPrefix).append(account).append("/");
}
inline std::string certificate_key(std::string_view account, std::string_view id) {
  return certificates_of(account).append(id);
}
inline std::string challenge_key(std::string_view host_name) {
  return std::string(kChallengesPrefix).append(host_name);
}

}  // namespace hob::cluster
