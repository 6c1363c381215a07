#include "cli/supervisor_client.h"

#include <boost/json.hpp>

#include "base/http.h"
#include "cli/context.h"

namespace hob::cli {

namespace json = boost::json;

namespace {
constexpr size_t kStatusBytesMax = 64 * 1024;
}

Async<Result<json::object>> ask_supervisor(Instance instance, std::string method, std::string path,
                                           std::string query) {
  if (!is_running(instance)) {
    co_return fail(Code::kUnavailable, "Hob is not running with {}; start it with hob up",
                   instance.data.string());
  }
  http::Request request{.method = std::move(method),
                        .target = query.empty() ? path : path + "?" + query,
                        .path = path,
                        .query = query};
  const http::Endpoint endpoint{.host = (instance.run() / "supervisor.sock").string()};
  HOB_CO_TRY(http::Response response, context(co_await http::fetch(endpoint, std::move(request), "",
                                                                   kCallWithin, kStatusBytesMax),
                                              "asking the supervisor"));
  boost::system::error_code error;
  json::value value = json::parse(response.body, error);
  if (error || !value.is_object())
    co_return fail(Code::kCorrupt, "the supervisor answers nonsense");
  if (response.status == 404) {
    co_return fail(Code::kUnavailable,
                   "the Hob that runs knows no {} yet: restart it (systemctl restart hob)", path);
  }
  if (response.status != 200)
    co_return fail(Code::kConflict, "{}", text_at(value.as_object(), "error"));
  co_return std::move(value.as_object());
}

}  // namespace hob::cli
