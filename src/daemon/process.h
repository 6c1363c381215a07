// What every role needs of its process: a word to the supervisor, metrics on a socket, the wait for
// the end.
#pragma once

#include <boost/asio/signal_set.hpp>
#include <memory>
#include <string>

#include "base/async.h"
#include "base/http.h"
#include "base/metrics.h"
#include "base/result.h"
#include "daemon/options.h"

namespace hob::daemon {

// Writes a line to the supervisor; nobody listening is no error.
void tell_supervisor(const Options& options, const std::string& line);

// Serves GET /metrics on the socket given with --metrics-fd; nullptr without one. `metrics` must
// outlive it.
std::unique_ptr<http::Server> serve_metrics(Executor executor, const Options& options,
                                            const Metrics& metrics);

// Returns when SIGTERM or SIGINT has come: the moment to end.
Async<> wait_for_end();
// The next of the set's signals; SIGTERM if the set is cancelled.
Async<int> next_signal(boost::asio::signal_set& signals);

}  // namespace hob::daemon
