// What every role needs of its process: a word to the supervisor, metrics on a socket, the wait for
// the end.
#pragma once

#include <boost/asio/signal_set.hpp>
#include <functional>
#include <memory>
#include <string>

#include "base/async.h"
#include "base/http.h"
#include "base/result.h"
#include "daemon/options.h"

namespace hob::daemon {

// Writes a line to the supervisor; nobody listening is no error.
void tell_supervisor(const Options& options, const std::string& line);

// Serves GET /metrics on the listening socket `fd` for as long as the server is kept; nullptr
// without one. `render` gives the exposition.
std::unique_ptr<http::Server> serve_metrics(Executor executor, int fd,
                                            std::function<std::string()> render);

// Returns when SIGTERM or SIGINT has come: the moment to end.
Async<> wait_for_end();
// The next of the set's signals; SIGTERM if the set is cancelled.
Async<int> next_signal(boost::asio::signal_set& signals);

}  // namespace hob::daemon
