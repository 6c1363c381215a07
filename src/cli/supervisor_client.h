// What `hob up` answers on its socket in DATA/run: for the commands that ask it.
#pragma once

#include <boost/json/fwd.hpp>
#include <string>

#include "base/async.h"
#include "base/result.h"
#include "cli/instance.h"

namespace hob::cli {

// kUnavailable: it does not run, or is of a version that knows no such path. kConflict: it will
// not, and says why. `query`: "drain_ms=1000", or empty.
Async<Result<boost::json::object>> ask_supervisor(Instance instance, std::string method,
                                                  std::string path, std::string query = {});

}  // namespace hob::cli
