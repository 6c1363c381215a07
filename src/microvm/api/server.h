// The API's unix socket on the machine's loop: accepts, parses, hands each request to one handler,
// answers in order.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "microvm/api/http.h"
#include "microvm/loop.h"

namespace hob::microvm {

inline constexpr size_t kConnectionsMax = 10;
// Answers that a client does not read; beyond, it is not read from either.
inline constexpr size_t kUnsentBytesMax = 1 << 20;

class ApiServer {
 public:
  using Handler = std::function<HttpResponse(const HttpRequest&)>;
  // kExists: `path` is there already. The loop must outlive it.
  static Result<std::unique_ptr<ApiServer>> listen(Loop& loop, const std::string& path,
                                                   size_t body_bytes_max, Handler handler);
  ~ApiServer();
  // What has been answered goes out before the process ends, as far as the sockets take it.
  void flush();

 private:
  struct Connection;
  ApiServer(Loop& loop, size_t body_bytes_max, Handler handler);
  void accept_all();
  void ready(int fd, uint32_t events);
  void take_requests(Connection& connection);
  bool send_some(Connection& connection);  // false: it is gone

  Loop& loop_;
  const size_t body_bytes_max_;
  Handler handler_;
  Fd listener_;
  std::map<int, std::unique_ptr<Connection>> connections_;
};

}  // namespace hob::microvm
