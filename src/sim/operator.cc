// The region's operators: App Runner's API as clients call it, at random, and what they remember of
// the answers.
#include <algorithm>
#include <utility>

#include "sim/region.h"

namespace hob::sim {

namespace {

using namespace aws::apprunner;

const aws::Caller kCaller{.account = "000000000001", .region = "us-east-1"};
constexpr size_t kServicesMax = 3;

std::string image_of(Behaviour behaviour) {
  return "127.0.0.1:4566/" + repository_of(behaviour) + ":1";
}

SourceConfiguration source(Behaviour behaviour, int value, bool automatic) {
  SourceConfiguration source;
  source.image_repository = ImageRepository{
      .image_identifier = image_of(behaviour),
      .image_configuration =
          ImageConfiguration{.runtime_environment_variables = {{{"VALUE", std::to_string(value)}}}},
      .image_repository_type = "ECR"};
  source.auto_deployments_enabled = automatic;
  return source;
}

// How deployments go, and what they leave.
std::vector<Tag> draw_tags(SeededRandom& draws) {
  constexpr const char* kStrategies[] = {"rolling",       "rolling min=50 max=150",
                                         "blue-green",    "blue-green bake=20s",
                                         "linear 30% 5s", "canary 10% 5s, 50% 10s bake=5s"};
  constexpr const char* kKept[] = {"off", "10s", "1m", "15m"};
  std::vector<Tag> tags;
  if (draws.chance(40))
    tags.push_back(Tag{.key = "hob:strategy", .value = kStrategies[draws.below(6)]});
  if (draws.chance(30))
    tags.push_back(Tag{.key = "hob:keep-previous", .value = kKept[draws.below(4)]});
  if (draws.chance(25))
    tags.push_back(Tag{.key = "hob:sticky", .value = draws.chance(50) ? "5s" : "10m"});
  return tags;
}

}  // namespace

// A call that ends with control, as its client sees it: then nobody knows whether it was done.
template <class T>
Async<std::optional<Result<T>>> Region::call(std::function<Async<Result<T>>(runner::Api&)> ask) {
  if (!control_) co_return std::nullopt;
  struct Answer {
    explicit Answer(const Executor& executor) : given(executor) {}
    std::optional<Result<T>> result{};
    Event given;
  };
  const auto answer = std::make_shared<Answer>(executor_);
  // Set when the call's coroutine ends, in whatever way.
  const std::shared_ptr<void> ends(nullptr, [answer](void*) { answer->given.set(); });
  control_->calls().spawn("call", [ask, answer, ends, api = &control_->api()]() -> Async<> {
    answer->result = co_await ask(*api);
    answer->given.set();
  });
  co_await answer->given.wait();
  co_return std::move(answer->result);
}

Behaviour Region::draw_behaviour() {
  const int bad = faults_.bad_images_percent;
  if (operator_draws_.chance(bad)) {
    constexpr Behaviour kBad[] = {Behaviour::kExits, Behaviour::kMute, Behaviour::kMissing};
    return kBad[operator_draws_.below(3)];
  }
  return operator_draws_.chance(15)  ? Behaviour::kSlow
         : operator_draws_.chance(8) ? Behaviour::kDeaf
                                     : Behaviour::kGood;
}

template <class Response>
void Region::acknowledged(size_t which, const char* name,
                          const std::optional<Result<Response>>& answer,
                          const std::string& operation) {
  ClientService& client = clients_[which];
  ++totals_.operations;
  if (!answer) {
    note(fmt::format("{} s{}: no answer", name, which));
  } else if (!*answer) {
    note(fmt::format("{} s{}: {}", name, which, answer->error().message.substr(0, 90)));
  } else {
    note(fmt::format("{} s{}: {}", name, which, operation));
    if (!operation.empty()) {
      client.operations.push_back(operation);
      client.last_operation = operation;
    }
  }
}

Async<> Region::create(size_t which) {
  const int value = ++values_;
  CreateServiceRequest request{.service_name = fmt::format("service{}", values_)};
  const Behaviour behaviour = draw_behaviour();
  request.source_configuration = source(behaviour, value, operator_draws_.chance(40));
  request.instance_configuration = InstanceConfiguration{.cpu = "256", .memory = "512"};
  request.health_check_configuration = HealthCheckConfiguration{
      .interval = operator_draws_.between(1, 5), .timeout = 1, .unhealthy_threshold = 3};
  if (!scalings_.empty() && operator_draws_.chance(80))
    request.auto_scaling_configuration_arn = scalings_[operator_draws_.bits() % scalings_.size()];
  std::vector<Tag> tags = draw_tags(operator_draws_);
  if (operator_draws_.chance(30)) tags.push_back(Tag{.key = "hob:min-size", .value = "0"});
  if (!tags.empty()) request.tags = std::move(tags);
  clients_[which] = {.last_value = value, .image = repository_of(behaviour)};
  const auto answer = co_await call<CreateServiceResponse>(
      [request](runner::Api& api) { return api.create_service(request, kCaller); });
  if (answer && *answer) {
    ClientService& client = clients_[which];
    client.arn = (*answer)->service.service_arn;
    client.id = (*answer)->service.service_id;
    client.host_name = (*answer)->service.service_url.value_or("");
    client.last_update = (*answer)->operation_id;
  }
  acknowledged(which, ("create " + repository_of(behaviour)).c_str(), answer,
               answer && *answer ? (*answer)->operation_id : "");
}

Async<> Region::update(size_t which) {
  const int value = ++values_;
  const Behaviour behaviour = draw_behaviour();
  UpdateServiceRequest request{.service_arn = clients_[which].arn};
  if (operator_draws_.chance(75))
    request.source_configuration = source(behaviour, value, operator_draws_.chance(40));
  if (!scalings_.empty() && operator_draws_.chance(40))
    request.auto_scaling_configuration_arn = scalings_[operator_draws_.bits() % scalings_.size()];
  // Until the answer nobody knows what it sets, nor without one.
  const std::string before = std::exchange(clients_[which].last_update, {});
  const auto answer = co_await call<UpdateServiceResponse>(
      [request](runner::Api& api) { return api.update_service(request, kCaller); });
  ClientService& client = clients_[which];
  if (answer && *answer && request.source_configuration) {
    client.last_value = value;
    client.last_update = (*answer)->operation_id;
  } else if (answer && !*answer) {
    client.last_update = before;
  }
  acknowledged(which, ("update " + repository_of(behaviour)).c_str(), answer,
               answer && *answer ? (*answer)->operation_id : "");
}

Async<> Region::operate_once(size_t which) {
  ClientService& client = clients_[which];
  const std::string arn = client.arn;
  if (arn.empty() || client.delete_acknowledged) {
    co_await create(which);
    co_return;
  }
  const int draw = operator_draws_.below(100);
  if (draw < 30) {
    co_await update(which);
  } else if (draw < 40) {
    const auto answer = co_await call<StartDeploymentResponse>(
        [arn](runner::Api& api) { return api.start_deployment({.service_arn = arn}, kCaller); });
    acknowledged(which, "deploy", answer, answer && *answer ? (*answer)->operation_id : "");
  } else if (draw < 50) {
    const auto answer = co_await call<PauseServiceResponse>(
        [arn](runner::Api& api) { return api.pause_service({.service_arn = arn}, kCaller); });
    acknowledged(which, "pause", answer,
                 answer && *answer ? (*answer)->operation_id.value_or("") : "");
  } else if (draw < 62) {
    const auto answer = co_await call<ResumeServiceResponse>(
        [arn](runner::Api& api) { return api.resume_service({.service_arn = arn}, kCaller); });
    acknowledged(which, "resume", answer,
                 answer && *answer ? (*answer)->operation_id.value_or("") : "");
  } else if (draw < 70) {
    co_await remove(which);
  } else if (draw < 77) {
    const std::string before = std::exchange(clients_[which].last_update, {});
    const auto answer = co_await call<runner::Operation>(
        [arn](runner::Api& api) { return api.roll_back(arn, std::nullopt, kCaller); });
    if (answer && !*answer) clients_[which].last_update = before;
    acknowledged(which, "roll back", answer, answer && *answer ? (*answer)->id : "");
  } else if (draw < 81) {
    const auto answer = co_await call<runner::Operation>(
        [arn](runner::Api& api) { return api.promote_operation(arn, kCaller); });
    acknowledged(which, "promote", answer, "");
  } else if (draw < 87) {
    const auto answer = co_await call<runner::Operation>(
        [arn](runner::Api& api) { return api.cancel_operation(arn, kCaller); });
    acknowledged(which, "cancel", answer, "");
  } else if (draw < 93) {
    constexpr const char* kMins[] = {"0", "1", "2"};
    TagResourceRequest request{.resource_arn = arn};
    request.tags = draw_tags(operator_draws_);
    request.tags.push_back(Tag{.key = "hob:min-size", .value = kMins[operator_draws_.below(3)]});
    if (operator_draws_.chance(50))
      request.tags.push_back(Tag{.key = "hob:sleep-after", .value = "3s"});
    if (operator_draws_.chance(50))
      request.tags.push_back(Tag{.key = "hob:stop-after", .value = "20s"});
    const auto answer = co_await call<TagResourceResponse>(
        [request](runner::Api& api) { return api.tag_resource(request, kCaller); });
    acknowledged(which, "tag", answer, "");
  } else {
    const Behaviour behaviour = draw_behaviour();
    note("push " + repository_of(behaviour));
    registry_->push(repository_of(behaviour), "1", ++images_pushed_);
  }
}

Async<> Region::remove(size_t which) {
  clients_[which].delete_asked = true;
  const auto answer =
      co_await call<DeleteServiceResponse>([arn = clients_[which].arn](runner::Api& api) {
        return api.delete_service({.service_arn = arn}, kCaller);
      });
  clients_[which].delete_acknowledged = answer && *answer;
  acknowledged(which, "delete", answer, "");
}

Async<> Region::operate() {
  co_await make_scalings();
  const int pace = 1'000 * operator_draws_.between(3, 30);
  while (operating_) {
    co_await sleep_for(Duration(1 + operator_draws_.below(pace)));
    if (!operating_) co_return;
    const size_t which = operator_draws_.bits() % kServicesMax;
    while (clients_.size() <= which) clients_.emplace_back();
    co_await operate_once(which);
  }
}

Async<> Region::make_scalings() {
  for (int i = 0; i < 3; ++i) {
    CreateAutoScalingConfigurationRequest request{.auto_scaling_configuration_name =
                                                      fmt::format("scaling{}", i)};
    request.max_size = operator_draws_.between(1, 6);
    request.min_size = operator_draws_.between(1, *request.max_size);
    request.max_concurrency = operator_draws_.between(1, 5);
    const auto answer =
        co_await call<CreateAutoScalingConfigurationResponse>([request](runner::Api& api) {
          return api.create_auto_scaling_configuration(request, kCaller);
        });
    if (answer && *answer) {
      scalings_.push_back(
          (*answer)->auto_scaling_configuration.auto_scaling_configuration_arn.value_or(""));
    }
  }
}

Async<> Region::delete_all() {
  for (size_t which = 0; which < clients_.size(); ++which) {
    for (int tries = 0;
         tries < 300 && !clients_[which].arn.empty() && !clients_[which].delete_acknowledged;
         ++tries) {
      co_await remove(which);
      if (!clients_[which].delete_acknowledged) co_await sleep_for(Duration(10'000));
    }
  }
  // Those whose creation nobody answered, too.
  for (const auto& [id, service] : std::map(observed_->services())) {
    const std::string arn = fmt::format("arn:aws:apprunner:us-east-1:{}:service/{}/{}",
                                        service.account, service.name, id);
    for (int tries = 0; tries < 300; ++tries) {
      const auto* now = observed_->service(id);
      if (now == nullptr || now->status == runner::ServiceStatus::kDeleted) break;
      const auto answer = co_await call<DeleteServiceResponse>(
          [arn](runner::Api& api) { return api.delete_service({.service_arn = arn}, kCaller); });
      note(fmt::format("delete {}: {}", service.name,
                       answer && !*answer ? answer->error().message : "asked"));
      co_await sleep_for(Duration(10'000));
    }
  }
}

}  // namespace hob::sim
