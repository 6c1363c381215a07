// For tests: runs one coroutine on a loop of its own until it and all it started have ended.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <optional>

#include "base/async.h"

namespace hob::testing {

// `body` gets the loop's executor. Its exceptions come out here.
template <class F>
void run_loop(F body) {
  boost::asio::io_context loop(1);
  std::exception_ptr failure;
  boost::asio::co_spawn(loop, body(Executor(loop.get_executor())),
                        [&failure](std::exception_ptr exception) { failure = exception; });
  loop.run();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace hob::testing
