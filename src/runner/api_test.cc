// The API and the controller over the real store and logs. What cluster would do is written by
// hand; the registry is a simulated one (registry_images_test.cc has the real).
#include "runner/api.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>

#include "base/sealed.h"
#include "cluster/keys.h"
#include "cluster/records.h"
#include "observe/logs.h"
#include "runner/keys.h"
#include "runner/records.h"
#include "runner/runner.h"
#include "store/sqlite_store.h"

namespace hob::runner {
namespace {

using namespace std::chrono_literals;
using namespace aws::apprunner;
using cluster::RolloutState;

const std::string kAccount = "000000000001";
const std::string kDigestOne = "sha256:" + std::string(64, '1');
const std::string kDigestTwo = "sha256:" + std::string(64, '2');
const std::string kImage = "127.0.0.1:4566/hello:1";

class StepClock final : public Clock {
 public:
  // Every look is a millisecond later, so that no two operations are of one instant.
  Instant now() const override { return at += 1ms; }
  mutable Instant at{Duration(1'795'430'000'000)};
};

// A registry with one repository, "127.0.0.1:4566/hello".
class SimImages final : public Images {
 public:
  explicit SimImages(const Executor& executor) : changed_(executor) {}
  void push(const std::string& digest, const std::string& tag) {
    tags_[kRepository + tag] = digest;
    changed_.set();
  }
  Async<Result<ResolvedImage>> resolve(std::string, std::string identifier) override {
    if (!is_ours(identifier))
      co_return ResolvedImage{.source = {.registry = "elsewhere", .reference = identifier}};
    if (const size_t at = identifier.find('@'); at != std::string::npos) {
      const std::string digest = identifier.substr(at + 1);
      co_return ResolvedImage{
          .source = {.registry = "127.0.0.1:4566", .repository = "hello", .reference = digest},
          .digest = digest};
    }
    const auto found = tags_.find(identifier);
    if (found == tags_.end()) co_return fail(Code::kNotFound, "there is no image {}", identifier);
    co_return ResolvedImage{
        .source = {.registry = "127.0.0.1:4566", .repository = "hello", .reference = found->second},
        .digest = found->second};
  }
  Result<void> check(const std::string& identifier) const override {
    if (identifier.starts_with("UPPER")) return fail(Code::kInvalid, "a repository is lower case");
    return {};
  }
  Result<std::string> at_digest(const std::string& identifier,
                                const std::string& digest) const override {
    return identifier.substr(0, identifier.rfind(':')) + "@" + digest;
  }
  bool is_ours(const std::string& identifier) const override {
    return identifier.starts_with(kRepository.substr(0, kRepository.size() - 1));
  }
  Async<Result<void>> changed() override {
    co_await changed_.wait();
    changed_.reset();
    co_return Result<void>();
  }

 private:
  const std::string kRepository = "127.0.0.1:4566/hello:";
  std::map<std::string, std::string> tags_;
  Event changed_;
};

// The store, with somebody who writes just before the controller does.
class MeddledStore final : public store::Store {
 public:
  explicit MeddledStore(store::Store& store) : store_(store) {}
  Async<Result<std::optional<store::Entry>>> get(std::string key) override {
    return store_.get(std::move(key));
  }
  Async<Result<store::Listing>> list(std::string prefix) override {
    return store_.list(std::move(prefix));
  }
  Async<Result<store::Revision>> commit(store::Transaction transaction) override {
    const auto puts = [&](const std::string& key) { return transaction.put.contains(key); };
    if (!meddle_before.empty() && puts(meddle_before)) {
      meddle_before.clear();
      HOB_CO_CHECK(co_await store_.commit(meddling));
    }
    co_return co_await store_.commit(std::move(transaction));
  }
  std::unique_ptr<store::Watch> watch(std::string prefix, store::Revision from) override {
    return store_.watch(std::move(prefix), from);
  }

  std::string meddle_before{};  // the first commit that puts this key
  store::Transaction meddling{};

 private:
  store::Store& store_;
};

class ApiTest : public testing::Test {
 protected:
  ApiTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "hob-runner-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    logs_ = std::make_unique<observe::Logs>(directory_ / "logs", pool_, clock_);
    EXPECT_TRUE(run(logs_->open()));
    open();
    push(kDigestOne);
  }
  ~ApiTest() override {
    close();
    logs_.reset();
    std::filesystem::remove_all(directory_);
  }

  // What is answered must be there when the process starts again.
  void open() {
    auto opened = store::open_sqlite(directory_ / "store.db", loop_.get_executor());
    HOB_ASSERT(opened.has_value());
    store_ = std::move(*opened);
    meddled_ = std::make_unique<MeddledStore>(*store_);
    runner_ = std::make_unique<Runner>(
        *meddled_, loop_.get_executor(), clock_, random_, images_, *logs_, DomainPorts{},
        RunnerOptions{.sealing_key = Secret<std::string>(std::string(kSealingKeyBytes, 'k'))});
  }
  void close() {
    runner_.reset();
    meddled_.reset();
    store_.reset();
    loop_.restart();
    loop_.poll();
  }

  template <class T>
  T run(Async<T> work) {
    std::optional<T> value;
    scope_.spawn("test", [](Async<T> body, std::optional<T>& into) -> Async<> {
      into.emplace(co_await std::move(body));
    }(std::move(work), value));
    loop_.restart();
    while (!value) loop_.run_one();
    return std::move(*value);
  }
  Api& api() { return runner_->api(); }
  aws::Caller caller(const std::string& account = kAccount) {
    return {.account = account, .region = "us-east-1"};
  }

  void commit(store::Transaction transaction) {
    ASSERT_TRUE(run(store_->commit(std::move(transaction))));
  }
  void push(const std::string& digest, const std::string& tag = "1") { images_.push(digest, tag); }

  CreateServiceRequest request(const std::string& name = "hello") {
    CreateServiceRequest request{.service_name = name};
    request.source_configuration.image_repository = ImageRepository{
        .image_identifier = kImage,
        .image_configuration =
            ImageConfiguration{.runtime_environment_variables = {{{"GREETING", "hi"}}},
                               .port = "80"},
        .image_repository_type = "ECR"};
    return request;
  }
  aws::apprunner::Service create(CreateServiceRequest create_request) {
    auto created = run(api().create_service(std::move(create_request), caller()));
    EXPECT_TRUE(created) << created.error().message;
    return created ? created->service : aws::apprunner::Service{};
  }
  aws::apprunner::Service describe(const std::string& arn) {
    auto described = run(api().describe_service({.service_arn = arn}, caller()));
    EXPECT_TRUE(described) << described.error().message;
    return described ? described->service : aws::apprunner::Service{};
  }
  std::vector<OperationSummary> operations(const std::string& arn) {
    return run(api().list_operations({.service_arn = arn}, caller()))
        ->operation_summary_list.value();
  }

