#include "daemon/process.h"

#include <unistd.h>

#include <boost/asio/redirect_error.hpp>
#include <csignal>

#include "base/log.h"

namespace hob::daemon {

void tell_supervisor(const Options& options, const std::string& line) {
  if (options.ready_fd < 0) return;
  const std::string text = line + "\n";
  if (write(options.ready_fd, text.data(), text.size()) < 0)
    log::warn("the supervisor does not listen");
}

std::unique_ptr<http::Server> serve_metrics(Executor executor, int fd,
                                            std::function<std::string()> render) {
  if (fd < 0) return nullptr;
  auto server = std::make_unique<http::Server>(
      executor, Fd(fd),
      [render = std::move(render)](const http::Request& request, http::BodyReader&,
                                   http::Responder& responder) -> Async<> {
        http::Response response;
        if (request.path == "/metrics") {
          response.headers.set("Content-Type", "text/plain; version=0.0.4");
          response.body = render();
        } else {
          response.status = 404;
        }
        // The asker may have gone.
        static_cast<void>(co_await responder.respond(std::move(response)));
      });
  server->start();
  return server;
}

Async<> wait_for_end() {
  boost::asio::signal_set signals(co_await boost::asio::this_coro::executor, SIGTERM, SIGINT);
  log::info("ending", {{"signal", co_await next_signal(signals)}});
}

Async<int> next_signal(boost::asio::signal_set& signals) {
  boost::system::error_code error;
  const int number =
      co_await signals.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, error));
  co_return error ? SIGTERM : number;
}

}  // namespace hob::daemon
