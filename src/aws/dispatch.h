// From operation names to a handler's methods: what generated service.cc files are made of.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "aws/json_codec.h"
#include "aws/query_codec.h"
#include "aws/service.h"
#include "aws/wire_error.h"
#include "base/async.h"
#include "base/result.h"

namespace hob::aws {

template <class In>
using Document = std::conditional_t<std::is_same_v<In, JsonIn>, JsonDocument, QueryDocument>;

template <class In, class Request>
Result<Request> decode(const Call& call, std::string_view validation_error) {
  const Document<In> document(call);
  if (!document.parsed()) return fail(document.parsed().error());
  Problems problems;
  Request request;
  read(document.root(problems), request);
  HOB_CHECK(problems.result(validation_error));
  return request;
}

// Decodes, checks, calls, encodes. `wrapper`: the element around a Query answer's members.
template <class In, class Out, class Handler, class Request, class Response>
Async<Result<std::string>> serve(Handler& handler,
                                 Async<Result<Response>> (Handler::*method)(Request, Caller),
                                 const ServiceModel& model, std::string_view wrapper, Call call,
                                 Caller caller) {
  HOB_CO_TRY(Request request, decode<In, Request>(call, model.validation_error));
  const std::string request_id = caller.request_id;
  Result<Response> response = co_await (handler.*method)(std::move(request), std::move(caller));
  if (!response) co_return fail(std::move(response).error());
  if constexpr (std::is_void_v<Response>) {
    if (model.protocol == Protocol::kJson) co_return std::string();
    co_return Out(model, call.operation, wrapper).finish(request_id);
  } else {
    Out out(model, call.operation, wrapper);
    write(out, *response);
    co_return std::move(out).finish(request_id);
  }
}

template <class Handler>
struct Route {
  std::string_view operation{};
  Async<Result<std::string>> (*serve)(Handler&, Call, Caller) = nullptr;
};

// `routes` in alphabetical order; it and `model` are constants that live for ever.
template <class Handler>
class RoutedService final : public Service {
 public:
  RoutedService(Handler& handler, const ServiceModel& model, std::span<const Route<Handler>> routes)
      : handler_(handler), model_(model), routes_(routes) {}

  const ServiceModel& model() const override { return model_; }

  std::vector<std::string_view> operations() const override {
    std::vector<std::string_view> out;
    for (const Route<Handler>& route : routes_) out.push_back(route.operation);
    return out;
  }

  Async<Result<std::string>> call(Call call, Caller caller) override {
    const auto route =
        std::ranges::lower_bound(routes_, call.operation, {}, &Route<Handler>::operation);
    if (route == routes_.end() || route->operation != call.operation) {
      co_return fail(unknown_operation(call.operation));
    }
    co_return co_await route->serve(handler_, std::move(call), std::move(caller));
  }

 private:
  Handler& handler_;
  const ServiceModel& model_;
  std::span<const Route<Handler>> routes_;
};

}  // namespace hob::aws
