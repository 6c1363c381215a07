// The route table that edges get, from services and tasks. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cluster/records.h"
#include "link/messages.h"

namespace hob::cluster {

// Routes in order of the services' keys, targets in order of their ids: the same state gives the
// same table. A target is READY while its task is healthy, DRAINING from draining_since until it is
// told to stop. A service being deleted has no host names any more, so that nothing matches its
// route, which counts down its last requests. `services`: by key. `tasks`: those of a service, by
// its key; services without any have an empty route. A route names its versions where there is more
// than one, or one has host names of its own; weights as traffic_decision.h has them.
std::vector<link::Route> decide_routes(
    const std::map<std::string, const Service*>& services,
    const std::map<std::string, std::vector<const Task*>>& tasks);

// How requests to this deployment's tasks are served.
link::RequestSettings settings_of(const Service& service, const Deployment& deployment);

// The id by which edges know an account's certificate.
std::string shown_id(std::string_view account, std::string_view certificate);

// The certificates that the services' routings name, each with the host names it is shown for, in
// order of their keys. A service being deleted shows none. `certificates`: by key.
std::vector<link::EdgeCertificate> decide_certificates(
    const std::map<std::string, const Service*>& services,
    const std::map<std::string, const Certificate*>& certificates);

}  // namespace hob::cluster
