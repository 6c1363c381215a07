// Which system calls a task may make: what Docker's default profile lets through for Docker's
// default capabilities, as data for an OCI bundle.
#pragma once

#include <boost/json/fwd.hpp>

namespace hob::sandbox {

boost::json::object seccomp_profile();

}  // namespace hob::sandbox