  std::string cluster_path(const std::string& id) {
    return cluster::service_key(kAccount, "apprunner", id);
  }
  std::optional<cluster::Service> cluster_service(const std::string& id) {
    const auto entry = run(store_->get(cluster_path(id)));
    return *entry ? std::optional(cluster::decode_service((*entry)->value).value()) : std::nullopt;
  }
  // What cluster would write.
  void end_rollout(const std::string& id, RolloutState rollout, const std::string& reason = "") {
    auto service = cluster_service(id).value();
    service.deployments.at(0).rollout = rollout;
    service.deployments.at(0).reason = reason;
    service.deployments.at(0).last_lines = {"the last words"};
    if (rollout == RolloutState::kCompleted) service.deployments.resize(1);
    commit({.put = {{cluster_path(id), cluster::encode(service)}}});
  }
  // Runs the loop until it holds; the controller's own steps are all that happens.
  template <class F>
  void wait(F holds) {
    loop_.restart();
    for (int i = 0; i < 2'000 && !holds(); ++i) loop_.run_for(1ms);
    ASSERT_TRUE(holds());
  }
  void wait_status(const std::string& arn, const std::string& status) {
    wait([&] { return describe(arn).status == status; });
  }
  std::string create_running(CreateServiceRequest create_request) {
    const auto service = create(std::move(create_request));
    wait([&] { return cluster_service(service.service_id).has_value(); });
    end_rollout(service.service_id, RolloutState::kCompleted);
    wait_status(service.service_arn, "RUNNING");
    return service.service_arn;
  }
  std::string id_of(const std::string& arn) { return arn.substr(arn.rfind('/') + 1); }
  std::string log(const std::string& arn, const std::string& stream) {
    const auto service = describe(arn);
    const auto page = run(logs_->read(
        {.name = {kAccount,
                  "/aws/apprunner/" + service.service_name + "/" + service.service_id + "/service",
                  stream}}));
    std::string all;
    if (page)
      for (const auto& event : page->events) all += event.text + "\n";
    return all;
  }
  void stop() {
    run([](Runner& runner) -> Async<bool> {
      co_await runner.stop();
      co_return true;
    }(*runner_));
  }

  boost::asio::io_context loop_{1};
  AsyncScope scope_{loop_.get_executor()};
  BlockingPool pool_{1};
  StepClock clock_;
  SystemRandom random_;
  std::filesystem::path directory_;
  std::unique_ptr<observe::Logs> logs_;
  std::unique_ptr<store::Store> store_;
  std::unique_ptr<MeddledStore> meddled_;
  SimImages images_{loop_.get_executor()};
  std::unique_ptr<Runner> runner_;
};

TEST_F(ApiTest, ACreatedServiceShowsEveryDefault) {
  const auto service = create(request());
  EXPECT_EQ(service.status, "OPERATION_IN_PROGRESS");
  EXPECT_EQ(service.service_id.size(), 32u);
  EXPECT_EQ(service.service_arn,
            "arn:aws:apprunner:us-east-1:000000000001:service/hello/" + service.service_id);
  EXPECT_TRUE(service.service_url->ends_with(".us-east-1.hob.localhost")) << *service.service_url;
  EXPECT_EQ(service.service_url->find('.'), 10u);
  EXPECT_EQ(service.source_configuration.auto_deployments_enabled, true);
  EXPECT_EQ(service.source_configuration.image_repository->image_configuration->port, "80");
  EXPECT_EQ(service.instance_configuration.cpu, "1024");
  EXPECT_EQ(service.instance_configuration.memory, "2048");
  EXPECT_EQ(*service.health_check_configuration,
            (HealthCheckConfiguration{"TCP", "/", 5, 2, 1, 5}));
  EXPECT_EQ(
      service.auto_scaling_configuration_summary.auto_scaling_configuration_arn,
      "arn:aws:apprunner:us-east-1:000000000001:autoscalingconfiguration/DefaultConfiguration/1/"
      "00000000000000000000000000000001");
  EXPECT_EQ(service.network_configuration.ip_address_type, "IPV4");
  EXPECT_FALSE(service.observability_configuration);
  close();
  open();
  EXPECT_EQ(describe(service.service_arn), service);
  EXPECT_EQ(operations(service.service_arn).at(0).status, "PENDING");
}

TEST_F(ApiTest, RefusesWhatCannotBe) {
  struct Case {
    const char* name;
    std::function<void(CreateServiceRequest&)> change;
    const char* want;
  };
  const auto image = [](CreateServiceRequest& each) -> ImageConfiguration& {
    return *each.source_configuration.image_repository->image_configuration;
  };
  for (const Case& c : {
           Case{"code without a repository",
                [](auto& each) {
                  each.source_configuration = {.code_repository = CodeRepository{}};
                },
                "repository URL"},
           Case{"code and an image",
                [](auto& each) { each.source_configuration.code_repository = CodeRepository{}; },
                "not both"},
           Case{"no source", [](auto& each) { each.source_configuration = {}; }, "ImageRepository"},
           Case{"a port of letters", [&](auto& each) { image(each).port = "http"; }, "port"},
           Case{"port 0", [&](auto& each) { image(each).port = "0"; }, "port"},
           Case{"port 65536", [&](auto& each) { image(each).port = "65536"; }, "port"},
           Case{"a reserved variable",
                [&](auto& each) {
                  image(each).runtime_environment_variables = {{{"AWSAPPRUNNER_X", ""}}};
                },
                "AWSAPPRUNNER"},
           Case{"a variable with =",
                [&](auto& each) {
                  image(each).runtime_environment_variables = {{{"A=B", ""}}};
                },
                "="},
           Case{"secrets",
                [&](auto& each) {
                  image(each).runtime_environment_secrets = {{{"A", "arn"}}};
                },
                "Secrets"},
           Case{"a broken start command",
                [&](auto& each) { image(each).start_command = "run 'it"; }, "quote"},
           Case{"an identifier",
                [](auto& each) {
                  each.source_configuration.image_repository->image_identifier = "UPPER/Case:1";
                },
                "UPPER"},
           Case{"automatic, elsewhere",
                [](auto& each) {
                  each.source_configuration.image_repository->image_identifier = "nginx:1";
                  each.source_configuration.auto_deployments_enabled = true;
                },
                "AutoDeploymentsEnabled"},
           Case{"a size",
                [](auto& each) {
                  each.instance_configuration = InstanceConfiguration{.cpu = "256"};
                },
                "512, 1024"},
           Case{"a CPU",
                [](auto& each) {
                  each.instance_configuration = InstanceConfiguration{.cpu = "300"};
                },
                "256"},
           Case{"a health path",
                [](auto& each) {
                  each.health_check_configuration = HealthCheckConfiguration{.path = "up"};
                },
                "path"},
           Case{"a VPC",
                [](auto& each) {
                  each.network_configuration = NetworkConfiguration{
                      .egress_configuration = EgressConfiguration{.egress_type = "VPC"}};
                },
                "VPC"},
           Case{"a key",
                [](auto& each) {
                  each.encryption_configuration = EncryptionConfiguration{.kms_key = "k"};
                },
                "Encryption"},
           Case{"an unknown scaling", [](auto& each) { each.auto_scaling_configuration_arn = "x"; },
                "The auto scaling configuration ARN you specified isn't valid. ARN: 'x'"},
           Case{"a doubled tag",
                [](auto& each) {
                  each.tags = {{{"a", "1"}, {"a", "2"}}};
                },
                "twice"},
           Case{"a reserved tag",
                [](auto& each) {
                  each.tags = {{{"aws:x", "1"}}};
                },
                "aws:"},
           Case{"a setting in another case",
                [](auto& each) {
                  each.tags = {{{"HOB:min-size", "0"}}};
                },
                "written in lower case, as hob:min-size"},
           Case{"a minimum over the maximum",
                [](auto& each) {
                  each.tags = {{{"hob:min-size", "26"}}};
                },
                "hob:min-size (26) can't be greater than MaxSize (25)"},
           Case{"a scheduled one",
                [](auto& each) {
                  each.tags = {{{"hob:min-size-schedule", "daily 08:00-09:00 26"}}};
                },
                "hob:min-size-schedule (26)"},
           Case{"a bad setting",
                [](auto& each) {
                  each.tags = {{{"hob:request-timeout", "soon"}}};
                },
                "soon"},
       }) {
    auto bad = request();
    c.change(bad);
    const auto result = run(api().create_service(bad, caller()));
    ASSERT_FALSE(result) << c.name;
    EXPECT_EQ(result.error().aws_code, "InvalidRequestException") << c.name;
    EXPECT_NE(result.error().message.find(c.want), std::string::npos)
        << c.name << ": " << result.error().message;
  }
  EXPECT_TRUE(run(api().list_services({}, caller()))->service_summary_list.empty());
}

TEST_F(ApiTest, ANameIsUsedOnceAndFreeAfterTheDelete) {
  runner_->start();
  const std::string arn = create_running(request());
  const auto again = run(api().create_service(request(), caller()));
  EXPECT_EQ(again.error().message, "Service with the provided name already exists: hello.");
  ASSERT_TRUE(run(api().delete_service({.service_arn = arn}, caller())));
  wait([&] { return cluster_service(id_of(arn))->status == cluster::ServiceStatus::kDraining; });
  commit({.remove = {cluster_path(id_of(arn))}});
  wait_status(arn, "DELETED");
  EXPECT_TRUE(describe(arn).deleted_at);
  EXPECT_TRUE(run(api().list_services({}, caller()))->service_summary_list.empty());
  EXPECT_NE(create(request()).service_arn, arn);
  EXPECT_EQ(run(api().delete_service({.service_arn = arn}, caller())).error().aws_code,
            "InvalidStateException");
  stop();
}

TEST_F(ApiTest, ACreateThatFailsSaysWhyAndCanBeRebuilt) {
  runner_->start();
  const auto service = create(request());
  const std::string arn = service.service_arn;
  wait([&] { return cluster_service(service.service_id).has_value(); });
  end_rollout(service.service_id, RolloutState::kFailed, "the container exited with 1");
  wait_status(arn, "CREATE_FAILED");
  const std::string deployment = log(arn, "deployment/" + *operations(arn).at(0).id);
  EXPECT_NE(deployment.find("the container exited with 1"), std::string::npos) << deployment;
  EXPECT_NE(deployment.find("the last words"), std::string::npos);
  EXPECT_NE(log(arn, "events").find("Service status is set to CREATE_FAILED."), std::string::npos);
  EXPECT_EQ(operations(arn).at(0).status, "FAILED");
  ASSERT_TRUE(run(api().update_service({.service_arn = arn}, caller())));
  wait([&] {
    return cluster_service(service.service_id)->deployments.at(0).rollout ==
           RolloutState::kInProgress;
  });
  EXPECT_EQ(cluster_service(service.service_id)->status, cluster::ServiceStatus::kActive);
  end_rollout(service.service_id, RolloutState::kCompleted);
  wait_status(arn, "RUNNING");
  stop();
}

TEST_F(ApiTest, AnImageThatIsNotThereFailsTheOperation) {
  runner_->start();
  auto missing = request();
  missing.source_configuration.image_repository->image_identifier = "127.0.0.1:4566/hello:none";
  const std::string arn = create(missing).service_arn;
  wait_status(arn, "CREATE_FAILED");
  const std::string lines = log(arn, "deployment/" + *operations(arn).at(0).id);
  EXPECT_NE(lines.find("there is no image 127.0.0.1:4566/hello:none"), std::string::npos) << lines;
  ASSERT_TRUE(run(api().delete_service({.service_arn = arn}, caller())));
  wait_status(arn, "DELETED");
  stop();
}

TEST_F(ApiTest, AFailedUpdateComesBackAsItWas) {
  runner_->start();
  const std::string arn = create_running(request());
  const auto before = describe(arn);
  UpdateServiceRequest update{.service_arn = arn,
                              .instance_configuration = InstanceConfiguration{.memory = "4 GB"}};
  const auto updated = run(api().update_service(update, caller()));
  ASSERT_TRUE(updated);
  EXPECT_EQ(updated->service.instance_configuration.memory, "4096");
  EXPECT_EQ(updated->service.instance_configuration.cpu, "1024");
  EXPECT_EQ(updated->service.status, "OPERATION_IN_PROGRESS");
  const auto second = run(api().update_service(update, caller()));
  EXPECT_EQ(second.error().message,
            "Service cannot be updated in the current state: OPERATION_IN_PROGRESS.");
  const auto deployed = run(api().start_deployment({.service_arn = arn}, caller()));
  EXPECT_EQ(deployed.error().aws_code, "InvalidRequestException");
  wait([&] { return cluster_service(id_of(arn))->deployments.size() == 2; });
  end_rollout(id_of(arn), RolloutState::kFailed, "never healthy");
  wait_status(arn, "RUNNING");
  EXPECT_EQ(describe(arn).instance_configuration, before.instance_configuration);
  const auto history = operations(arn);
  ASSERT_EQ(history.size(), 2u);
  EXPECT_EQ(history[0].type, "UPDATE_SERVICE");
  EXPECT_EQ(history[0].status, "ROLLBACK_SUCCEEDED");
  EXPECT_EQ(history[0].id, updated->operation_id);
  EXPECT_EQ(history[1].status, "SUCCEEDED");
  stop();
}

TEST_F(ApiTest, PausesAndResumesWhatRanLast) {
  runner_->start();
  const std::string arn = create_running(request());
  EXPECT_EQ(run(api().resume_service({.service_arn = arn}, caller())).error().aws_code,
            "InvalidStateException");
  cluster::Task task{.id = TaskId{std::string(32, 't')},
                     .account = kAccount,
                     .cluster = "apprunner",
                     .service = id_of(arn),
                     .status = cluster::TaskStatus::kRunning};
  const std::string task_path = cluster::task_key(kAccount, "apprunner", task.id.value);
  commit({.put = {{task_path, cluster::encode(task)}}});
  ASSERT_TRUE(run(api().pause_service({.service_arn = arn}, caller())));
  wait([&] { return cluster_service(id_of(arn))->desired_count == 0; });
  EXPECT_EQ(cluster_service(id_of(arn))->routing.state, link::RouteState::kPaused);
  loop_.run_for(20ms);
  EXPECT_EQ(describe(arn).status, "OPERATION_IN_PROGRESS");
  commit({.remove = {task_path}});
  wait_status(arn, "PAUSED");
  push(kDigestTwo);
  EXPECT_EQ(run(api().pause_service({.service_arn = arn}, caller())).error().message,
            "Service cannot be paused in the current state: PAUSED.");
  EXPECT_EQ(run(api().update_service({.service_arn = arn}, caller())).error().aws_code,
            "InvalidStateException");
  ASSERT_TRUE(run(api().resume_service({.service_arn = arn}, caller())));
  wait([&] { return cluster_service(id_of(arn))->desired_count == 1; });
  EXPECT_EQ(cluster_service(id_of(arn))->deployments.at(0).task.containers.at(0).image.reference,
            kDigestOne);
  end_rollout(id_of(arn), RolloutState::kCompleted);
  wait_status(arn, "RUNNING");
  loop_.run_for(20ms);
  EXPECT_EQ(operations(arn).size(), 3u);  // what was pushed meanwhile is not deployed
  stop();
}

TEST_F(ApiTest, APushedTagDeploysItselfOnce) {
  runner_->start();
  const std::string arn = create_running(request());
  push(kDigestOne);  // the same image again
  push(kDigestTwo, "other");
  loop_.run_for(20ms);
  EXPECT_EQ(operations(arn).size(), 1u);
  push(kDigestTwo);
  wait([&] { return operations(arn).size() == 2; });
  wait([&] { return cluster_service(id_of(arn))->deployments.size() == 2; });
  EXPECT_EQ(cluster_service(id_of(arn))->deployments.at(0).task.containers.at(0).image.reference,
            kDigestTwo);
  end_rollout(id_of(arn), RolloutState::kFailed, "broken");
  wait_status(arn, "RUNNING");
  loop_.run_for(20ms);
  EXPECT_EQ(operations(arn).size(), 2u);
  EXPECT_EQ(operations(arn).at(0).type, "START_DEPLOYMENT");
  EXPECT_EQ(operations(arn).at(0).status, "ROLLBACK_SUCCEEDED");
  push(kDigestOne);
  wait([&] { return operations(arn).size() == 3; });
  stop();
}

TEST_F(ApiTest, TheControllerGoesOnAfterARestart) {
  const auto service = create(request());
  close();
  open();
  runner_->start();
  wait([&] { return cluster_service(service.service_id).has_value(); });
  stop();
  close();
  open();
  end_rollout(service.service_id, RolloutState::kCompleted);
  runner_->start();
  wait_status(service.service_arn, "RUNNING");
  const std::string events = log(service.service_arn, "events");
  const std::string started = "Service creation started.";
  EXPECT_NE(events.find(started), std::string::npos);
  EXPECT_EQ(events.find(started, events.find(started) + 1), std::string::npos) << events;
  stop();
}

TEST_F(ApiTest, AnEarlierRevisionComesBackWithItsImageAndConfiguration) {
  runner_->start();
  const std::string arn = create_running(request());
  EXPECT_EQ(run(api().roll_back(arn, {}, caller())).error().aws_code, "ResourceNotFoundException");
  push(kDigestTwo);  // deploys itself
  wait([&] { return cluster_service(id_of(arn))->deployments.size() == 2; });
  end_rollout(id_of(arn), RolloutState::kCompleted);
  wait_status(arn, "RUNNING");
  CreateServiceRequest changed = request();
  changed.source_configuration.image_repository->image_configuration->port = "81";
  ASSERT_TRUE(run(api().update_service(
      {.service_arn = arn, .source_configuration = changed.source_configuration}, caller())));
  wait([&] { return cluster_service(id_of(arn))->deployments.size() == 2; });
  end_rollout(id_of(arn), RolloutState::kCompleted);
  wait_status(arn, "RUNNING");

  const auto serving = [&] {
    std::string numbers;
    for (const RevisionLine& line : run(api().list_revisions(arn, caller())).value())
      numbers += std::to_string(line.revision.number) + (line.serves ? "* " : " ");
    return numbers;
  };
  EXPECT_EQ(serving(), "1 2 3* ");
  EXPECT_EQ(run(api().roll_back(arn, 3, caller())).error().aws_code, "InvalidRequestException");
  EXPECT_EQ(run(api().roll_back(arn, 9, caller())).error().aws_code, "ResourceNotFoundException");
  const auto begun = run(api().roll_back(arn, 1, caller()));
  ASSERT_TRUE(begun) << begun.error().message;
  EXPECT_EQ(run(api().roll_back(arn, 2, caller())).error().aws_code, "InvalidStateException");
  wait([&] { return cluster_service(id_of(arn))->deployments.size() == 2; });
  EXPECT_EQ(cluster_service(id_of(arn))->deployments[0].task.containers[0].image.reference,
            kDigestOne);
  end_rollout(id_of(arn), RolloutState::kCompleted);
  wait_status(arn, "RUNNING");
  EXPECT_EQ(serving(), "1* 2 3 ");
  EXPECT_EQ(describe(arn).source_configuration.image_repository->image_configuration->port, "80");
  // What the tag names is known to have been tried: it is not deployed again by itself.
  loop_.restart();
  loop_.run_for(20ms);
  EXPECT_EQ(describe(arn).status, "RUNNING");
  EXPECT_EQ(cluster_service(id_of(arn))->deployments.size(), 1u);
  stop();
}

TEST_F(ApiTest, ARevisionComesBackWithItsSettings) {
  runner_->start();
  CreateServiceRequest first = request();
  first.tags = {{{"hob:idle-timeout", "5m"}, {"team", "web"}}};
  const std::string arn = create_running(std::move(first));
  const auto tags = [&] {
    std::string all;
    for (const Tag& tag : run(api().list_tags_for_resource({.resource_arn = arn}, caller()))
                              ->tags.value_or(std::vector<Tag>{}))
      all += tag.key.value() + "=" + tag.value.value() + " ";
    return all;
  };
  // Of the version that serves, as nothing is being deployed: it is its revision's, too.
  ASSERT_TRUE(run(api().tag_resource(
      {.resource_arn = arn, .tags = {{"hob:sticky", "1h"}, {"hob:min-size", "1"}}}, caller())));
  wait([&] {
    const auto lines = run(api().list_revisions(arn, caller()));
    return lines->at(0).revision.settings->sticky == Duration(3'600'000);
  });
  UpdateServiceRequest update{.service_arn = arn, .tags = {{{"hob:protocol", "http2"}}}};
  UpdateServiceRequest bad{.service_arn = arn, .tags = {{{"hob:protocol", "spdy"}}}};
  EXPECT_EQ(run(api().update_service(bad, caller())).error().aws_code, "InvalidRequestException");
  ASSERT_TRUE(run(api().update_service(update, caller())));
  wait([&] { return cluster_service(id_of(arn))->deployments.size() == 2; });
  EXPECT_EQ(cluster_service(id_of(arn))->deployments[1].settings->protocol,
            link::TargetProtocol::kHttp1);
  ASSERT_TRUE(run(api().cancel_operation(arn, caller())));
  wait_status(arn, "RUNNING");
  const std::string before = "hob:idle-timeout=5m hob:min-size=1 hob:sticky=1h team=web ";
  EXPECT_EQ(tags(), before) << "what was cancelled took its setting along";
  update.tags->push_back({"hob:sticky", "off"});
  ASSERT_TRUE(run(api().update_service(update, caller())));
  wait([&] { return cluster_service(id_of(arn))->deployments.size() == 3; });
  end_rollout(id_of(arn), RolloutState::kCompleted);
  wait_status(arn, "RUNNING");
  EXPECT_EQ(tags(),
            "hob:idle-timeout=5m hob:min-size=1 hob:protocol=http2 hob:sticky=off team=web ");
  ASSERT_TRUE(run(api().roll_back(arn, 1, caller())));
  EXPECT_EQ(tags(), before);
  stop();
}

TEST_F(ApiTest, ACancelledOperationLeavesWhatWasThere) {
  runner_->start();
  const auto service = create(request());
  wait([&] { return cluster_service(service.service_id).has_value(); });
  ASSERT_TRUE(run(api().cancel_operation(service.service_arn, caller())));
  wait_status(service.service_arn, "CREATE_FAILED");
  EXPECT_EQ(run(api().cancel_operation(service.service_arn, caller())).error().aws_code,
            "InvalidStateException");

  const std::string arn = create_running(request("other"));
  ASSERT_TRUE(run(api().start_deployment({.service_arn = arn}, caller())));
  wait([&] { return cluster_service(id_of(arn))->deployments.size() == 2; });
  ASSERT_TRUE(run(api().cancel_operation(arn, caller())));
  wait_status(arn, "RUNNING");
  EXPECT_EQ(operations(arn).at(0).status, "ROLLBACK_SUCCEEDED");
  EXPECT_EQ(cluster_service(id_of(arn))->deployments.at(0).rollout, RolloutState::kFailed);
  EXPECT_EQ(cluster_service(id_of(arn))->deployments.at(1).rollout, RolloutState::kCompleted);

  ASSERT_TRUE(run(api().delete_service({.service_arn = arn}, caller())));
  EXPECT_EQ(run(api().cancel_operation(arn, caller())).error().aws_code, "InvalidStateException");
  stop();
}

TEST_F(ApiTest, ADecisionThatLostARaceTakesNoLineFromTheNext) {
  runner_->start();
  const auto service = create(request());
  wait([&] { return cluster_service(service.service_id).has_value(); });
  // As it is about to write that the service runs, somebody says that the rollout failed.
  auto failed = cluster_service(service.service_id).value();
  failed.deployments.at(0).rollout = RolloutState::kFailed;
  failed.deployments.at(0).reason = "it was all a mistake";
  const std::string record = service_key(kAccount, service.service_id);
  const auto entry = run(store_->get(record)).value().value();
  Service tagged = decode_service(entry.value).value();
  tagged.tags["meddled"] = "yes";
  meddled_->meddling = {.put = {{cluster_path(service.service_id), cluster::encode(failed)},
                                {record, encode_over(tagged, entry.value)}}};
  meddled_->meddle_before = record;
  end_rollout(service.service_id, RolloutState::kCompleted);
  wait_status(service.service_arn, "CREATE_FAILED");
  const std::string events = log(service.service_arn, "events");
  EXPECT_NE(events.find("Service status is set to CREATE_FAILED."), std::string::npos) << events;
  const std::string operation = operations(service.service_arn).at(0).id.value_or("");
  const std::string told = log(service.service_arn, "deployment/" + operation);
  EXPECT_NE(told.find("it was all a mistake"), std::string::npos) << told;
  stop();
}

TEST_F(ApiTest, TagsAreSetAndChangeTheRouting) {
  runner_->start();
  const std::string arn = create_running(request());
  ASSERT_TRUE(run(
      api().tag_resource({.resource_arn = arn,
                          .tags = {{"team", "web"}, {"hob:request-timeout", "5m"}, {"empty", ""}}},
                         caller())));
  wait([&] { return cluster_service(id_of(arn))->routing.request_timeout == 5min; });
  EXPECT_EQ(run(api().list_tags_for_resource({.resource_arn = arn}, caller()))->tags->size(), 3u);
  ASSERT_TRUE(run(api().untag_resource(
      {.resource_arn = arn, .tag_keys = {"hob:request-timeout", "absent"}}, caller())));
  wait([&] { return cluster_service(id_of(arn))->routing.request_timeout == 120s; });
  EXPECT_FALSE(
      run(api().tag_resource({.resource_arn = arn, .tags = {{"hob:nonsense", "1"}}}, caller())));
  EXPECT_EQ(operations(arn).size(), 1u);
  stop();
}

TEST_F(ApiTest, AccountsDoNotSeeEachOther) {
  const std::string arn = create(request()).service_arn;
  const auto other = caller("000000000002");
  EXPECT_EQ(run(api().describe_service({.service_arn = arn}, other)).error().aws_code,
            "ResourceNotFoundException");
  std::string forged = arn;
  forged.replace(forged.find(kAccount), kAccount.size(), "000000000002");
  EXPECT_EQ(run(api().delete_service({.service_arn = forged}, other)).error().aws_code,
            "ResourceNotFoundException");
  EXPECT_TRUE(run(api().list_services({}, other))->service_summary_list.empty());
  EXPECT_EQ(run(api().describe_service({.service_arn = "nonsense"}, caller())).error().aws_code,
            "InvalidRequestException");
}

TEST_F(ApiTest, ListsComeInPages) {
  std::set<std::string> seen;
  for (int i = 0; i < 5; ++i) create(request("service" + std::to_string(i)));
  std::optional<std::string> token;
  int pages = 0;
  do {
    const auto page = run(api().list_services({.next_token = token, .max_results = 2}, caller()));
    ASSERT_TRUE(page);
    for (const auto& each : page->service_summary_list)
      EXPECT_TRUE(seen.insert(*each.service_name).second);
    token = page->next_token;
    ++pages;
  } while (token);
  EXPECT_EQ(seen.size(), 5u);
  EXPECT_EQ(pages, 3);
  EXPECT_EQ(run(api().list_services({}, caller()))->service_summary_list.size(), 5u);
  EXPECT_EQ(run(api().list_services({.next_token = "nonsense"}, caller())).error().aws_code,
            "InvalidRequestException");
}

TEST_F(ApiTest, ScalingConfigurationsAreRevisionsOfAName) {
  const auto make = [&](const std::string& name) {
    return run(api().create_auto_scaling_configuration(
                   {.auto_scaling_configuration_name = name, .max_concurrency = 50}, caller()))
        ->auto_scaling_configuration;
  };
  const auto one = make("busy");
  EXPECT_EQ(one.auto_scaling_configuration_revision, 1);
  EXPECT_EQ(one.status, "active");
  EXPECT_EQ(one.latest, true);
  EXPECT_EQ(one.max_size, 25);
  const auto two = make("busy");
  EXPECT_EQ(two.auto_scaling_configuration_revision, 2);
  const auto describe_one = [&](const std::string& arn) {
    return run(api().describe_auto_scaling_configuration({.auto_scaling_configuration_arn = arn},
                                                         caller()));
  };
  EXPECT_EQ(describe_one(*one.auto_scaling_configuration_arn)->auto_scaling_configuration.latest,
            false);
  const std::string partial =
      "arn:aws:apprunner:us-east-1:000000000001:autoscalingconfiguration/busy";
  EXPECT_EQ(describe_one(partial)->auto_scaling_configuration.auto_scaling_configuration_revision,
            2);
  EXPECT_EQ(describe_one(partial + "/1")->auto_scaling_configuration,
            describe_one(*one.auto_scaling_configuration_arn)->auto_scaling_configuration);
  EXPECT_EQ(describe_one(partial + "/3").error().aws_code, "ResourceNotFoundException");

  const auto list = [&](std::optional<bool> latest) {
    return run(api().list_auto_scaling_configurations({.latest_only = latest}, caller()))
        ->auto_scaling_configuration_summary_list.size();
  };
  EXPECT_EQ(list({}), 2u);  // with DefaultConfiguration
  EXPECT_EQ(list(false), 3u);

  auto with_scaling = request();
  with_scaling.auto_scaling_configuration_arn = partial;
  const auto service = create(with_scaling);
  EXPECT_EQ(service.auto_scaling_configuration_summary.auto_scaling_configuration_arn,
            two.auto_scaling_configuration_arn);
  const auto remove = [&](const std::string& arn, std::optional<bool> all = {}) {
    return run(api().delete_auto_scaling_configuration(
        {.auto_scaling_configuration_arn = arn, .delete_all_revisions = all}, caller()));
  };
  EXPECT_NE(remove(partial).error().message.find("It's used by one or more services"),
            std::string::npos);
  EXPECT_FALSE(remove(partial, true));
  EXPECT_EQ(describe_one(partial)->auto_scaling_configuration.has_associated_service, true);
  EXPECT_EQ(run(api().list_services_for_auto_scaling_configuration(
                    {.auto_scaling_configuration_arn = partial}, caller()))
                ->service_arn_list,
            std::vector<std::string>{service.service_arn});

  const auto removed = remove(*one.auto_scaling_configuration_arn);
  ASSERT_TRUE(removed);
  EXPECT_EQ(removed->auto_scaling_configuration.status, "inactive");
  EXPECT_EQ(describe_one(*one.auto_scaling_configuration_arn)->auto_scaling_configuration.status,
            "inactive");
  EXPECT_EQ(remove(*one.auto_scaling_configuration_arn).error().aws_code,
            "ResourceNotFoundException");
  EXPECT_EQ(make("lone").auto_scaling_configuration_revision, 1);
  ASSERT_TRUE(
      remove("arn:aws:apprunner:us-east-1:000000000001:autoscalingconfiguration/lone", true));
  EXPECT_EQ(make("lone").auto_scaling_configuration_revision, 1);
}

TEST_F(ApiTest, OneScalingConfigurationIsTheDefault) {
  const std::string first =
      "arn:aws:apprunner:us-east-1:000000000001:autoscalingconfiguration/DefaultConfiguration";
  EXPECT_NE(run(api().delete_auto_scaling_configuration({.auto_scaling_configuration_arn = first},
                                                        caller()))
                .error()
                .message.find("reserved"),
            std::string::npos);
  const auto mine = run(api().create_auto_scaling_configuration(
                            {.auto_scaling_configuration_name = "mine"}, caller()))
                        ->auto_scaling_configuration;
  const auto preset = run(api().update_default_auto_scaling_configuration(
      {.auto_scaling_configuration_arn = *mine.auto_scaling_configuration_arn}, caller()));
  EXPECT_EQ(preset->auto_scaling_configuration.is_default, true);
  EXPECT_EQ(run(api().describe_auto_scaling_configuration({.auto_scaling_configuration_arn = first},
                                                          caller()))
                ->auto_scaling_configuration.is_default,
            false);
  EXPECT_EQ(create(request()).auto_scaling_configuration_summary.auto_scaling_configuration_name,
            "mine");
  EXPECT_TRUE(run(api().delete_auto_scaling_configuration({.auto_scaling_configuration_arn = first},
                                                          caller())));
  const auto backwards = run(api().create_auto_scaling_configuration(
      {.auto_scaling_configuration_name = "backwards", .min_size = 5, .max_size = 2}, caller()));
  EXPECT_EQ(backwards.error().aws_code, "InvalidRequestException");
}

TEST_F(ApiTest, APauseDoesNotWaitForAHostThatIsAway) {
  runner_->start();
  const std::string arn = create_running(request());
  const HostId host{std::string(32, 'h')};
  cluster::Task task{.id = TaskId{std::string(32, 't')},
                     .account = kAccount,
                     .cluster = "apprunner",
                     .service = id_of(arn),
                     .host = host,
                     .desired = link::DesiredStatus::kStopped,
                     .status = cluster::TaskStatus::kRunning};
  commit({.put = {{cluster::task_key(kAccount, "apprunner", task.id.value), cluster::encode(task)},
                  {cluster::host_key(host.value),
                   cluster::encode(cluster::Host{.id = host, .connected = true})}}});
  ASSERT_TRUE(run(api().pause_service({.service_arn = arn}, caller())));
  wait([&] { return cluster_service(id_of(arn))->desired_count == 0; });
  loop_.run_for(20ms);
  EXPECT_EQ(describe(arn).status, "OPERATION_IN_PROGRESS");
  commit({.put = {{cluster::host_key(host.value),
                   cluster::encode(cluster::Host{.id = host, .connected = false})}}});
  wait_status(arn, "PAUSED");
  stop();
}

TEST_F(ApiTest, MicrovmsAreRefusedWhereNoHostCanRunThem) {
  CreateServiceRequest asks = request();
  asks.tags = std::vector<Tag>{{.key = "hob:isolation", .value = "microvm"}};
  const auto connect = [this](bool can) {
    const HostId host{std::string(32, 'h')};
    commit({.put = {{cluster::host_key(host.value),
                     cluster::encode(
                         cluster::Host{.id = host, .can_microvm = can, .connected = true})}}});
  };
  connect(false);
  const auto refused = run(api().create_service(asks, caller()));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().aws_code, "InvalidRequestException");
  EXPECT_NE(refused.error().message.find("no host that is connected can run them"),
            std::string::npos);
  const auto other = run(api().create_service(request(), caller()));
  ASSERT_TRUE(other);
  EXPECT_FALSE(run(api().tag_resource(
      {.resource_arn = other->service.service_arn, .tags = *asks.tags}, caller())));
  connect(true);
  EXPECT_TRUE(run(api().tag_resource(
      {.resource_arn = other->service.service_arn, .tags = *asks.tags}, caller())));
  connect(false);  // what was set before is no reason to refuse another tag
  EXPECT_TRUE(run(api().tag_resource(
      {.resource_arn = other->service.service_arn, .tags = {{.key = "team", .value = "web"}}},
      caller())));
}

TEST_F(ApiTest, OfManyCreatesOfOneNameOneSucceeds) {
  int made = 0;
  int refused = 0;
  AsyncScope clients(loop_.get_executor());
  for (int i = 0; i < 8; ++i) {
    clients.spawn("client", [this, &made, &refused]() -> Async<> {
      const auto created = co_await api().create_service(request(), caller());
      ++(created ? made : refused);
    });
  }
  wait([&] { return made + refused == 8; });
  EXPECT_EQ(made, 1);
  std::set<int> revisions;
  for (int i = 0; i < 8; ++i) {
    clients.spawn("client", [this, &revisions]() -> Async<> {
      const auto created = co_await api().create_auto_scaling_configuration(
          {.auto_scaling_configuration_name = "busy"}, caller());
      revisions.insert(
          created->auto_scaling_configuration.auto_scaling_configuration_revision.value());
    });
  }
  wait([&] { return revisions.size() == 8; });
  EXPECT_EQ(*revisions.rbegin(), 8);
  wait([&] { return clients.size() == 0; });
}

TEST_F(ApiTest, AConnectionIsCompletedByATokenThatIsKeptSealed) {
  const auto made = run(api().create_connection(
      {.connection_name = "code", .provider_type = "GITHUB", .tags = {{{"team", "web"}}}},
      caller()));
  ASSERT_TRUE(made) << made.error().message;
  const std::string arn = *made->connection.connection_arn;
  EXPECT_EQ(made->connection.status, "PENDING_HANDSHAKE");
  EXPECT_EQ(
      run(api().create_connection({.connection_name = "code", .provider_type = "GITHUB"}, caller()))
          .error()
          .aws_code,
      "InvalidRequestException");
  EXPECT_EQ(run(api().credential_of(arn, caller())).error().aws_code, "InvalidRequestException");

  const auto complete = [&](GivenCredential given, const std::string& name = "code") {
    return run(api().complete_connection(name, std::move(given), caller()));
  };
  const Secret<std::string> token("a-token-nobody-may-see");
  const Secret<std::string> key("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n");
  EXPECT_FALSE(complete({}));
  EXPECT_FALSE(complete({.token = token, .ssh_key = key}));
  EXPECT_FALSE(complete({.token = Secret<std::string>("two words")}));
  EXPECT_FALSE(complete({.ssh_key = Secret<std::string>("ssh-ed25519 AAAA me")}));
  EXPECT_FALSE(complete({.token = Secret<std::string>(std::string(20'000, 'x'))}));
  EXPECT_EQ(complete({.token = token}, "another").error().aws_code, "ResourceNotFoundException");
  ASSERT_TRUE(complete({.user = "bot", .token = token}));
  EXPECT_EQ(run(api().list_connections({.connection_name = "code"}, caller()))
                ->connection_summary_list.at(0)
                .status,
            "AVAILABLE");
  for (const store::Entry& entry : run(store_->list("/"))->entries)
    EXPECT_EQ(entry.value.find(token.reveal()), std::string::npos) << entry.key;
  close();
  open();
  const auto opened = run(api().credential_of(arn, caller()));
  ASSERT_TRUE(opened);
  EXPECT_EQ(opened->user, "bot");
  EXPECT_EQ(opened->token.reveal(), token.reveal());
  ASSERT_TRUE(complete({.ssh_key = key}));
  EXPECT_EQ(run(api().credential_of(arn, caller()))->ssh_key.reveal(), key.reveal());

  EXPECT_EQ(run(api().credential_of(arn, caller("000000000002"))).error().aws_code,
            "ResourceNotFoundException");
  EXPECT_EQ(run(api().list_tags_for_resource({.resource_arn = arn}, caller()))->tags->at(0).key,
            "team");
  ASSERT_TRUE(run(api().untag_resource({.resource_arn = arn, .tag_keys = {"team"}}, caller())));
  const auto deleted = run(api().delete_connection({.connection_arn = arn}, caller()));
  ASSERT_TRUE(deleted);
  EXPECT_EQ(deleted->connection->status, "DELETED");
  EXPECT_EQ(run(api().delete_connection({.connection_arn = arn}, caller())).error().aws_code,
            "ResourceNotFoundException");
  EXPECT_EQ(run(api().delete_connection({.connection_arn = "arn:x"}, caller())).error().aws_code,
            "InvalidRequestException");
}

TEST_F(ApiTest, ObservabilityConfigurationsAreRevisionsOfAName) {
  const auto make = [&](const std::string& name) {
    const auto made = run(api().create_observability_configuration(
        {.observability_configuration_name = name,
         .trace_configuration = TraceConfiguration{.vendor = "AWSXRAY"}},
        caller()));
    EXPECT_TRUE(made) << made.error().message;
    return made->observability_configuration;
  };
  const auto list = [&](bool latest_only) {
    std::string text;
    const auto answer =
        run(api().list_observability_configurations({.latest_only = latest_only}, caller()));
    for (const auto& each : answer->observability_configuration_summary_list) {
      text += fmt::format("{}:{} ", *each.observability_configuration_name,
                          *each.observability_configuration_revision);
    }
    return text;
  };
  EXPECT_EQ(list(true), "DefaultConfiguration:1 ");
  const auto first = make("traces");
  const auto second = make("traces");
  EXPECT_EQ(second.observability_configuration_revision, 2);
  EXPECT_EQ(second.latest, true);
  EXPECT_EQ(second.status, "ACTIVE");
  EXPECT_EQ(list(true), "DefaultConfiguration:1 traces:2 ");
  EXPECT_EQ(list(false), "DefaultConfiguration:1 traces:1 traces:2 ");
  const auto describe_configuration = [&](const std::string& arn) {
    return run(api().describe_observability_configuration({.observability_configuration_arn = arn},
                                                          caller()));
  };
  const std::string partial =
      "arn:aws:apprunner:us-east-1:000000000001:observabilityconfiguration/";
  EXPECT_EQ(describe_configuration(partial + "traces")
                ->observability_configuration.observability_configuration_revision,
            2);
  EXPECT_EQ(describe_configuration(partial + "nothing").error().aws_code,
            "ResourceNotFoundException");

  auto wanted = request();
  wanted.observability_configuration = ServiceObservabilityConfiguration{
      .observability_enabled = true, .observability_configuration_arn = partial + "traces"};
  const auto service = create(wanted);
  EXPECT_EQ(service.observability_configuration->observability_configuration_arn,
            second.observability_configuration_arn);
  const auto remove = [&](const std::optional<std::string>& arn) {
    return run(api().delete_observability_configuration({.observability_configuration_arn = *arn},
                                                        caller()));
  };
  EXPECT_EQ(remove(second.observability_configuration_arn).error().aws_code,
            "InvalidRequestException");
  EXPECT_EQ(remove(partial + "DefaultConfiguration").error().aws_code, "InvalidRequestException");
  const auto gone = remove(first.observability_configuration_arn);
  ASSERT_TRUE(gone);
  EXPECT_EQ(gone->observability_configuration.status, "INACTIVE");
  EXPECT_EQ(describe_configuration(*first.observability_configuration_arn)
                ->observability_configuration.status,
            "INACTIVE");
  EXPECT_EQ(list(false), "DefaultConfiguration:1 traces:2 ");
  wanted.service_name = "other";
  wanted.observability_configuration->observability_configuration_arn = partial + "nothing";
  EXPECT_EQ(run(api().create_service(wanted, caller())).error().aws_code,
            "InvalidRequestException");
  // The one that all have is a record once it is tagged.
  ASSERT_TRUE(run(api().tag_resource(
      {.resource_arn = partial + "DefaultConfiguration/1/00000000000000000000000000000001",
       .tags = {{"a", "b"}}},
      caller())));
  EXPECT_EQ(list(true), "DefaultConfiguration:1 traces:2 ");
}

TEST_F(ApiTest, OldOperationsAreForgotten) {
  runner_->start();
  const std::string arn = create_running(request());
  for (int i = 0; i < 110; ++i) {
    ASSERT_TRUE(run(api().update_service({.service_arn = arn}, caller())));
    wait_status(arn, "RUNNING");
  }
  EXPECT_EQ(operations(arn).size(), 100u);
  EXPECT_EQ(operations(arn).back().type, "UPDATE_SERVICE");
  stop();
}

}  // namespace
}  // namespace hob::runner
